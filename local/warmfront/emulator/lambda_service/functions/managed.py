"""A function on Managed Instances: environments that are always there, each with several processes.

docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances.html: invocations share environments, nothing is frozen, and what finds no
process free is throttled; Lambda adds environments by their load, here their number is fixed.
"""

import time

from warmfront.emulator.lambda_service.environments.environment import Environment
from warmfront.emulator.lambda_service.environments.phases import Phase
from warmfront.emulator.lambda_service.functions.function import Function
from warmfront.emulator.lambda_service.invocation import Invocation
from warmfront.emulator.lambda_service.types import Throttled

REASON = "ConcurrentInvocationLimitExceeded"
"""Not confirmed: which of TooManyRequestsException's reasons Lambda gives here."""


class ManagedFunction(Function):
    """An environment that loses a process, or has one that takes too long, is ended with all it runs and replaced."""

    def _admit(self, invocation: Invocation) -> None:
        able = [each for each in self.environments.values() if each.phase is not Phase.INIT and not each.retiring]
        environment = max(able, key=lambda each: each.free_slots, default=None)
        free = environment is not None and environment.alive
        if not (free or len(self._waiters) < sum(each.returning_slots for each in able)) or not self._take():
            self._count_throttle(invocation)
            raise Throttled(REASON)
        self._admitted(invocation)
        if environment is not None and free:
            self._use(environment, invocation)
            return
        self._waiters.add(invocation)

    def _wait_no_longer(self, invocation: Invocation) -> None:
        self._outcomes.refused(invocation, Throttled(REASON))

    def _take(self) -> bool:
        most = self._scaling.concurrency_max
        if most is not None and self._scaling.in_flight >= most:
            return False
        if self._limits is not None and not self._limits.take():
            return False
        self._scaling.in_flight += 1
        return True

    def _free(self, environment: Environment) -> None:
        """It takes events from here on, first of those that waited for the one it replaces."""
        while self._waiters and environment.alive and not environment.retiring:
            self._use(environment, self._waiters.take())

    # -- what environments tell ----------------------------------------------------------------------------------------

    def environment_answered(
        self, environment: Environment, invocation: Invocation, body: bytes, failed: bool, error_type: str | None
    ) -> None:
        if environment.over_memory(time.monotonic_ns(), since_ns=invocation.dispatched_ns):
            self._outcomes.out_of_memory(environment, invocation)
            self._end(environment)
            return
        if environment.invocations == 1:
            self.fleet.keep_init(environment)
        self._outcomes.answered(environment, invocation, body, failed=failed, error_type=error_type)

    def environment_back(self, environment: Environment) -> None:
        if environment.retiring:
            if not environment.running:
                self._tasks.spawn(self._shut_down(environment))
        elif self._waiters.queue:
            self._use(environment, self._waiters.take())

    def environment_exited(self, environment: Environment, status: int, was: Phase, running: list[Invocation]) -> None:  # noqa: ARG002
        self._lose(environment, running, status)
        self._drop(environment)

    def _timed_out(self, invocation: Invocation) -> None:
        environment = invocation.environment
        assert isinstance(environment, Environment)
        environment.over_memory(time.monotonic_ns(), since_ns=invocation.dispatched_ns)
        others = [each for each in environment.running if each is not invocation]
        environment.reset()
        self._outcomes.timed_out(environment, invocation)
        self._lose(environment, others, -9)
        self._tasks.spawn(self._shut_down(environment))

    def _end(self, environment: Environment) -> None:
        others = environment.running
        environment.reset()
        self._lose(environment, others, -9)
        self._tasks.spawn(self._shut_down(environment))

    def _lose(self, environment: Environment, running: list[Invocation], status: int) -> None:
        for invocation in running:
            if environment.out_of_memory:
                self._outcomes.out_of_memory(environment, invocation)
            else:
                self._outcomes.exited(environment, invocation, status)

    # -- the set of environments ---------------------------------------------------------------------------------------

    async def retire(self) -> int:
        """End every environment, busy ones when they are idle; each is replaced."""
        found = [each for each in self.environments.values() if not each.retiring]
        for environment in found:
            environment.retiring = True
            if not environment.running:
                self._tasks.spawn(self._shut_down(environment))
        return len(found)

    def reap_idle(self, now_s: float) -> None:
        """They are there whether anybody uses them or not."""
