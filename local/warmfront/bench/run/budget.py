"""Shares a run's time budget among its parts."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Ends at a moment of its clock. Whoever holds it looks before each further step; nothing is cut short."""

    ends_s: float
    clock: Callable[[], float] = time.monotonic

    @property
    def left_s(self) -> float:
        return max(0.0, self.ends_s - self.clock())

    def spare(self) -> bool:
        return self.left_s > 0

    def share(self, among: int, *, keep_s: float = 0.0) -> "Budget":
        """For the next of so many, after what is kept for what comes later."""
        return Budget(self.clock() + max(0.0, self.left_s - keep_s) / among, self.clock)


def budget_of(seconds: float | None, clock: Callable[[], float] = time.monotonic) -> Budget:
    """From now on; without a bound when none is given."""
    return Budget(math.inf if seconds is None else clock() + seconds, clock)
