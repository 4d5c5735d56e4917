"""Decides whether a stream gets colours."""

import os
from typing import TextIO


def wants_colour(stream: TextIO) -> bool:
    """Return whether to use colours: on a terminal that has them, unless NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
