"""Raises while it is imported."""

from typing import Any

raise ValueError("not today")


def handler(event: Any, context: Any) -> None: ...
