"""The deadline of an invocation, from which every timeout is derived."""

import time
from collections.abc import Callable
from typing import Protocol

from shared.kit.problems import TimedOut


class RemainingTime(Protocol):
    """The one method of Lambda's context that matters here."""

    def get_remaining_time_in_millis(self) -> int: ...


class Deadline:
    """Ends some time before Lambda would kill the invocation, so that there is time left for an error response."""

    __slots__ = ("_clock", "_ends_s")

    def __init__(self, remaining_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends_s = clock() + remaining_s

    @classmethod
    def of(cls, context: RemainingTime, *, reserve_ms: int, clock: Callable[[], float] = time.monotonic) -> "Deadline":
        return cls((context.get_remaining_time_in_millis() - reserve_ms) / 1000, clock=clock)

    def remaining_s(self) -> float:
        return self._ends_s - self._clock()

    def timeout_s(self, at_most_s: float) -> float:
        """The timeout of one wait: `at_most_s`, or the remaining time if that is less. Raises TimedOut if no time is left."""
        remaining_s = self._ends_s - self._clock()
        if remaining_s <= 0:
            raise TimedOut("The time for this request was used up before it could be answered.")
        return at_most_s if at_most_s < remaining_s else remaining_s
