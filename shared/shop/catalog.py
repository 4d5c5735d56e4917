"""Reads and changes products. Each function takes the connection it works on."""

from msgspec import UNSET

from shared.kit.pool import Connection
from shared.kit.postgres_connect import as_array
from shared.kit.problems import NotFound, VersionMismatch
from shared.kit.requests import etag
from shared.shop.contract import Product, ProductChange
from shared.shop.sql import statement

BY_ID = statement("product_by_id")
PAGE = statement("product_page")
VERSIONS = statement("product_versions")
CHANGE = statement("product_change")


async def product(connection: Connection, product_id: int) -> Product:
    row = await connection.fetchrow(BY_ID, product_id)
    if row is None:
        raise NotFound(f"There is no product {product_id}.")
    return Product(*row)


async def page(connection: Connection, after_id: int, limit: int) -> tuple[list[Product], bool]:
    """The next `limit` products by id, and whether there are more. Costs the same at any depth."""
    rows = await connection.fetch(PAGE, after_id, limit + 1)
    return [Product(*row) for row in rows[:limit]], len(rows) > limit


async def versions(connection: Connection, product_ids: list[int]) -> dict[int, int]:
    """The versions of those that exist, by id."""
    return dict(await connection.fetch(VERSIONS, as_array(product_ids)))


async def change(connection: Connection, product_id: int, expected: list[int] | None, change: ProductChange) -> Product:
    """Applies the change if the product still has one of the expected versions (None: any), in one statement."""
    fields = (change.name, change.description, change.price_cents, change.stock)
    versions = None if expected is None else as_array(expected)
    row = await connection.fetchrow(CHANGE, product_id, versions, *(None if f is UNSET else f for f in fields))
    if row is not None:
        return Product(*row)
    current = await product(connection, product_id)
    raise VersionMismatch(
        f"Product {product_id} is at version {current.version} by now.",
        version=current.version,
        headers={"etag": etag(current.version)},
    )
