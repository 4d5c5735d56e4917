"""Managed Instances under any order of calls, answers, lost processes and timeouts: fake processes speak for the client's."""

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
from warmfront.emulator.lambda_service.functions.managed import ManagedFunction
from warmfront.emulator.lambda_service.functions.shared_state import Workplace
from warmfront.emulator.lambda_service.invocation import Invocation
from warmfront.emulator.lambda_service.logs.sinks import LogSink
from warmfront.emulator.lambda_service.runtimes.runtime_api import RuntimeConnection
from warmfront.emulator.lambda_service.types import InvocationResult, ServiceError, Throttled
from warmfront.emulator.template import FunctionConfig

PROCESSES = 3


class FakeConnection(RuntimeConnection):
    """One process's socket. `asked`: it waits for an event."""

    def __init__(self, host: Environment) -> None:
        super().__init__(host)
        self.asked = False
        host.runtime_connected(self)

    def write(self, data: bytes) -> None:
        if b"Lambda-Runtime-Aws-Request-Id" in data:
            assert self.asked, "an event for a process that did not ask"
            self.asked = False

    def close(self) -> None: ...


class FakeGroup:
    """An environment's processes."""

    alive: dict[int, "FakeGroup"] = {}  # noqa: RUF012 - one register, cleared by every machine
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
        FakeGroup.count += 1
        self.pid = FakeGroup.count
        self.began_ns = 0
        self.environment = host
        self.connections = [FakeConnection(host) for _ in range(PROCESSES)]
        self.dying = False
        FakeGroup.alive[self.pid] = self

    def watch_output(self, on: bool) -> None: ...

    def read_output(self) -> bytes:
        return b""

    def memory_peak_bytes(self) -> int:
        return 1024

    def signal(self, number: signal.Signals) -> None:
        assert number is not signal.SIGSTOP, "nothing is frozen"
        self.dying = self.dying or number is signal.SIGTERM

    def kill(self) -> None:
        self.dying = True

    def ask(self, connection: FakeConnection) -> None:
        connection.asked = True
        self.environment.runtime_asks_next(connection)

    def die(self, status: int) -> None:
        del FakeGroup.alive[self.pid]
        self.environment.sandbox_exited(status, 0.0)


class ManagedMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(sandbox_module, "spawn", FakeGroup)
        FakeGroup.alive.clear()
        self.function: ManagedFunction | None = None
        self.calls: list[asyncio.Task[InvocationResult]] = []
        self.upkeep: list[asyncio.Task[int] | asyncio.Task[None]] = []
        self.sent = 0

    @initialize(environments=st.integers(1, 2))
    def begin(self, environments: int) -> None:
        config = FunctionConfig("F", "F", "app.handler", "python3.13", Path("/"), timeout_s=900)
        workplace = Workplace(LogSink(None), Path(self.folder.name), shutdown_grace_s=0.0)
        plan = StartPlan(Way.MANAGED, environments, PROCESSES)
        self.function = ManagedFunction(config, Launch(("fake",), {}, Path("/")), workplace, None, plan=plan)
        self.upkeep.append(self.loop.create_task(self.function.prepare()))
        self.do(lambda: None)

    def do(self, action: Callable[..., object], *arguments: object, **named: object) -> None:
        async def act() -> None:
            action(*arguments, **named)
            for _ in range(8):
                await asyncio.sleep(0)

        self.loop.run_until_complete(act())

    def groups(self, *, in_init: bool = False) -> list[FakeGroup]:
        found = [each for each in FakeGroup.alive.values() if not each.dying]
        return [each for each in found if (each.environment.phase is Phase.INIT) == in_init]

    def busy(self) -> list[tuple[FakeGroup, FakeConnection]]:
        return [(each, one) for each in self.groups() for one in each.connections if one.running is not None]

    def answered(self) -> list[tuple[FakeGroup, FakeConnection]]:
        groups = self.groups()
        return [(each, one) for each in groups for one in each.connections if one.running is None and not one.asked]

    # -- callers -------------------------------------------------------------------------------------------------------

    @rule()
    def call(self) -> None:
        assert self.function is not None
        self.sent += 1
        free = sum(one.asked for each in self.groups() for one in each.connections if not each.environment.retiring)
        invocation = Invocation(
            b"{}", request_id=f"r{self.sent}", trace_id="", arn="arn", version="$LATEST", client_context=None, tail=False
        )  # fmt: skip
        call = self.loop.create_task(self.function.invoke(invocation))
        self.calls.append(call)
        self.do(lambda: None)
        assert not (free and call.done()), "throttled beside a free process"

    @rule(spared=st.integers(0, 4))
    def retire(self, spared: int) -> None:
        assert self.function is not None
        if not spared:
            self.upkeep.append(self.loop.create_task(self.function.retire()))
            self.do(lambda: None)

    # -- processes -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.groups(in_init=True))
    @rule(data=st.data(), count=st.integers(1, PROCESSES))
    def become_ready(self, data: st.DataObject, count: int) -> None:
        group = data.draw(st.sampled_from(self.groups(in_init=True)))
        for connection in [each for each in group.connections if not each.asked][:count]:
            self.do(group.ask, connection)

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), failed=st.booleans(), ask_at_once=st.booleans())
    def answer(self, data: st.DataObject, failed: bool, ask_at_once: bool) -> None:
        group, connection = data.draw(st.sampled_from(self.busy()))

        def speak() -> None:
            request_id = connection.running
            assert request_id is not None
            group.environment.runtime_answers(connection, request_id, b"{}", failed=failed, error_type=None)
            if ask_at_once:
                group.ask(connection)

        self.do(speak)

    @precondition(lambda self: self.answered())
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        group, connection = data.draw(st.sampled_from(self.answered()))
        self.do(group.ask, connection)

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def time_out(self, data: st.DataObject) -> None:
        group, connection = data.draw(st.sampled_from(self.busy()))
        assert self.function is not None
        (invocation,) = [each for each in group.environment.running if each.request_id == connection.running]
        self.do(self.function._timed_out, invocation)
        assert group.dying

    @precondition(lambda self: self.groups())
    @rule(data=st.data(), spared=st.integers(0, 2))
    def lose_a_process(self, data: st.DataObject, spared: int) -> None:
        group = data.draw(st.sampled_from(self.groups()))
        connection = data.draw(st.sampled_from(group.connections))
        if not spared and (connection.asked or connection.running is not None):
            self.do(group.environment.runtime_disconnected, connection)
            assert group.dying

    @precondition(lambda _: any(each.dying for each in FakeGroup.alive.values()))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        dying = [each for each in FakeGroup.alive.values() if each.dying]
        self.do(data.draw(st.sampled_from(dying)).die, -9)

    @precondition(lambda self: self.groups())
    @rule(data=st.data(), status=st.sampled_from([0, 1, -9]), spared=st.integers(0, 3))
    def die(self, data: st.DataObject, status: int, spared: int) -> None:
        if not spared:
            self.do(data.draw(st.sampled_from(self.groups())).die, status)

    # -- what always holds ---------------------------------------------------------------------------------------------

    @invariant()
    def an_environment_is_in_invoke_exactly_while_something_runs(self) -> None:
        for each in self.groups():
            running = sum(one.running is not None for one in each.connections)
            assert len(each.environment.running) == running
            assert (each.environment.phase is Phase.INVOKE) == bool(running)

    @invariant()
    def the_books_are_true(self) -> None:
        if self.function is not None:
            assert self.function.in_flight == sum(not call.done() for call in self.calls)

    @invariant()
    def nobody_waits_beside_a_free_process(self) -> None:
        if self.function is not None and self.function._waiters:
            groups = [each for each in self.groups() if not each.environment.retiring]
            assert not any(one.asked for each in groups for one in each.connections)

    def teardown(self) -> None:
        if self.function is not None:
            self.loop.run_until_complete(asyncio.wait_for(self._close(self.function), 10))
            self.do(lambda: None)
            for call in self.calls:
                assert call.done(), "somebody waits for ever"
                assert isinstance(call.exception() or call.result(), InvocationResult | Throttled | ServiceError)
            assert not self.function.environments
        assert not FakeGroup.alive
        self.patch.undo()
        self.folder.cleanup()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _close(self, function: ManagedFunction) -> None:
        closing = asyncio.ensure_future(function.close())
        while not closing.done():
            for each in list(FakeGroup.alive.values()):
                if each.dying:
                    each.die(-9)
            await asyncio.sleep(0)
        await closing


TestManaged = ManagedMachine.TestCase
TestManaged.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


def test_a_replacement_takes_who_waited_for_the_one_it_replaces() -> None:
    """What the machine once found, with no chance in it."""
    machine = ManagedMachine()
    try:
        machine.begin(environments=1)
        (lost,) = machine.groups(in_init=True)
        for connection in lost.connections:
            machine.do(lost.ask, connection)
        for _ in range(PROCESSES):
            machine.call()
        answering = lost.connections[0]
        assert answering.running is not None
        answer = lost.environment.runtime_answers
        machine.do(answer, answering, answering.running, b"{}", failed=False, error_type=None)
        machine.call()
        assert machine.function is not None
        assert len(machine.function._waiters) == 1
        machine.do(lost.die, -9)
        (replacement,) = machine.groups(in_init=True)
        for connection in replacement.connections:
            machine.do(replacement.ask, connection)
        assert len(replacement.environment.running) == 1
        assert not machine.function._waiters
    finally:
        machine.teardown()
