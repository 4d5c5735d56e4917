"""Progress of a run on standard error: a bar on a terminal, elsewhere a line for each phase."""

import math
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from .budget import Budget, budget_of


class Progress:
    """Shows the phase, how far it is, and how long is left where that is known.

    On a terminal the bar is drawn only when a step begins: a thread that redraws it would use CPU in timed blocks.
    """

    def __init__(self, stream: TextIO, budget: Budget | None = None) -> None:
        self._stream = stream
        self._budget = budget or budget_of(None)
        self._clock = self._budget.clock
        self._began = self._phase_began = self._clock()
        self._bars = _bars(stream) if stream.isatty() else None
        self._task: TaskID | None = None
        self._phase = ""

    def phase(self, text: str) -> None:
        """A phase begins; `text` names it."""
        self._phase = text
        self._phase_began = self._clock()
        if self._bars is None:
            self._stream.write(f"{self._stamp()} {text}\n")
            self._stream.flush()
            return
        self._bars.start()
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(f"{self._stamp()} {text}", total=None, left="")
        self._bars.refresh()

    def step(self, done: int, of: int, detail: str = "") -> None:
        """Step number `done` of `of` begins: what is left of the phase follows from how long the steps before it took."""
        if self._bars is None or self._task is None:
            return
        left = ""
        if 1 < done <= of:
            each_s = (self._clock() - self._phase_began) / (done - 1)
            left = f"{_minutes(each_s * (of - done + 1))} left"
        text = f"{self._stamp()} {self._phase}{f', {detail}' if detail else ''}"
        self._bars.update(self._task, description=text, completed=done, total=of, left=left)
        self._bars.refresh()

    def end(self) -> None:
        """The run is over: the bar disappears."""
        if self._bars is not None:
            self._bars.stop()

    def _stamp(self) -> str:
        left = "" if math.isinf(self._budget.left_s) else f", {_minutes(self._budget.left_s)} of its budget left"
        return f"({_minutes(self._clock() - self._began)}{left})"


def _bars(stream: TextIO) -> Bars:
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    return Bars(*columns, console=Console(file=stream), auto_refresh=False, transient=True)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
