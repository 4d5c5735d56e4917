"""The shop as it is written in a hurry: correct for one user at a time, and every invocation starts from nothing."""

import asyncio
import json as stdlib_json
import os
from typing import Any

import asyncpg

from shared.kit import tls
from shared.kit.endpoint import Request, Response, endpoint
from shared.kit.problems import NotFound

PAGE = 20
TLS = tls.context(os.environ.get("SHOP_DB_SSL", "disable"), os.environ.get("SHOP_DB_CA_FILE"))


def json(status: int, value: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(status, stdlib_json.dumps(value), headers or {})


async def connect() -> Any:
    return await asyncpg.connect(os.environ["DATABASE_URL"], ssl=TLS or "disable")


def product_of(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "name", "description", "price_cents", "stock", "version")}


async def get_product(request: Request) -> Response:
    connection = await connect()
    try:
        row = await connection.fetchrow("SELECT * FROM products WHERE id = $1", int(request.parameters["id"]))
    finally:
        await connection.close()
    if row is None:
        raise NotFound(f"There is no product {request.parameters['id']}.")
    return json(200, product_of(row))


async def list_products(request: Request) -> Response:
    limit = int(request.query.get("limit", PAGE))
    offset = int(request.query.get("cursor", 0))
    connection = await connect()
    try:
        rows = await connection.fetch("SELECT * FROM products ORDER BY id LIMIT $1 OFFSET $2", limit, offset)
    finally:
        await connection.close()
    following = str(offset + limit) if len(rows) == limit else None
    return json(200, {"items": [product_of(row) for row in rows], "next_cursor": following})


def order_of(row: Any, lines: list[dict[str, Any]]) -> dict[str, Any]:
    order = {name: row[name] for name in ("id", "customer_id", "status", "total_cents")}
    return {**order, "created_at": row["created_at"].isoformat(), "lines": lines}


def line_of(row: Any, product: Any) -> dict[str, Any]:
    line = {name: row[name] for name in ("line_no", "product_id", "quantity", "unit_price_cents")}
    return {**line, "name": product["name"]}


async def get_order(request: Request) -> Response:
    connection = await connect()
    try:
        order = await connection.fetchrow(
            "SELECT * FROM orders WHERE id = $1 AND subject = $2", int(request.parameters["id"]), request.subject
        )
        if order is None:
            raise NotFound(f"There is no order {request.parameters['id']}.")
        lines = []
        rows = await connection.fetch("SELECT * FROM order_lines WHERE order_id = $1 ORDER BY line_no", order["id"])
        for row in rows:
            product = await connection.fetchrow("SELECT * FROM products WHERE id = $1", row["product_id"])
            lines.append(line_of(row, product))
    finally:
        await connection.close()
    return json(200, order_of(order, lines))


async def place_order(request: Request) -> Response:
    body = stdlib_json.loads(request.body)
    connection = await connect()
    try:
        order = await connection.fetchrow(
            "INSERT INTO orders (subject, customer_id, status, total_cents) VALUES ($1, $2, 'placed', 0) RETURNING *",
            *(request.subject, body["customer_id"]),
        )
        lines, total_cents = [], 0
        for line_no, line in enumerate(body["lines"], start=1):
            product = await connection.fetchrow("SELECT * FROM products WHERE id = $1", line["product_id"])
            row = await connection.fetchrow(
                "INSERT INTO order_lines (order_id, line_no, product_id, quantity, unit_price_cents) "
                "VALUES ($1, $2, $3, $4, $5) RETURNING *",
                *(order["id"], line_no, product["id"], line["quantity"], product["price_cents"]),
            )
            await connection.execute(
                "UPDATE products SET stock = $1, version = $2, updated_at = now() WHERE id = $3",
                *(product["stock"] - line["quantity"], product["version"] + 1, product["id"]),
            )
            lines.append(line_of(row, product))
            total_cents += product["price_cents"] * line["quantity"]
        await connection.execute("UPDATE orders SET total_cents = $1 WHERE id = $2", total_cents, order["id"])
    finally:
        await connection.close()
    placed = {**order_of(order, lines), "total_cents": total_cents}
    return json(201, placed, {"location": f"{request.path}/{order['id']}"})


async def update_product(request: Request) -> Response:
    request.require_scope("products/write")
    change = stdlib_json.loads(request.body)
    connection = await connect()
    try:
        row = await connection.fetchrow("SELECT * FROM products WHERE id = $1", int(request.parameters["id"]))
        if row is None:
            raise NotFound(f"There is no product {request.parameters['id']}.")
        product = {**product_of(row), **change, "version": row["version"] + 1}
        await connection.execute(
            "UPDATE products SET name = $1, description = $2, price_cents = $3, stock = $4, version = $5, "
            "updated_at = now() WHERE id = $6",
            *(product[name] for name in ("name", "description", "price_cents", "stock", "version", "id")),
        )
    finally:
        await connection.close()
    return json(200, product)


handler = endpoint(
    {
        "GET /naive/products/{id}": get_product,
        "GET /naive/products": list_products,
        "GET /naive/orders/{id}": get_order,
        "POST /naive/orders": place_order,
        "PATCH /naive/products/{id}": update_product,
    },
    run=asyncio.run,
    local_identity="local" if os.environ.get("SHOP_STAGE", "local") == "local" else None,
)
