"""Computes when the requests of an open loop are due, and waits for those moments."""

import asyncio
import contextlib
import os
import random
import sys
import time
from array import array
from collections.abc import Callable

from .samples import Plan


def schedule(plan: Plan) -> array[int]:
    """Compute when each exchange of an open block is due.

    Args:
        plan: an open block: `rate` in requests per second, constant or Poisson arrivals, and a seed.

    Returns:
        Nanoseconds from the start of the block, ascending; the same seed gives the same schedule.

    Raises:
        ValueError: the plan has no rate.
    """
    if plan.rate is None:
        raise ValueError("a schedule needs a plan with a rate (open loop)")
    gap = 1e9 / plan.rate
    draw = random.Random(f"arrivals {plan.seed}").expovariate
    due, times = 0.0, array("q")
    end = None if plan.duration_s is None else plan.duration_s * 1e9
    while (end is None or due < end) and (plan.requests is None or len(times) < plan.requests):
        times.append(int(due))
        due += gap if plan.arrivals == "constant" else draw(1.0) * gap
    return times


class Pacer:
    """Waits until a time of CLOCK_MONOTONIC, accurate to about ten microseconds, by a kernel timer and without spinning.

    With another clock (in tests), or before Python 3.13, the event loop's timers are used.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._loop = loop
        self._clock = clock
        self._fd = -1
        self._fired: asyncio.Future[None] | None = None
        if sys.version_info >= (3, 13) and clock is time.monotonic_ns:
            self._fd = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
            loop.add_reader(self._fd, self._on_timer)

    async def until(self, at_ns: int) -> None:
        """Return at `at_ns`, in nanoseconds of the pacer's clock."""
        if sys.version_info >= (3, 13) and self._fd >= 0:
            self._fired = self._loop.create_future()
            os.timerfd_settime_ns(self._fd, flags=os.TFD_TIMER_ABSTIME, initial=at_ns)
            await self._fired
        else:  # the loop's timers are accurate to a millisecond; the recorded lateness shows the effect
            while (wait_ns := at_ns - self._clock()) > 0:  # noqa: ASYNC110 - a timer may fire early by its rounding
                await asyncio.sleep(wait_ns / 1e9)

    def _on_timer(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
        if self._fired is not None and not self._fired.done():
            self._fired.set_result(None)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
