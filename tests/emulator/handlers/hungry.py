"""Takes memory while it is imported."""

from typing import Any

held: list[Any] = []
while True:
    held.append(b"x" * (16 << 20))


def handler(event: Any, context: Any) -> Any: ...
