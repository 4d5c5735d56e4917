"""Looks after what runs long: reads its output, ends what holds too much memory."""

import asyncio
import time
from collections.abc import Mapping

from warmfront.emulator.lambda_service.environments.environment import Environment
from warmfront.emulator.lambda_service.environments.phases import Phase
from warmfront.emulator.lambda_service.logs.function_log import FunctionLog

LONG_S = 0.1
"""From this age an invocation's output is read as it comes, so that a full pipe blocks no handler for longer, and its memory is watched."""
LIVE_AFTER_S = 1.0
"""From this age its log is written as it comes, and not when it ends."""


class LongWatch:
    """One timer while anything runs, none while all environments are idle."""

    def __init__(self, environments: Mapping[str, Environment], log: FunctionLog) -> None:
        self._environments = environments
        self._log = log
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Something runs now."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LONG_S, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now_ns = time.monotonic_ns()
        busy = [each for each in self._environments.values() if each.phase not in (Phase.FROZEN, Phase.SHUTDOWN)]
        for environment in busy:
            self._look_at(environment, now_ns)
        if busy:
            self.begin()

    def _look_at(self, environment: Environment, now_ns: int) -> None:
        for invocation in environment.running:
            age_s = (now_ns - invocation.dispatched_ns) / 1e9
            if age_s > LIVE_AFTER_S and not invocation.live:
                self._log.go_live(invocation)
            if age_s > LONG_S:
                environment.watch_output(True)
        if environment.phase is Phase.RETURNING:
            environment.watch_output(True)
        elif environment.over_memory(now_ns, since_ns=now_ns):
            environment.kill()
