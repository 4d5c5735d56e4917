"""Progress of a run on standard error: one rewritten line on a terminal, elsewhere a line for each phase."""

import math
from typing import TextIO

from .budget import Budget, budget_of


class Progress:
    """One line on a terminal, rewritten; elsewhere a line per phase. Says how long is left where that is known."""

    def __init__(self, stream: TextIO, budget: Budget | None = None) -> None:
        self._stream = stream
        self._budget = budget or budget_of(None)
        self._clock = self._budget.clock
        self._began = self._phase_began = self._clock()
        self._live = stream.isatty()
        self._phase = ""

    def phase(self, text: str) -> None:
        self._phase = text
        self._phase_began = self._clock()
        self._write(text, new=True)

    def step(self, done: int, of: int, detail: str = "") -> None:
        """The `done`th of so many begins: what is left of the phase goes by how long those before it took."""
        if not self._live:
            return
        told = f"{self._phase}: {done} of {of}{f', {detail}' if detail else ''}"
        if 1 < done <= of:
            each_s = (self._clock() - self._phase_began) / (done - 1)
            told += f", {_minutes(each_s * (of - done + 1))} of it left"
        self._write(told, new=False)

    def end(self) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _write(self, text: str, *, new: bool) -> None:
        left = "" if math.isinf(self._budget.left_s) else f", about {_minutes(self._budget.left_s)} of its budget left"
        line = f"[{_minutes(self._clock() - self._began)}{left}] {text}"
        self._stream.write(f"\r\x1b[K{line[:110]}" if self._live else f"{line}\n" if new else "")
        self._stream.flush()


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
