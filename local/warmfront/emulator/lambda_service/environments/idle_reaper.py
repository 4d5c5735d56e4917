"""Stops execution environments that stay idle."""

import asyncio
from collections import deque
from typing import Protocol

FREEZE_AFTER_S = 0.01
"""An environment is stopped when it has been idle for so long: one that gets its next event at once needs no two signals for it."""


class Freezable(Protocol):
    invocations: int

    @property
    def idle(self) -> bool: ...

    def freeze(self) -> None: ...


class Freezer:
    """One timer for all environments, none while nothing is idle."""

    def __init__(self, delay_s: float = FREEZE_AFTER_S) -> None:
        self._delay_s = delay_s
        self._due: deque[tuple[float, Freezable, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, environment: Freezable) -> None:
        loop = asyncio.get_running_loop()
        self._due.append((loop.time() + self._delay_s, environment, environment.invocations))
        if self._timer is None:
            self._timer = loop.call_later(self._delay_s, self._freeze_due)

    def _freeze_due(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now_s = loop.time() + 0.001
        while self._due and self._due[0][0] <= now_s:
            _, environment, invocations = self._due.popleft()
            if environment.idle and environment.invocations == invocations:
                environment.freeze()
        if self._due:
            self._timer = loop.call_later(max(self._due[0][0] - loop.time(), 0.001), self._freeze_due)

    def close(self) -> None:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
