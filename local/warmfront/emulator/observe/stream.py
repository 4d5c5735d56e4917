"""Sends ticks to live subscribers, each with a bounded queue. Without a subscriber there is no timer and no work."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

TICK_S = 0.25
HURRY_S = 0.05
"""Events to show at once (an init) cause a tick no sooner than this after the previous one."""
QUEUE_MAX = 8

Tick = dict[str, Any]


class Subscription:
    """One watcher. `with stream.subscribe() as ticks: async for tick in ticks: ...`; one that is slow loses its oldest ticks."""

    def __init__(self, leave: Callable[["Subscription"], None]) -> None:
        self._queue: asyncio.Queue[Tick | None] = asyncio.Queue(QUEUE_MAX)
        self._leave = leave
        self.dropped = 0

    def offer(self, tick: Tick | None) -> bool:
        """False: an older tick had to go."""
        full = self._queue.full()
        if full:
            self._queue.get_nowait()
            self.dropped += 1
        self._queue.put_nowait(tick)
        return not full

    def close(self) -> None:
        """End the iteration."""
        self.offer(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Tick:
        tick = await self._queue.get()
        if tick is None:
            raise StopAsyncIteration
        return tick


class Stream:
    """Makes a tick for all subscribers at once, while there are any."""

    def __init__(self, make: Callable[[int], Tick], clock_ns: Callable[[], int]) -> None:
        """`make`: a tick of what happened since a time of `clock_ns`."""
        self._make = make
        self._clock_ns = clock_ns
        self._subscribers: set[Subscription] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._last_ns = 0
        self.dropped = 0

    @property
    def watched(self) -> bool:
        return bool(self._subscribers)

    def subscribe(self) -> Subscription:
        subscription = Subscription(self._leave)
        self._subscribers.add(subscription)
        if self._timer is None:
            self._last_ns = self._clock_ns()
            self._schedule(0.0)
        return subscription

    def _leave(self, subscription: Subscription) -> None:
        self._subscribers.discard(subscription)
        if not self._subscribers and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def hurry(self) -> None:
        """The next tick is due now."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._schedule(max(0.0, HURRY_S - (self._clock_ns() - self._last_ns) / 1e9))

    def _schedule(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        since_ns, self._last_ns = self._last_ns, self._clock_ns()
        tick = self._make(since_ns)
        for subscription in self._subscribers:
            self.dropped += not subscription.offer(tick)
        self._schedule(TICK_S)

    def close(self) -> None:
        for subscription in self._subscribers:
            subscription.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
