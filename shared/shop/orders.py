"""The orders: SQL in, the contract's JSON out. The connection is an argument; knows no pool, no HTTP, no time-out."""

from asyncpg import CheckViolationError, NotNullViolationError
from msgspec.json import Decoder

from shared.kit import idempotency, outbox
from shared.kit.idempotency import Answer, Claim
from shared.kit.postgres import Connection, as_array
from shared.kit.problems import Invalid, NotFound, at
from shared.shop import catalog
from shared.shop.contract import NewOrder
from shared.shop.problems import OutOfStock

_versions = Decoder(dict[int, int]).decode


def _document(order: str, lines: str) -> str:
    """SQL for contract.Order: Postgres writes the JSON, for parsing rows only to write them again costs the most."""
    return f"""json_build_object(
        'id', {order}.id, 'customer_id', {order}.customer_id, 'status', {order}.status,
        'total_cents', {order}.total_cents, 'created_at', {order}.created_at, 'lines', coalesce((
            SELECT json_agg(json_build_object('line_no', line_no, 'product_id', product_id, 'name', name,
                                              'quantity', quantity, 'unit_price_cents', unit_price_cents)
                            ORDER BY line_no) FROM {lines}), '[]'))::text"""


_LINES_OF = """(
    SELECT l.line_no, l.product_id, p.name, l.quantity, l.unit_price_cents
      FROM order_lines l JOIN products p ON p.id = l.product_id WHERE l.order_id = o.id) AS lines_of"""
_BY_ID = f"SELECT {_document('o', _LINES_OF)} FROM orders o WHERE o.id = $1"

# One statement: stock, order, lines and answer, or nothing of it. What must not happen is a constraint's to forbid:
# stock below zero is a check violation, a line without a product has no price. Rows are locked in the order of their
# ids (LockRows runs above the sort), so that two orders for the same products wait for each other and do not deadlock;
# the update then computes from the newest version of each row, not from the snapshot's.
_EFFECT = f"""
    wanted AS MATERIALIZED (
        SELECT w.product_id, w.quantity, w.line_no
          FROM gate, unnest($6::text[]::bigint[], $7::text[]::int[]) WITH ORDINALITY AS w (product_id, quantity, line_no)
         WHERE gate.state = 'open'
    ), held AS MATERIALIZED (
        SELECT p.id FROM products p WHERE p.id IN (SELECT product_id FROM wanted) ORDER BY p.id FOR NO KEY UPDATE
    ), taken AS (
        UPDATE products p SET stock = p.stock - w.quantity, version = p.version + 1, updated_at = now()
          FROM held h JOIN wanted w ON w.product_id = h.id
         WHERE p.id = h.id
        RETURNING p.id AS product_id, p.name, p.price_cents AS unit_price_cents, p.version, w.quantity, w.line_no
    ), placed AS (
        INSERT INTO orders (customer_id, status, total_cents)
        SELECT $5::bigint, 'placed', sum(unit_price_cents * quantity)::bigint FROM taken HAVING count(*) > 0
        RETURNING id, customer_id, status, total_cents, created_at
    ), lines AS (
        INSERT INTO order_lines (order_id, line_no, product_id, quantity, unit_price_cents)
        SELECT placed.id, w.line_no, w.product_id, w.quantity, t.unit_price_cents
          FROM placed, wanted w LEFT JOIN taken t USING (line_no)
    ), answer AS (
        SELECT 201 AS status, placed.id::text AS resource, {_document("placed", "taken")} AS body
          FROM placed
    )"""
_PLACE = idempotency.once(_EFFECT)
# The same, its event in the same transaction, and the new versions for whoever keeps copies of the products.
_PLACE_AND_TELL = idempotency.once(
    f"{_EFFECT}, {outbox.event('order.placed', of='answer')}",
    aside="(SELECT json_object_agg(product_id, version)::text FROM taken)",
)


async def order(connection: Connection, order_id: int) -> str:
    """As JSON, a contract.Order."""
    document: str | None = await connection.fetchval(_BY_ID, order_id)
    if document is None:
        raise NotFound(f"There is no order {order_id}.")
    return document


async def place(connection: Connection, claim: Claim, order: NewOrder) -> Answer:
    return await _place(connection, _PLACE, claim, order)


async def place_and_tell(connection: Connection, claim: Claim, order: NewOrder) -> tuple[Answer, dict[int, int]]:
    """With its event in the outbox. Also the version of each product that was ordered, as of now or newer than then."""
    answer = await _place(connection, _PLACE_AND_TELL, claim, order)
    if answer.aside is not None:
        return answer, _versions(answer.aside)
    # A replay: whoever did it may not have lived to tell anybody.
    return answer, await catalog.versions(connection, [line.product_id for line in order.lines])


async def _place(connection: Connection, statement: str, claim: Claim, order: NewOrder) -> Answer:
    products = [line.product_id for line in order.lines]
    quantities = as_array(line.quantity for line in order.lines)
    try:
        answer = await idempotency.run(connection, statement, claim, order.customer_id, as_array(products), quantities)
    except CheckViolationError:
        raise await _out_of_stock(connection, order) from None
    except NotNullViolationError:
        answer = None
    if answer is None:
        raise await _unknown_products(connection, products)
    return answer


async def _out_of_stock(connection: Connection, order: NewOrder) -> OutOfStock:
    """Which lines, as of now. By now there may be enough again: then none is named, and a retry will do."""
    rows = await connection.fetch(
        "SELECT id, stock FROM products WHERE id = ANY ($1::text[]::bigint[])",
        as_array(line.product_id for line in order.lines),
    )
    stock = dict(rows)
    errors = [
        at(f"/lines/{index}/quantity", f"{stock[line.product_id]} in stock.")
        for index, line in enumerate(order.lines)
        if line.quantity > stock.get(line.product_id, 0)
    ]
    return OutOfStock("There is not enough of what was ordered; nothing was taken.", errors=errors)


async def _unknown_products(connection: Connection, products: list[int]) -> Invalid:
    known = await catalog.versions(connection, products)
    return Invalid(
        *(
            at(f"/lines/{index}/product_id", f"There is no product {product_id}.")
            for index, product_id in enumerate(products)
            if product_id not in known
        )
    )
