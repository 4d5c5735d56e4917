"""Monotonic time that keeps counting while an execution environment is frozen."""

import time
from collections.abc import Callable


class FreezeSafeClock:
    """Monotonic seconds that do not lose a freeze: where only the wall clock went on, takes the wall's.

    SIGSTOP does not stop CLOCK_MONOTONIC, a paused virtual machine may. Small differences are clock discipline, and a
    wall clock that is set back is no news: only a jump ahead counts, once.
    """

    JUMP_MIN_S = 0.5

    __slots__ = ("_ahead_s", "_monotonic", "_skipped_s", "_wall")

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._ahead_s = wall() - monotonic()
        self._skipped_s = 0.0

    def __call__(self) -> float:
        now_s = self._monotonic()
        jump_s = self._wall() - now_s - self._ahead_s
        if jump_s > self.JUMP_MIN_S:
            self._skipped_s += jump_s
            self._ahead_s += jump_s
        elif jump_s < -self.JUMP_MIN_S:
            self._ahead_s += jump_s
        return now_s + self._skipped_s
