"""One function: every invocation from admission to its REPORT line."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from warmfront.emulator.lambda_service.environments.environment import Environment
from warmfront.emulator.lambda_service.environments.phases import Phase
from warmfront.emulator.lambda_service.environments.process_group import Launch
from warmfront.emulator.lambda_service.environments.start_modes import StartPlan, Way
from warmfront.emulator.lambda_service.environments.starter import InitFailure
from warmfront.emulator.lambda_service.functions.fleet import Fleet
from warmfront.emulator.lambda_service.functions.injected_faults import Fault
from warmfront.emulator.lambda_service.functions.invocation_observer import Observer
from warmfront.emulator.lambda_service.functions.outcomes import Outcomes
from warmfront.emulator.lambda_service.functions.scaling import Decision, Scaling
from warmfront.emulator.lambda_service.functions.shared_state import Counters, Limits, Workplace
from warmfront.emulator.lambda_service.functions.waiters import Waiters
from warmfront.emulator.lambda_service.functions.watchdog import LongWatch
from warmfront.emulator.lambda_service.invocation import Invocation
from warmfront.emulator.lambda_service.logs.function_log import FunctionLog
from warmfront.emulator.lambda_service.logs.sinks import without_hang_up
from warmfront.emulator.lambda_service.task_set import TaskSet
from warmfront.emulator.lambda_service.types import (
    InvocationResult,
    ServiceError,
    SnapStartFailed,
    SnapStartTimedOut,
    Throttled,
    VersionFailed,
)
from warmfront.emulator.template import FunctionConfig

NO_LIMIT_S = 86_400.0
"""Instead of the timeout, of a function that waits for a debugger."""


class Function:
    """A function of the template as the Lambda service runs it."""

    def __init__(
        self,
        config: FunctionConfig,
        launch: Launch,
        workplace: Workplace,
        limits: Limits | None,
        *,
        plan: StartPlan | None = None,
        version: str = "$LATEST",
        debugged: bool = False,
    ) -> None:
        """`limits`: the account's unreserved concurrency; None where the function has its own. `debugged`: nothing times out."""
        self.config = config
        self.counters = Counters()
        self.plan = plan or StartPlan()
        self.fault: Fault | None = None
        """What somebody injected and has not ended yet."""
        self._workplace = workplace
        self._limits = limits
        self._idle_s = NO_LIMIT_S if debugged else workplace.idle_s
        self._timeout_s = NO_LIMIT_S if debugged else float(config.timeout_s)
        self._observer = workplace.observer
        self._log = FunctionLog(config, workplace.sink, workplace.region, kept=workplace.observer is not None)
        self.fleet = Fleet(
            config,
            launch,
            workplace,
            self._log,
            self,
            plan=self.plan,
            version=version,
            init_limit_s=NO_LIMIT_S if debugged else workplace.init_limit_s,
            debugged=debugged,
        )
        self.environments = self.fleet.environments
        self._scaling: Scaling[Environment] = Scaling(1 if debugged else config.reserved_concurrency)
        self._waiters = Waiters(self._wait_no_longer)
        self._tasks = TaskSet()
        self._watch = LongWatch(self.environments, self._log)
        self._outcomes = Outcomes(
            config,
            self._log,
            self.counters,
            workplace.observer,
            timeout_s=self._timeout_s,
            on_end=self._finished,
        )
        self._closing = False

    def observe(self, observer: Observer | None) -> None:
        """From now on this one is told, or nobody."""
        self._observer = observer
        self._outcomes.observe(observer)
        self._log.kept = observer is not None

    # -- one invocation ------------------------------------------------------------------------------------------------

    async def invoke(self, invocation: Invocation) -> InvocationResult:
        """Run one invocation to its result. Raises Throttled. Cancelling the caller does not stop the invocation, as on Lambda."""
        if self.fault is not None and await self.fault.arriving():
            self._count_throttle(invocation)
            raise Throttled()
        self._admit(invocation)
        assert invocation.future is not None
        result = await invocation.future
        assert isinstance(result, InvocationResult)
        return result

    def _admit(self, invocation: Invocation) -> None:
        if self._limits is not None and not self._limits.take():
            self._count_throttle(invocation)
            raise Throttled(self._limits.reason)
        admitted = self._scaling.admit()
        if admitted is Decision.THROTTLE:
            if self._limits is not None:
                self._limits.give_back()
            self._count_throttle(invocation)
            raise Throttled()
        self._admitted(invocation)
        if isinstance(admitted, Environment):
            self._use(admitted, invocation)
        elif admitted is Decision.WAIT:
            self._waiters.add(invocation)
        else:
            self._begin(self._cold_start(invocation), invocation)

    def _admitted(self, invocation: Invocation) -> None:
        self.counters.invocations += 1
        invocation.future = asyncio.get_running_loop().create_future()

    def _count_throttle(self, invocation: Invocation) -> None:
        self.counters.throttles += 1
        if self._observer is not None:
            self._observer.throttled(self.config.logical_id, invocation)

    def _begin(self, start: Coroutine[Any, Any, None], invocation: Invocation) -> None:
        """Run what has to await before the invocation can be dispatched; whatever happens to it, the caller is told."""

        def tell(task: asyncio.Task[None]) -> None:
            if task.cancelled() or task.exception() is not None:
                invocation.abandon(ServiceError("the emulator is shutting down"))

        self._tasks.spawn(start).add_done_callback(tell)

    def _use(self, environment: Environment, invocation: Invocation) -> None:
        if environment.alive:
            self._arm(invocation)
            self._dispatch(environment, invocation)
        elif environment.way is Way.SNAP_START:
            self._begin(self._restore(environment, invocation), invocation)
        else:
            self._begin(self._init_inside(environment, invocation), invocation)

    def _arm(self, invocation: Invocation) -> None:
        """Start the invocation's clock: its Duration and its timeout run from here."""
        invocation.dispatched_ns = time.monotonic_ns()
        invocation.timer = asyncio.get_running_loop().call_later(self._timeout_s, self._timed_out, invocation)

    def _left_s(self, invocation: Invocation) -> float:
        return self._timeout_s - (time.monotonic_ns() - invocation.dispatched_ns) / 1e9

    def _dispatch(self, environment: Environment, invocation: Invocation) -> None:
        fault = self.fault
        if fault is not None:
            fault.dispatching(environment)
        environment.dispatch(invocation, deadline_ms=int((time.time() + self._left_s(invocation)) * 1000))
        if fault is not None:
            fault.dispatched(environment)
        self._watch.begin()

    def _wait_no_longer(self, invocation: Invocation) -> None:
        """No environment came back for this invocation (in time): it starts one."""
        self._scaling.give_up_waiting()
        self._begin(self._cold_start(invocation), invocation)

    # -- init ----------------------------------------------------------------------------------------------------------

    async def _cold_start(self, invocation: Invocation) -> None:
        self.counters.cold_starts += 1
        environment = self.fleet.new(self.plan.spill_over)
        if environment.way is Way.SNAP_START:
            await self._restore(environment, invocation)
            return
        failure = await self._start(environment)
        if failure is not None or not environment.alive:
            await self._init_inside(environment, invocation)
            return
        invocation.init_ms = invocation.billed_ahead_ms = environment.init_duration_ms or 0.0
        self._arm(invocation)
        self._dispatch(environment, invocation)

    async def _restore(self, environment: Environment, invocation: Invocation) -> None:
        """A new or a reset environment out of the snapshot; where that fails the caller hears of it, and there is no second try."""
        error: ServiceError | None = None
        if await self.fleet.snapshot_failed():
            error = VersionFailed()
        elif (failure := await self._start(environment)) is not None or not environment.alive:
            error = SnapStartTimedOut() if failure is not None and failure.status == "timeout" else SnapStartFailed()
        if error is not None:
            self._outcomes.refused(invocation, error)
            self._drop(environment)
            return
        invocation.restore_ms = environment.init_duration_ms
        invocation.billed_ahead_ms = environment.process_ms
        self._arm(invocation)
        self._dispatch(environment, invocation)

    async def _start(self, environment: Environment) -> InitFailure | None:
        """Init or restore ahead of the invocation."""
        self._watch.begin()
        return await self.fleet.start(environment)

    async def _init_inside(self, environment: Environment, invocation: Invocation) -> None:
        """Init again within the invocation, after a failed init or a reset: its time counts as the invocation's own."""
        self._arm(invocation)
        self._watch.begin()
        failure = await self.fleet.start_inside(environment, self._timeout_s)
        left_s = self._left_s(invocation)
        if failure is None and environment.alive and left_s > 0:
            self._dispatch(environment, invocation)
            return
        if failure is None and left_s > 0:  # ready, and dead before anybody could use it
            failure = InitFailure.died(0, 0.0, out_of_memory=False)
        if failure is not None:
            self._log.init_failed(failure, environment.way, phase="invoke")
        if failure is None or failure.status == "timeout":
            self._outcomes.timed_out(environment, invocation)
        else:
            request_id = f'"RequestId: {invocation.request_id} Error'.encode()
            payload = failure.payload.replace(b'"RequestId:  Error', request_id)
            self._outcomes.failed(environment, invocation, payload, failure.error_type)
        self._free(environment)

    # -- what environments tell (EnvironmentHost) ----------------------------------------------------------------------

    def environment_answered(
        self, environment: Environment, invocation: Invocation, body: bytes, failed: bool, error_type: str | None
    ) -> None:
        if environment.over_memory(time.monotonic_ns(), since_ns=invocation.dispatched_ns):
            environment.reset()
            self._outcomes.out_of_memory(environment, invocation)
            self._free(environment)
            return
        self._scaling.answered()
        if environment.invocations == 1 and (invocation.init_ms is not None or invocation.restore_ms is not None):
            self.fleet.keep_init(environment)
        self._outcomes.answered(environment, invocation, body, failed=failed, error_type=error_type)

    def environment_back(self, environment: Environment) -> None:
        if environment.retiring:
            self._scaling.lost_on_return()
            self._let_one_waiter_start()
            self._tasks.spawn(self._shut_down(environment))
            return
        environment.idle_since_s = time.monotonic()
        self._scaling.came_back(environment, ahead=environment.ahead)
        if self._waiters.queue:
            self._serve_waiters()

    def environment_exited(self, environment: Environment, status: int, was: Phase, running: list[Invocation]) -> None:
        """The process ended by itself or was killed: during an invocation Lambda resets the environment, else it is gone."""
        for invocation in running:
            if environment.out_of_memory:
                self._outcomes.out_of_memory(environment, invocation)
            else:
                self._outcomes.exited(environment, invocation, status)
        if was is Phase.INVOKE:
            self._free(environment)
        elif was is Phase.RETURNING:
            self._scaling.lost_on_return()
            self._let_one_waiter_start()
            self._drop(environment)
        elif self._scaling.remove(environment):
            self._drop(environment)
        # else: it was ready and not yet free: whoever started it finds it dead, and starts it again or drops it

    def environment_output(self, environment: Environment, chunk: bytes) -> None:
        if self._observer is not None:
            self._observer.printed(self.config.logical_id, environment, chunk)
        for invocation in environment.running:
            self._log.output(invocation, chunk)
            return
        self._log.emit(without_hang_up(chunk) if environment.phase is Phase.SHUTDOWN else chunk)

    def _free(self, environment: Environment) -> None:
        """An environment that was not on its way back is free: started ahead or reset."""
        if environment.retiring:
            self._tasks.spawn(self._shut_down(environment))
            return
        environment.idle_since_s = time.monotonic()
        self._scaling.add_free(environment, ahead=environment.ahead)
        self._serve_waiters()

    def _serve_waiters(self) -> None:
        while self._waiters and (environment := self._scaling.take_for_waiter()) is not None:
            self._use(environment, self._waiters.take())

    def _let_one_waiter_start(self) -> None:
        """A returning environment is lost: of the invocations that wait for one, one has nothing to wait for."""
        if self._waiters and self._scaling.waiting > self._scaling.returning:
            self._waiters.one_gives_up()

    # -- the end of an invocation --------------------------------------------------------------------------------------

    def _finished(self) -> None:
        self._scaling.finished()
        if self._limits is not None:
            self._limits.give_back()

    def _timed_out(self, invocation: Invocation) -> None:
        environment = invocation.environment
        if not isinstance(environment, Environment):
            return  # still in an init of its own, which looks at the clock when it is over
        environment.over_memory(time.monotonic_ns(), since_ns=invocation.dispatched_ns)  # its peak belongs in REPORT
        environment.reset()
        self._outcomes.timed_out(environment, invocation)
        self._free(environment)

    # -- the set of environments ---------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Invocations that were admitted and have no answer yet."""
        return self._scaling.in_flight

    def _drop(self, environment: Environment) -> None:
        if self.fleet.drop(environment) and environment.ahead and environment.ready_ns and not self._closing:
            self._tasks.spawn(self.start(1, ahead=True))  # of those that are there before any invocation one has ended

    async def _shut_down(self, environment: Environment) -> None:
        environment.retiring = True
        await environment.shutdown(grace_s=self._workplace.shutdown_grace_s)
        self._drop(environment)

    async def retire(self) -> int:
        """Shut every environment down, busy ones when they come back; returns how many. The next invocation is a cold start."""
        free = []
        for environment in list(self.environments.values()):
            environment.retiring = True
            if self._scaling.remove(environment):
                free.append(environment)
        count = len(self.environments)
        await asyncio.gather(*(self._shut_down(environment) for environment in free))
        return count

    async def reload(self, launch: Launch) -> None:
        """New environments start from `launch`; invocations in flight finish in the old ones."""
        self.fleet.use(launch)
        await self.retire()

    def reap_idle(self, now_s: float) -> None:
        """Shut down environments that nobody has used for `idle_s`."""
        while (environment := self._scaling.least_recent()) is not None:
            if now_s - environment.idle_since_s < self._idle_s:
                return
            self._scaling.remove(environment)
            self._tasks.spawn(self._shut_down(environment))

    async def prepare(self) -> None:
        """What has to be there before invocations come: the snapshot, the environments the plan has ahead."""
        if not await self.fleet.snapshot_failed():
            await self.start(self.plan.ahead, ahead=True)

    async def start(self, count: int, *, ahead: bool = False) -> list[Environment]:
        """Start `count` environments at once, without invocations; returns those that are ready.

        `ahead`: they belong to those the plan has; otherwise they are as if invocations had started them.
        """
        if not count or await self.fleet.snapshot_failed():
            return []
        way = self.plan.way if ahead else self.plan.spill_over
        started = await asyncio.gather(*(self._start_free(self.fleet.new(way, ahead=ahead)) for _ in range(count)))
        return [each for each in started if each is not None]

    async def _start_free(self, environment: Environment) -> Environment | None:
        if await self._start(environment) is None and environment.alive:
            self._free(environment)
            return environment
        self.fleet.drop(environment)
        if environment.ahead:
            about = f"{self.config.logical_id}: a {environment.way} environment could not be started"
            self._workplace.note(f"{about}; its log says why, and there is one less until the next change of the code")
        return None

    async def close(self) -> None:
        """Shut everything down, whatever it is doing; invocations that have no answer yet end in an error."""
        self._closing = True
        for environment in self.environments.values():
            environment.retiring = True
        self._waiters.all_give_up()
        self._tasks.cancel()
        await self._tasks.wait()
        running = [each for environment in self.environments.values() for each in environment.running]
        await asyncio.gather(*(self._shut_down(environment) for environment in list(self.environments.values())))
        await self._tasks.wait()
        for invocation in running:
            invocation.abandon(ServiceError("the emulator is shutting down"))
        await self.fleet.close()
        self._watch.close()
