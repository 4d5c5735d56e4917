"""Shares a run's time budget among its parts."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """A deadline that a run checks before each optional step. Running steps are not interrupted."""

    ends_s: float
    clock: Callable[[], float] = time.monotonic

    @property
    def left_s(self) -> float:
        return max(0.0, self.ends_s - self.clock())

    def has_time_left(self) -> bool:
        """Tell whether another optional step may start."""
        return self.left_s > 0

    def share(self, among: int, *, keep_s: float = 0.0) -> "Budget":
        """Return the budget of the next of `among` equal parts, after reserving `keep_s` seconds for what follows them."""
        return Budget(self.clock() + max(0.0, self.left_s - keep_s) / among, self.clock)


def budget_of(seconds: float | None, clock: Callable[[], float] = time.monotonic) -> Budget:
    """Return a budget of this many seconds from now; None: unlimited."""
    return Budget(math.inf if seconds is None else clock() + seconds, clock)
