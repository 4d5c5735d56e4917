"""Execution environments under any order of calls, answers, deaths and timeouts: a fake runtime speaks for the process."""

import asyncio
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from warmfront.emulator.lambda_service.environments import process_group as sandbox_module
from warmfront.emulator.lambda_service.environments.environment import Environment
from warmfront.emulator.lambda_service.environments.phases import Phase
from warmfront.emulator.lambda_service.environments.process_group import Guard, Launch, SandboxHost
from warmfront.emulator.lambda_service.environments.start_modes import StartPlan, Way
from warmfront.emulator.lambda_service.environments.starter import InitFailure
from warmfront.emulator.lambda_service.functions import fleet as fleet_module
from warmfront.emulator.lambda_service.functions.function import Function
from warmfront.emulator.lambda_service.functions.shared_state import Workplace
from warmfront.emulator.lambda_service.invocation import Invocation
from warmfront.emulator.lambda_service.logs.sinks import LogSink
from warmfront.emulator.lambda_service.runtimes.runtime_api import RuntimeConnection
from warmfront.emulator.lambda_service.types import InvocationResult, ServiceError, Throttled
from warmfront.emulator.template import FunctionConfig

LAUNCH = Launch(("fake",), {}, Path("/"))
PLANS = (StartPlan(), StartPlan(Way.SNAP_START), StartPlan(Way.PROVISIONED, ahead=2))


class FakeConnection(RuntimeConnection):
    """What the runtime's socket would have been given."""

    def __init__(self, host: Environment) -> None:
        super().__init__(host)
        self.heard: list[bytes] = []
        self.closed = False
        host.runtime_connected(self)

    def write(self, data: bytes) -> None:
        assert not self.closed, "nobody reads any more"
        self.heard.append(data)

    def close(self) -> None:
        self.closed = True


class FakeSandbox:
    """A process that does only what the machine makes it do."""

    alive: dict[int, "FakeSandbox"] = {}  # noqa: RUF012 - one register, cleared by every machine
    count = 0

    def __init__(
        self,
        launch: Launch,  # noqa: ARG002
        environ: Mapping[str, str],  # noqa: ARG002
        host: SandboxHost,
        guard: Guard,  # noqa: ARG002
        *,
        held_fd: int,  # noqa: ARG002
    ) -> None:
        assert isinstance(host, Environment)
        FakeSandbox.count += 1
        self.pid = FakeSandbox.count
        self.began_ns = 0
        self.environment = host
        self.connection = FakeConnection(host)
        self.dying = False
        self.stopped = False
        FakeSandbox.alive[self.pid] = self

    def watch_output(self, on: bool) -> None: ...

    def read_output(self) -> bytes:
        return b""

    def memory_peak_bytes(self) -> int:
        return 1024

    def signal(self, number: signal.Signals) -> None:
        if number is signal.SIGSTOP:
            assert self.environment.phase is Phase.FROZEN, "only the idle are stopped"
            self.stopped = True
        elif number is signal.SIGCONT:
            self.stopped = False
        elif number is signal.SIGTERM:
            self.dying = True

    def kill(self) -> None:
        self.dying = True

    def die(self, status: int) -> None:
        del FakeSandbox.alive[self.pid]
        self.environment.sandbox_exited(status, 0.0)


class FakeSnapshot:
    """Taken at once; its restores are as `FakeSandbox` has them."""

    command = "fake"
    mounts = None

    def __init__(self, launch: Launch, host: object, guard: Guard, **more: object) -> None: ...

    async def taken(self) -> InitFailure | None:
        return None

    async def open(self, environ: Mapping[str, str], host: SandboxHost, guard: Guard, held_fd: int = -1) -> FakeSandbox:
        await asyncio.sleep(0)  # unlike a command, a restore is waited for
        return FakeSandbox(LAUNCH, environ, host, guard, held_fd=held_fd)

    async def close(self) -> None: ...


class EnvironmentsMachine(RuleBasedStateMachine):
    """One function with its environments; the machine is its callers and its processes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(sandbox_module, "spawn", FakeSandbox)
        self.patch.setattr(fleet_module, "Snapshot", FakeSnapshot)
        FakeSandbox.alive.clear()
        self.function: Function | None = None
        self.calls: list[asyncio.Task[InvocationResult]] = []
        self.upkeep: list[asyncio.Task[int] | asyncio.Task[None]] = []
        self.sent = 0
        self.limit: int | None = None

    @initialize(limit=st.one_of(st.none(), st.integers(1, 3)), plan=st.sampled_from(PLANS))
    def begin(self, limit: int | None, plan: StartPlan) -> None:
        self.limit = limit
        config = FunctionConfig(
            "F", "F", "app.handler", "python3.13", Path("/"), timeout_s=900, reserved_concurrency=limit
        )
        workplace = Workplace(LogSink(None), Path(self.folder.name), shutdown_grace_s=0.0)
        self.function = Function(config, LAUNCH, workplace, None, plan=plan)
        self.upkeep.append(self.loop.create_task(self.function.prepare()))
        self.do(lambda: None)

    def do(self, action: Callable[..., object], *arguments: object, **named: object) -> None:
        """On the loop; then everything happens that can happen without a process."""

        async def act() -> None:
            action(*arguments, **named)
            for _ in range(8):
                await asyncio.sleep(0)

        self.loop.run_until_complete(act())

    def sandboxes(self, *phases: Phase) -> list[FakeSandbox]:
        return [each for each in FakeSandbox.alive.values() if each.environment.phase in phases and not each.dying]

    # -- callers -------------------------------------------------------------------------------------------------------

    @rule()
    def call(self) -> None:
        assert self.function is not None
        self.sent += 1
        invocation = Invocation(
            b"{}", request_id=f"r{self.sent}", trace_id="", arn="arn", version="$LATEST", client_context=None, tail=False
        )  # fmt: skip
        self.calls.append(self.loop.create_task(self.function.invoke(invocation)))
        self.do(lambda: None)

    @rule(spared=st.integers(0, 3))
    def retire(self, spared: int) -> None:
        assert self.function is not None
        if spared:
            return
        self.upkeep.append(self.loop.create_task(self.function.retire()))
        self.do(lambda: None)

    @rule()
    def call_and_be_answered(self) -> None:
        """A whole invocation, so that there are idle environments to try the rest on."""
        self.call()
        for each in self.sandboxes(Phase.INIT):
            self.do(each.environment.runtime_asks_next, each.connection)
        for each in self.sandboxes(Phase.INVOKE):
            self._speak(each, failed=False, ask_at_once=True)

    # -- processes -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.sandboxes(Phase.INIT))
    @rule(data=st.data())
    def become_ready(self, data: st.DataObject) -> None:
        each = self._pick(data, Phase.INIT)
        self.do(each.environment.runtime_asks_next, each.connection)

    @precondition(lambda self: self.sandboxes(Phase.INIT))
    @rule(data=st.data())
    def fail_to_init(self, data: st.DataObject) -> None:
        each = self._pick(data, Phase.INIT)
        self.do(each.environment.runtime_init_failed, each.connection, b'{"errorType":"E"}', "E")

    @precondition(lambda self: self.sandboxes(Phase.INVOKE))
    @rule(data=st.data(), failed=st.booleans(), ask_at_once=st.booleans())
    def answer(self, data: st.DataObject, failed: bool, ask_at_once: bool) -> None:
        self._speak(self._pick(data, Phase.INVOKE), failed=failed, ask_at_once=ask_at_once)

    def _speak(self, each: FakeSandbox, *, failed: bool, ask_at_once: bool) -> None:
        environment, connection = each.environment, each.connection
        request_id = connection.running
        assert request_id is not None

        def speak() -> None:
            environment.runtime_answers(connection, request_id, b"{}", failed=failed, error_type=None)
            if ask_at_once:
                environment.runtime_asks_next(connection)

        self.do(speak)

    @precondition(lambda self: self.sandboxes(Phase.RETURNING))
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        each = self._pick(data, Phase.RETURNING)
        self.do(each.environment.runtime_asks_next, each.connection)

    @precondition(lambda self: self.sandboxes(Phase.INVOKE))
    @rule(data=st.data())
    def answer_somebody_elses(self, data: st.DataObject) -> None:
        each = self._pick(data, Phase.INVOKE)
        self.do(each.environment.runtime_answers, each.connection, "r0", b"{}", failed=False, error_type=None)
        assert b"400 Bad Request" in each.connection.heard[-1]

    @precondition(lambda self: self.sandboxes(Phase.INVOKE))
    @rule(data=st.data())
    def time_out(self, data: st.DataObject) -> None:
        each = self._pick(data, Phase.INVOKE)
        assert self.function is not None
        (invocation,) = each.environment.running
        self.do(self.function._timed_out, invocation)
        assert each.dying

    @precondition(lambda _: any(each.dying for each in FakeSandbox.alive.values()))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A process that was told to."""
        dying = [each for each in FakeSandbox.alive.values() if each.dying]
        self.do(data.draw(st.sampled_from(dying)).die, -9)

    @precondition(lambda self: self.sandboxes(*Phase))
    @rule(data=st.data(), status=st.sampled_from([0, 1, -9]), spared=st.integers(0, 3))
    def die(self, data: st.DataObject, status: int, spared: int) -> None:
        """Any process of its own accord, now and then: if all died young, nothing else would be tried."""
        if not spared:
            self.do(self._pick(data, *Phase).die, status)

    @precondition(lambda self: self.sandboxes(Phase.FROZEN))
    @rule(data=st.data())
    def freeze(self, data: st.DataObject) -> None:
        """As the freezer does when an environment stays idle; its next event must continue it."""
        self.do(self._pick(data, Phase.FROZEN).environment.freeze)

    @precondition(lambda self: self.sandboxes(Phase.FROZEN))
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        """A frozen process loses its connection before its death is known."""
        each = self._pick(data, Phase.FROZEN)
        each.dying = True
        self.do(each.environment.runtime_disconnected, each.connection)

    # -- what always holds ---------------------------------------------------------------------------------------------

    @invariant()
    def concurrency_is_never_over_its_limit(self) -> None:
        if self.limit is not None:
            assert len(self.sandboxes(Phase.INVOKE)) <= self.limit

    @invariant()
    def an_environment_runs_one_invocation_exactly_while_it_is_in_invoke(self) -> None:
        for each in FakeSandbox.alive.values():
            environment = each.environment
            assert len(environment.running) == (environment.phase is Phase.INVOKE)
            if environment.phase is not Phase.FROZEN:
                assert not each.stopped

    @invariant()
    def the_books_are_true(self) -> None:
        if self.function is None:
            return
        scaling = self.function._scaling
        environments = list(self.function.environments.values())
        assert scaling.returning == sum(each.phase is Phase.RETURNING for each in environments)
        assert scaling.waiting == len(self.function._waiters) <= scaling.returning
        assert not (scaling.waiting and scaling.free), "somebody waits beside a free environment"
        assert scaling.in_flight == sum(not call.done() for call in self.calls)

    def teardown(self) -> None:
        if self.function is not None:
            self.loop.run_until_complete(asyncio.wait_for(self._close(self.function), 10))
            self.every_call_has_exactly_one_answer()
            assert all(task.done() for task in self.upkeep)
            assert not self.function.environments
        assert not FakeSandbox.alive
        self.patch.undo()
        self.folder.cleanup()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _close(self, function: Function) -> None:
        closing = asyncio.ensure_future(function.close())
        while not closing.done():
            for each in list(FakeSandbox.alive.values()):
                if each.dying:
                    each.die(-9)
            await asyncio.sleep(0)
        await closing

    def every_call_has_exactly_one_answer(self) -> None:
        self.do(lambda: None)
        assert all(call.done() for call in self.calls), "somebody waits for ever"
        for call in self.calls:
            outcome = call.exception() or call.result()
            assert isinstance(outcome, InvocationResult | Throttled | ServiceError), outcome

    def _pick(self, data: st.DataObject, *phases: Phase) -> FakeSandbox:
        return data.draw(st.sampled_from(self.sandboxes(*phases)))


TestEnvironments = EnvironmentsMachine.TestCase
TestEnvironments.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
