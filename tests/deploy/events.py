"""Events for each function, as API Gateway, the schedule and a person send them."""

import json
import uuid
from typing import Any

PRODUCTS = 50
VARIANTS = ("Naive", "Pooled", "Distributed")


def _http(method: str, route: str, path: str, body: Any = None) -> dict[str, Any]:
    return {
        "version": "2.0",
        "routeKey": f"{method} {route}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "accept": "application/json",
            "content-type": "application/json",
            "idempotency-key": str(uuid.uuid4()),
        },
        "requestContext": {
            "authorizer": {"jwt": {"claims": {"sub": "somebody"}, "scopes": None}},
            "http": {"method": method, "path": path},
            "requestId": "1",
            "routeKey": f"{method} {route}",
        },
        **({"pathParameters": {"id": path.rpartition("/")[2]}} if "{id}" in route else {}),
        **({} if body is None else {"body": json.dumps(body)}),
        "isBase64Encoded": False,
    }


def product(variant: str) -> dict[str, Any]:
    return _http("GET", f"/{variant}/products/{{id}}", f"/{variant}/products/1")


def order(variant: str) -> dict[str, Any]:
    body = {"customer_id": 1, "lines": [{"product_id": 2, "quantity": 1}]}
    return _http("POST", f"/{variant}/orders", f"/{variant}/orders", body)


# With nothing behind them, and often enough that a circuit opens.
ALONE: dict[str, list[dict[str, Any]]] = {
    **{name: [product(name.lower())] * 8 for name in VARIANTS},
    "Migrate": [{"action": "apply", "databases": ["pooled"]}],
    "Relay": [{}],
}

# With a database, a cache and a queue; in this order, because each finds what the one before left.
TOGETHER: dict[str, list[dict[str, Any]]] = {
    "Migrate": [{"action": "seed", "databases": [*map(str.lower, VARIANTS)], "products": PRODUCTS, "orders": PRODUCTS}],
    **{name: [product(name.lower()), product(name.lower()), order(name.lower())] for name in VARIANTS},
    "Relay": [{}],
}
