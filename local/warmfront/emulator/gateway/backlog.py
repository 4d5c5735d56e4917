"""Requests that were read and have not begun. Knows neither HTTP nor functions."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

PER_TURN: Final = 3
"""Of 1, 2, 3, 4, 8 and 16: with more, an answer waits behind requests again; with fewer, the loop turns for each request."""


class Backlog:
    """First come, first begun, and only a few in each turn of the event loop: what is under way goes before what is new.

    Between two turns the loop reads what environments have answered: callers get it, and the environments are free for the
    next requests. Begun all at once, fifty requests that came together hold fifty environments, most of which have answered
    and wait to be heard, where their rate times their duration asks for ten. A turn does not wait for any answer: where none
    comes, all requests are under way after a few turns, each with an environment of its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, per_turn: int = PER_TURN) -> None:
        self._loop = loop
        self._per_turn = per_turn
        self._waiting: deque[Callable[[], None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, begin: Callable[[], None]) -> None:
        """`begin` is called once, in this turn's end at the earliest."""
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
