"""A reusable timer: calls a function when one use of something has taken too long."""

import asyncio
import math
from collections.abc import Callable


class Bound:
    """Calls `end` once when a use has taken too long. One use at a time; belongs to one event loop.

    A timer for each use would be created, sorted in, cancelled and removed, for a twentieth of the CPU of a warm
    invocation, and hardly one ever fires. This one stays: when it fires, it ends the use whose time is over, or is set
    again for a use that has time left.
    """

    __slots__ = ("_due_s", "_end", "_ends_s", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
        self._loop = loop
        self._end = end
        self._ends_s = math.inf  # no use
        self._due_s = math.inf  # no timer
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, within_s: float) -> None:
        self._ends_s = ends_s = self._loop.time() + within_s
        if ends_s < self._due_s:
            self._set(ends_s)

    def finish(self) -> None:
        self._ends_s = math.inf

    def close(self) -> None:
        """Nothing is left on the loop."""
        self._due_s = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_s = due_s
        self._timer = self._loop.call_at(due_s, self._look)

    def _look(self) -> None:
        ends_s, due_s = self._ends_s, self._due_s
        self._timer, self._due_s = None, math.inf
        if ends_s <= due_s:
            self._end()
        elif ends_s < math.inf:
            self._set(ends_s)
