"""Imports what is not there."""

from typing import Any

import not_installed_anywhere  # type: ignore[import-not-found]


def handler(event: Any, context: Any) -> Any:
    return not_installed_anywhere
