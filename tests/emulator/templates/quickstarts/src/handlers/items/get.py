"""A handler three folders down, as people lay out an API of several functions."""

from typing import Any

from src.handlers.items.store import ITEMS  # type: ignore[import-not-found]


def handler(event: Any, context: Any) -> Any:
    return {
        "id": event["pathParameters"]["id"],
        "item": ITEMS.get(event["pathParameters"]["id"]),
        "route": event["routeKey"],
    }
