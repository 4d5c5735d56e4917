"""Invocations for each function: they go as far as its database, and often enough that its circuit opens."""

from typing import Any


def _get(path: str, variant: str) -> dict[str, Any]:
    route_key = f"GET /{variant}/products/{{id}}"
    return {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"accept": "application/json"},
        "pathParameters": {"id": "1"},
        "requestContext": {"http": {"method": "GET", "path": path}, "requestId": "1", "routeKey": route_key},
        "isBase64Encoded": False,
    }


EVENTS: dict[str, list[dict[str, Any]]] = {
    "Naive": [_get("/naive/products/1", "naive")],
    "Pooled": [_get("/pooled/products/1", "pooled")] * 8,
    "Distributed": [_get("/distributed/products/1", "distributed")] * 8,
    "Migrate": [{"action": "apply", "databases": ["pooled"]}],
    "Relay": [{}],
}
