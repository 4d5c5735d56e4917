"""Shows a run's progress on standard error: a bar on a terminal, otherwise one line for each phase."""

import math
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from .budget import Budget, budget_of


class Progress:
    """Shows the current phase, its progress, and an estimate of the time left.

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
        """Start a phase named `text`."""
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

    def step(self, number: int, total: int, detail: str = "") -> None:
        """Start step `number` of `total`; the time left is estimated from the steps before it."""
        if self._bars is None or self._task is None:
            return
        left = ""
        if 1 < number <= total:
            each_s = (self._clock() - self._phase_began) / (number - 1)
            left = f"{_minutes(each_s * (total - number + 1))} left"
        text = f"{self._stamp()} {self._phase}{f', {detail}' if detail else ''}"
        self._bars.update(self._task, description=text, completed=number, total=total, left=left)
        self._bars.refresh()

    def end(self) -> None:
        """Remove the bar at the end of the run."""
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
