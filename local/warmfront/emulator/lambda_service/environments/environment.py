"""One execution environment: processes behind one Runtime API port, in exactly one phase.

Phases: init -> frozen <-> invoke -> returning -> frozen, and shutdown from any. Frozen means stopped (SIGSTOP) as a group: timers stand
still and nobody reads sockets between invocations, as on Lambda
(docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).
"""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from warmfront.emulator.lambda_service import failures
from warmfront.emulator.lambda_service.environments.idle_reaper import Freezer
from warmfront.emulator.lambda_service.environments.mount_namespace import held_mounts
from warmfront.emulator.lambda_service.environments.phases import EnvironmentHost, Phase
from warmfront.emulator.lambda_service.environments.process_group import Guard, Sandbox
from warmfront.emulator.lambda_service.environments.start_modes import Way
from warmfront.emulator.lambda_service.environments.starter import InitFailure, Starter, read_milestones
from warmfront.emulator.lambda_service.invocation import Invocation
from warmfront.emulator.lambda_service.runtimes.runtime_api import RuntimeConnection, next_head, refusal

MEMORY_SAMPLE_NS = 100_000_000
"""A busy environment's memory is read no more often: the kernel keeps the peak, and a reading costs 10 to 30 us."""


class Environment:
    """One execution environment; its id, port and /tmp outlive a reset of the process inside."""

    def __init__(
        self,
        environment_id: str,
        starter: Starter,
        host: EnvironmentHost["Environment"],
        *,
        way: Way,
        log_stream: str,
        tmp: Path,
        memory_limit_bytes: int,
        freezer: Freezer | None,
        guard: Guard,
        slots: int = 1,
    ) -> None:
        """`slots`: processes that ask for events, each for one at a time (Managed Instances have several)."""
        self.id = environment_id
        self.way = way
        self.log_stream = log_stream
        self.tmp = tmp
        self.retiring = False
        self.ahead = False
        """It is one of those that are there before any invocation, and replaced when it dies."""
        self.invocations = 0
        self.idle_since_s = 0.0
        self.exited_cpu_s = 0.0
        self.init_duration_ms: float | None = None
        self.process_ms = 0.0
        """Of the last init: what the process itself took; after a restore that is what is billed."""
        self.spawned_ns = 0
        self.process_began_ns = 0
        self.ready_ns = 0
        self.first_invoke_ns = 0
        self.first_response_ns = 0
        self.memory_peak_bytes = 0
        self.out_of_memory = False
        """The process is being ended, or was, because it held more than the function may."""
        self._memory_limit_bytes = memory_limit_bytes
        self._memory_read_ns = 0
        self._starter = starter
        self._slots = slots
        self._host = host
        self._freezer = freezer
        self._guard = guard
        self._stopped = False
        self._mount_fd = -1
        """Holds /tmp and the other mounts while a process that was reset is replaced."""
        self._server: asyncio.Server | None = None
        self._sandbox: Sandbox | None = None
        self._connections: set[RuntimeConnection] = set()
        self._parked: list[RuntimeConnection] = []
        self._running: dict[str, Invocation] = {}
        self._phase = Phase.SHUTDOWN
        self._ready: asyncio.Future[InitFailure | None] | None = None
        self._gone: asyncio.Future[None] | None = None

    # -- what others ask -----------------------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def idle(self) -> bool:
        return self._phase is Phase.FROZEN

    @property
    def pid(self) -> int | None:
        return self._sandbox.pid if self._sandbox is not None else None

    @property
    def pids(self) -> list[int]:
        """The processes that take events, and before them the one that started them."""
        if self._sandbox is None:
            return []
        return [self._sandbox.pid] if self._slots == 1 else self._sandbox.pids()

    @property
    def free_slots(self) -> int:
        return len(self._parked)

    @property
    def returning_slots(self) -> int:
        """Processes that have answered and not yet asked for the next event."""
        busy = self._phase in (Phase.INVOKE, Phase.RETURNING)
        return self._slots - len(self._parked) - len(self._running) if busy else 0

    @property
    def alive(self) -> bool:
        """A process is there and can take an event."""
        return bool(self._parked)

    @property
    def running(self) -> list[Invocation]:
        return list(self._running.values())

    def over_memory(self, now_ns: int, *, since_ns: int) -> bool:
        """True once the processes have held more than the function may; the peak is read anew unless that was just done.

        `since_ns`: when the invocation began; one that is older than the interval can afford a reading of its own.
        """
        if now_ns - min(self._memory_read_ns, since_ns) >= MEMORY_SAMPLE_NS and self._sandbox is not None:
            self._memory_read_ns = now_ns
            self.memory_peak_bytes = max(self.memory_peak_bytes, self._sandbox.memory_peak_bytes())
            self.out_of_memory = self.memory_peak_bytes > self._memory_limit_bytes
        return self.out_of_memory

    @property
    def _milestones_path(self) -> Path:
        return self.tmp.with_suffix(".milestones")

    def milestones(self) -> dict[str, object]:
        """What the bootstrap noted of the newest init and the first invocation: nanoseconds of CLOCK_MONOTONIC, and `spans`."""
        return read_milestones(self._milestones_path)

    # -- init ----------------------------------------------------------------------------------------------------------

    async def start(self, *, limit_s: float | None) -> InitFailure | None:
        """Start the process and wait until it asks for its first event; None means ready.

        After a failure there is no process any more and the environment can be started again.
        """
        await self.gone()
        loop = asyncio.get_running_loop()
        if self._server is None:
            self._server = await loop.create_server(lambda: RuntimeConnection(self), "127.0.0.1", 0, backlog=64)
        self._phase = Phase.INIT
        self._ready = loop.create_future()
        self.memory_peak_bytes, self.out_of_memory = 0, False
        self.spawned_ns = time.monotonic_ns()
        try:
            self._sandbox = await self._starter.open(self._environ(), self, self._guard, self._mount_fd)
        except OSError as error:
            self._phase = Phase.SHUTDOWN
            return InitFailure.not_spawned(self._starter.command, error)
        self._gone = loop.create_future()
        self.process_began_ns = self._sandbox.began_ns
        try:
            async with asyncio.timeout(limit_s):
                failure = await self._ready
        except TimeoutError:
            failure = InitFailure(b"", "", "timeout", self._since_spawn_ms())
        except asyncio.CancelledError:
            self.kill()
            raise
        if failure is None:
            self.init_duration_ms = (self.ready_ns - self.spawned_ns) / 1e6
            self.process_ms = (self.ready_ns - self.process_began_ns) / 1e6
            return None
        self.kill()
        await self.gone()
        return failure

    async def gone(self) -> None:
        """Wait until there is no process."""
        if self._gone is not None:
            await asyncio.shield(self._gone)

    def _environ(self) -> dict[str, str]:
        assert self._server is not None
        environ = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}",
            "TMPDIR": str(self.tmp),
            "WARMFRONT_MILESTONES": str(self._milestones_path),
        }
        if self.way is not Way.SNAP_START:
            # Restored environments lack it (docs: lambda/latest/dg/snapstart-monitoring.html).
            environ["AWS_LAMBDA_LOG_STREAM_NAME"] = self.log_stream
        return environ

    def _since_spawn_ms(self) -> float:
        return (time.monotonic_ns() - self.spawned_ns) / 1e6

    # -- output --------------------------------------------------------------------------------------------------------

    def watch_output(self, on: bool) -> None:
        if self._sandbox is not None:
            self._sandbox.watch_output(on)

    def read_output(self) -> bytes:
        """All output that is there now."""
        return self._sandbox.read_output() if self._sandbox is not None else b""

    def sandbox_output(self, chunk: bytes) -> None:
        self._host.environment_output(self, chunk)

    # -- invoke --------------------------------------------------------------------------------------------------------

    def dispatch(self, invocation: Invocation, *, deadline_ms: int) -> None:
        """Thaw and hand over one event. The environment must be `alive`."""
        connection = self._parked.pop()
        connection.running = invocation.request_id
        self._running[invocation.request_id] = invocation
        invocation.environment = self
        self.invocations += 1
        if not self.first_invoke_ns:
            self.first_invoke_ns = time.monotonic_ns()
            if self.ahead:  # its REPORT has the init nobody waited for (recorded on AWS)
                invocation.init_ms = self.init_duration_ms
        head = next_head(
            request_id=invocation.request_id,
            deadline_ms=deadline_ms,
            function_arn=invocation.arn,
            trace_id=invocation.trace_id,
            client_context=invocation.client_context,
            length=len(invocation.event),
        )
        self._phase = Phase.INVOKE
        connection.write(head + invocation.event)
        if self._stopped:  # after the write: a stopped process is woken once, with its event there
            self._stopped = False
            self._signal(signal.SIGCONT)

    def reset(self) -> None:
        """The invocation is over without an answer (timeout): end the process, refuse a late answer. `start` begins anew."""
        self._running.clear()
        self._phase = Phase.SHUTDOWN
        self.kill()

    # -- the runtime's calls (RuntimeHost) -----------------------------------------------------------------------------

    def runtime_connected(self, connection: RuntimeConnection) -> None:
        self._connections.add(connection)

    def runtime_disconnected(self, connection: RuntimeConnection) -> None:
        self._connections.discard(connection)
        if connection in self._parked:
            self._parked.remove(connection)
        elif connection.running is None:
            return
        if self._slots > 1 and self._phase is not Phase.SHUTDOWN:
            self.kill()  # one of its processes has ended: it will not be whole again

    def runtime_asks_next(self, connection: RuntimeConnection) -> None:
        if connection.running is not None:
            connection.write(refusal(403, "InvalidStateTransition", "the invocation in progress has not been answered"))
            return
        if self._phase is Phase.SHUTDOWN:
            return
        self._parked.append(connection)
        if self._ready is not None and not self._ready.done():
            if len(self._parked) == self._slots:
                self._on_ready()
        elif self._phase is Phase.RETURNING:
            if len(self._parked) == self._slots:
                self._set_frozen()
            self._host.environment_back(self)
        elif self._slots > 1 and self._phase is Phase.INVOKE:
            self._host.environment_back(self)

    def _on_ready(self) -> None:
        assert self._ready is not None
        self.ready_ns = time.monotonic_ns()
        if self._starter.mounts is not None and self._mount_fd < 0 and self._sandbox is not None:
            self._mount_fd = held_mounts(self._sandbox.pid)
        self._pass_output_on()
        self.watch_output(False)
        self._set_frozen()
        self._ready.set_result(None)

    def _set_frozen(self) -> None:
        self._phase = Phase.FROZEN
        if self._freezer is not None:
            self._freezer.add(self)
        else:
            self.watch_output(True)  # its threads run on, and may print

    def freeze(self) -> None:
        """Stop the group's processes; `dispatch` and `shutdown` continue them. What they printed since their answer is read now."""
        self._stopped = True
        self._signal(signal.SIGSTOP)
        self._pass_output_on()

    def _pass_output_on(self) -> None:
        late = self.read_output()
        if late:
            self._host.environment_output(self, late)

    def runtime_answers(
        self, connection: RuntimeConnection, request_id: str, body: bytes, *, failed: bool, error_type: str | None
    ) -> None:
        invocation = self._running.pop(request_id, None)
        if invocation is None:
            connection.write(refusal(400, "InvalidRequestID", "no such invocation in progress"))
            return
        if connection.running == request_id:
            connection.running = None
        else:  # it came over another connection than the event left by, as of clients with a pool of them
            for each in self._connections:
                each.running = None if each.running == request_id else each.running
        if not self.first_response_ns:
            self.first_response_ns = time.monotonic_ns()
        if not self._running:
            self._phase = Phase.RETURNING
        if len(body) > failures.RESPONSE_LIMIT_BYTES and not failed:
            body, failed, error_type = failures.response_too_large(), True, "Function.ResponseSizeTooLarge"
            connection.write(refusal(413, "RequestEntityTooLarge", "response exceeds the payload limit"))
        else:
            connection.accept()
        self._host.environment_answered(self, invocation, body, failed, error_type)

    def runtime_init_failed(self, connection: RuntimeConnection, body: bytes, error_type: str | None) -> None:
        connection.accept()
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(InitFailure(body, error_type or "Runtime.Unknown", "error", self._since_spawn_ms()))

    def runtime_asks_restore(self, connection: RuntimeConnection) -> None:
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n")

    def runtime_restore_failed(self, connection: RuntimeConnection, body: bytes) -> None:
        self.runtime_init_failed(connection, body, "Runtime.AfterRestoreError")

    # -- the end -------------------------------------------------------------------------------------------------------

    def _signal(self, number: signal.Signals) -> None:
        if self._sandbox is not None:
            self._sandbox.signal(number)

    def kill(self) -> None:
        """End all processes at once; `environment_exited` follows."""
        if self._sandbox is not None:
            self._sandbox.kill()

    async def shutdown(self, *, grace_s: float) -> None:
        """Shutdown phase: thaw, SIGTERM, `grace_s` for handlers of that signal, then SIGKILL; gives up port and /tmp."""
        self._phase = Phase.SHUTDOWN
        if self._sandbox is not None:
            self._close_port()  # a client that is hung up on would connect again
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            for connection in list(self._connections):
                connection.close()  # wakes a client parked on /next, so that its signal handlers run
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self.gone()
            self.kill()
            await self.gone()
        self.close()

    def close(self) -> None:
        """Give up the port and the scratch folder; the process is gone."""
        self._close_port()
        if self._mount_fd >= 0:
            os.close(self._mount_fd)
            self._mount_fd = -1
        shutil.rmtree(self.tmp, ignore_errors=True)
        self._milestones_path.unlink(missing_ok=True)

    def _close_port(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def sandbox_exited(self, status: int, cpu_s: float) -> None:
        self.exited_cpu_s += cpu_s
        self._sandbox = None
        self._stopped = False
        for connection in list(self._connections):
            connection.close()
        self._parked.clear()
        running, self._running = list(self._running.values()), {}
        was, self._phase = self._phase, Phase.SHUTDOWN
        assert self._gone is not None
        gone, self._gone = self._gone, None
        gone.set_result(None)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(InitFailure.died(status, self._since_spawn_ms(), out_of_memory=self.out_of_memory))
        elif was not in (Phase.INIT, Phase.SHUTDOWN):
            self._host.environment_exited(self, status, was, running)
