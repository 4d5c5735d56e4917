"""The products: SQL in, typed rows out. The connection is an argument; knows no pool, no HTTP and no time-out."""

from msgspec import UNSET

from shared.kit.postgres import Connection, as_array
from shared.kit.problems import NotFound, VersionMismatch
from shared.shop.contract import Product, ProductChange, etag

_COLUMNS = "id, name, description, price_cents, stock, version"
_BY_ID = f"SELECT {_COLUMNS} FROM products WHERE id = $1"
_PAGE = f"SELECT {_COLUMNS} FROM products WHERE id > $1 ORDER BY id LIMIT $2"
_VERSIONS = "SELECT id, version FROM products WHERE id = ANY ($1::text[]::bigint[])"
_CHANGE = f"""
    UPDATE products
       SET name = coalesce($3, name), description = coalesce($4, description),
           price_cents = coalesce($5, price_cents), stock = coalesce($6, stock),
           version = version + 1, updated_at = now()
     WHERE id = $1 AND ($2::text[] IS NULL OR version = ANY ($2::text[]::int[]))
    RETURNING {_COLUMNS}"""


async def product(connection: Connection, product_id: int) -> Product:
    row = await connection.fetchrow(_BY_ID, product_id)
    if row is None:
        raise NotFound(f"There is no product {product_id}.")
    return Product(*row)


async def page(connection: Connection, after_id: int, limit: int) -> tuple[list[Product], bool]:
    """The next `limit` products by id, and whether there are more. Costs the same at any depth."""
    rows = await connection.fetch(_PAGE, after_id, limit + 1)
    return [Product(*row) for row in rows[:limit]], len(rows) > limit


async def versions(connection: Connection, product_ids: list[int]) -> dict[int, int]:
    return dict(await connection.fetch(_VERSIONS, as_array(product_ids)))


async def change(connection: Connection, product_id: int, expected: list[int] | None, change: ProductChange) -> Product:
    """Applies the change if the product still has one of the expected versions (None: any), in one statement."""
    fields = (change.name, change.description, change.price_cents, change.stock)
    versions = None if expected is None else as_array(expected)
    row = await connection.fetchrow(_CHANGE, product_id, versions, *(None if f is UNSET else f for f in fields))
    if row is not None:
        return Product(*row)
    current = await product(connection, product_id)
    raise VersionMismatch(
        f"Product {product_id} is at version {current.version} by now.",
        version=current.version,
        headers={"etag": etag(current.version)},
    )
