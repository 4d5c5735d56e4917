"""A handler three folders down, with an import of a sibling."""

from typing import Any

from nested.deep.sibling import WORD  # type: ignore[import-not-found]


def handler(event: Any, context: Any) -> Any:
    return WORD
