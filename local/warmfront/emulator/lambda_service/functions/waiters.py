"""Invocations that wait for an environment on its way back, each for a bounded time."""

import asyncio
from collections import deque
from collections.abc import Callable

from warmfront.emulator.lambda_service.invocation import Invocation

RETURNING_WAIT_S = 1.0
"""How long an invocation waits for an environment that has answered but not come back, before a new one is started."""


class Waiters:
    """First come, first served; who has waited too long is handed to `give_up`."""

    def __init__(self, give_up: Callable[[Invocation], None]) -> None:
        self.queue: deque[Invocation] = deque()
        """To look at: whether anybody waits is asked whenever an environment comes back."""
        self._give_up = give_up

    def __len__(self) -> int:
        return len(self.queue)

    def add(self, invocation: Invocation) -> None:
        invocation.timer = asyncio.get_running_loop().call_later(RETURNING_WAIT_S, self._waited, invocation)
        self.queue.append(invocation)

    def _waited(self, invocation: Invocation) -> None:
        self.queue.remove(invocation)
        self._give_up(invocation)

    def take(self) -> Invocation:
        """Whoever has waited longest, no longer bounded."""
        invocation = self.queue.popleft()
        assert invocation.timer is not None
        invocation.timer.cancel()
        return invocation

    def one_gives_up(self) -> None:
        """For whoever has waited longest nothing comes any more."""
        self._give_up(self.take())

    def all_give_up(self) -> None:
        for _ in range(len(self.queue)):
            self.one_gives_up()
