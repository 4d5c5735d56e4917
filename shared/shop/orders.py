"""Reads and places orders. Each function takes the connection it works on."""

from asyncpg import CheckViolationError, NotNullViolationError
from msgspec.json import Decoder

from shared.kit import idempotency
from shared.kit.idempotency import Answer, Claim
from shared.kit.pool import Connection
from shared.kit.postgres_connect import as_array
from shared.kit.problems import Invalid, NotFound, at
from shared.shop import catalog
from shared.shop.contract import NewOrder
from shared.shop.problems import OutOfStock
from shared.shop.sql import statement

BY_ID = statement("order_by_id")
PLACE = statement("order_place")
PLACE_WITH_EVENT = statement("order_place_with_event")
STOCK = statement("product_stock")
KEEP_ANSWERS_H = 24

_versions = Decoder(dict[int, int]).decode


async def order(connection: Connection, order_id: int, subject: str) -> str:
    """The subject's order as JSON, a contract.Order. Raises NotFound, also if it is another's."""
    document: str | None = await connection.fetchval(BY_ID, order_id, subject)
    if document is None:
        raise NotFound(f"There is no order {order_id}.")
    return document


async def place(connection: Connection, claim: Claim, subject: str, order: NewOrder) -> Answer:
    """Places the subject's order, or finds what was answered when it was placed before. Raises OutOfStock and Invalid."""
    return await _place(connection, PLACE, claim, subject, order)


async def place_with_event(
    connection: Connection, claim: Claim, subject: str, order: NewOrder
) -> tuple[Answer, dict[int, int]]:
    """Places it with an event in the outbox. Also returns the version of each ordered product, as of then or newer."""
    answer = await _place(connection, PLACE_WITH_EVENT, claim, subject, order)
    if answer.note is not None:
        return answer, _versions(answer.note)
    # It was placed before, by an environment that may have died before it invalidated any copy.
    return answer, await catalog.versions(connection, [line.product_id for line in order.lines])


async def _place(connection: Connection, statement: str, claim: Claim, subject: str, order: NewOrder) -> Answer:
    products = as_array(line.product_id for line in order.lines)
    quantities = as_array(line.quantity for line in order.lines)
    try:
        answer = await idempotency.run(connection, statement, claim, subject, order.customer_id, products, quantities)
    except (CheckViolationError, NotNullViolationError):
        answer = None
    if answer is None:
        raise await _refusal(connection, order)
    return answer


async def _refusal(connection: Connection, order: NewOrder) -> Invalid | OutOfStock:
    """Why nothing was placed, as of now. By now there may be enough again: then no line is named, and a retry will do."""
    rows = await connection.fetch(STOCK, as_array(line.product_id for line in order.lines))
    stock: dict[int, int] = dict(rows)
    unknown = [
        at(f"/lines/{index}/product_id", f"There is no product {line.product_id}.")
        for index, line in enumerate(order.lines)
        if line.product_id not in stock
    ]
    if unknown:
        return Invalid(*unknown)
    errors = [
        at(f"/lines/{index}/quantity", f"{stock[line.product_id]} in stock.")
        for index, line in enumerate(order.lines)
        if line.quantity > stock[line.product_id]
    ]
    return OutOfStock("There is not enough of what was ordered; nothing was taken.", errors=errors)
