"""Prints styled lines: with colours on a terminal, as plain text elsewhere or where NO_COLOR is set."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from warmfront.report.colour import wants_colour

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from rich.text import Text


def print_lines(lines: Sequence[Text], stream: TextIO | None = None) -> None:
    """Print lines unwrapped, on standard output by default.

    Args:
        lines: the lines with their styles. Plain output is exactly their text.
        stream: where to print.
    """
    stream = stream or sys.stdout
    if not wants_colour(stream):
        print("\n".join(line.plain for line in lines), file=stream, flush=True)
        return
    from rich.console import Console  # only for a terminal: its import takes as long as a small handler's

    console = Console(file=stream, force_terminal=True, highlight=False)
    for line in lines:
        console.print(line, soft_wrap=True)
    stream.flush()
