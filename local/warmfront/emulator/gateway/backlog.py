"""Queues requests that were read, and starts a few of them in each turn of the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

PER_TURN: Final = 3
"""The best of 1, 2, 3, 4, 8 and 16: with more, responses wait behind requests; with fewer, the loop turns for each request."""


class Backlog:
    """First in, first out, and only a few in each turn of the event loop: running requests go before new ones.

    Between two turns the loop reads the responses of environments: clients get them, and the environments are free for the
    next requests. Started all at once, fifty requests that came together hold fifty environments, most of which have responded
    and wait to be read, where their rate times their duration needs ten. A turn does not wait for any response: where none
    comes, all requests are under way after a few turns, each with an environment of its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, per_turn: int = PER_TURN) -> None:
        self._loop = loop
        self._per_turn = per_turn
        self._waiting: deque[Callable[[], None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, begin: Callable[[], None]) -> None:
        """`begin` is called once, at the end of this turn at the earliest."""
        self._waiting.append(begin)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._begin_some)

    def _begin_some(self) -> None:
        waiting = self._waiting
        try:
            for _ in range(min(self._per_turn, len(waiting))):
                try:
                    waiting[0]()
                finally:
                    waiting.popleft()  # only now: what it added found that a turn is due
        finally:
            if waiting:
                self._loop.call_soon(self._begin_some)
