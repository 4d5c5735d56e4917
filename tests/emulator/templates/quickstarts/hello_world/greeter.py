"""Uses what its layer brings."""

from typing import Any

from greeting import greet  # type: ignore[import-not-found]


def handler(event: Any, context: Any) -> Any:
    return greet(event["name"])
