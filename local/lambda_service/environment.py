"""One execution environment: one process group behind one Runtime API port, in exactly one phase. Knows no routes and no scaling.

Phases: init -> frozen <-> invoke -> returning -> frozen, and shutdown from any. Frozen means stopped (SIGSTOP) as a group: timers stand
still and nobody reads sockets between invocations, as on Lambda
(docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from local.lambda_service import failures
from local.lambda_service.runtime_api import ACCEPTED, RuntimeConnection, next_head, refusal

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_READ_BYTES = 1 << 18
_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1 << 18


class Phase(Enum):
    INIT = "init"
    FROZEN = "frozen"
    INVOKE = "invoke"
    RETURNING = "returning"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start the process: what the runtime of a function needs, all resolved."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    """Without AWS_LAMBDA_RUNTIME_API and the log stream, which belong to one environment."""
    working_directory: Path
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class InitFailure:
    """Why an init did not end at `/next`."""

    payload: bytes
    error_type: str
    status: str
    """`error` or `timeout`, as INIT_REPORT words it."""
    init_ms: float


class Invocation:
    """One event on its way through an environment; the future carries its outcome to the caller."""

    __slots__ = (
        "arn",
        "client_context",
        "cold",
        "dispatched_ns",
        "environment",
        "event",
        "future",
        "init_ms",
        "live",
        "log",
        "request_id",
        "restore_ms",
        "tail",
        "timer",
        "trace_id",
        "version",
    )

    def __init__(
        self,
        event: bytes,
        *,
        request_id: str,
        trace_id: str,
        arn: str,
        version: str,
        client_context: str | None,
        tail: bool,
    ) -> None:
        self.event = event
        self.request_id = request_id
        self.trace_id = trace_id
        self.arn = arn
        self.version = version
        self.client_context = client_context
        self.tail = tail
        self.cold = False
        self.init_ms: float | None = None
        self.restore_ms: float | None = None
        self.dispatched_ns = 0
        self.environment: Environment | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.log: list[bytes] = []
        self.live = False
        """Output is read as it comes, because the invocation runs long."""
        self.future: asyncio.Future[object] | None = None


class EnvironmentHost(Protocol):
    """Who is told what happens to an environment: its function."""

    def environment_answered(
        self, environment: "Environment", invocation: Invocation, body: bytes, failed: bool, error_type: str | None
    ) -> None: ...

    def environment_back(self, environment: "Environment") -> None: ...

    def environment_exited(
        self, environment: "Environment", status: int, was: Phase, running: list[Invocation]
    ) -> None: ...

    def environment_output(self, environment: "Environment", chunk: bytes) -> None: ...


FREEZE_AFTER_S = 0.01
"""An environment is stopped when it has been idle for so long: one that gets its next event at once needs no two signals for it."""


class Freezer:
    """Stops environments that stay idle; one timer for all of them, none while nothing is idle."""

    def __init__(self, delay_s: float = FREEZE_AFTER_S) -> None:
        self._delay_s = delay_s
        self._due: deque[tuple[float, Environment, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, environment: "Environment") -> None:
        loop = asyncio.get_running_loop()
        self._due.append((loop.time() + self._delay_s, environment, environment.invocations))
        if self._timer is None:
            self._timer = loop.call_later(self._delay_s, self._freeze_due)

    def _freeze_due(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now_s = loop.time() + 0.001
        while self._due and self._due[0][0] <= now_s:
            _, environment, invocations = self._due.popleft()
            if environment.phase is Phase.FROZEN and environment.invocations == invocations:
                environment.freeze()
        if self._due:
            self._timer = loop.call_later(max(self._due[0][0] - loop.time(), 0.001), self._freeze_due)

    def close(self) -> None:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()


class Environment:
    """One execution environment; its id, port and /tmp outlive a reset of the process inside."""

    def __init__(
        self,
        environment_id: str,
        launch: Launch,
        host: EnvironmentHost,
        *,
        log_stream: str,
        tmp: Path,
        freezer: "Freezer | None",
        on_spawn: Callable[[int], None],
        on_gone: Callable[[int], None],
    ) -> None:
        self.id = environment_id
        self.log_stream = log_stream
        self.tmp = tmp
        self.retiring = False
        self.invocations = 0
        self.idle_since_s = 0.0
        self.exited_cpu_s = 0.0
        self.init_duration_ms: float | None = None
        self.spawned_ns = 0
        self.ready_ns = 0
        self.first_invoke_ns = 0
        self.first_response_ns = 0
        self._launch = launch
        self._host = host
        self._freezer = freezer
        self._stopped = False
        self._on_spawn = on_spawn
        self._on_gone = on_gone
        self._server: asyncio.Server | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._output_fd = -1
        self._statm_fd = -1
        self._watching_output = False
        self._connections: set[RuntimeConnection] = set()
        self._parked: list[RuntimeConnection] = []
        self._running: dict[str, Invocation] = {}
        self._phase = Phase.SHUTDOWN
        self._ready: asyncio.Future[InitFailure | None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self.memory_peak_bytes = 0

    # -- what others ask -----------------------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        """A process is there and can take an event."""
        return bool(self._parked)

    @property
    def running(self) -> list[Invocation]:
        return list(self._running.values())

    def memory_used_bytes(self) -> int:
        """Peak of the resident size seen so far; sampled when an invocation ends and while a long one runs."""
        if self._statm_fd >= 0:
            with contextlib.suppress(OSError, IndexError):
                resident = int(os.pread(self._statm_fd, 128, 0).split()[1]) * PAGE_BYTES
                self.memory_peak_bytes = max(self.memory_peak_bytes, resident)
        return self.memory_peak_bytes

    @property
    def _milestones_path(self) -> Path:
        return self.tmp.with_suffix(".milestones")

    def milestones(self) -> dict[str, object]:
        """What the bootstrap noted of the newest init and the first invocation: nanoseconds of CLOCK_MONOTONIC, and `spans`."""
        found: dict[str, object] = {}
        spans = []
        with contextlib.suppress(FileNotFoundError):
            for line in self._milestones_path.read_text(encoding="utf-8").splitlines():
                note = json.loads(line)
                if "span" in note:
                    spans.append({"name": note["span"], "start_ns": note["start_ns"], "end_ns": note["end_ns"]})
                else:
                    found.update(note)
        return {**found, "spans": spans}

    # -- init ----------------------------------------------------------------------------------------------------------

    async def start(self, *, limit_s: float) -> InitFailure | None:
        """Start the process and wait until it asks for its first event; None means ready.

        After a failure there is no process any more and the environment can be started again.
        """
        await self.gone()
        loop = asyncio.get_running_loop()
        if self._server is None:
            self._server = await loop.create_server(lambda: RuntimeConnection(self), "127.0.0.1", 0, backlog=64)
        self._phase = Phase.INIT
        self._ready = loop.create_future()
        self._gone = loop.create_future()
        self.spawned_ns = time.monotonic_ns()
        try:
            self._spawn(loop)
        except OSError as error:
            self._phase = Phase.SHUTDOWN
            self._gone = None
            return InitFailure(failures.spawn_failed("", str(error)), "Runtime.InvalidEntrypoint", "error", 0.0)
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
            return None
        self.kill()
        await self.gone()
        return failure

    async def gone(self) -> None:
        """Wait until there is no process."""
        if self._gone is not None:
            await asyncio.shield(self._gone)

    def _spawn(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        environ = {
            **self._launch.environ,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
            "AWS_LAMBDA_LOG_STREAM_NAME": self.log_stream,
            "TMPDIR": str(self.tmp),
            "WARMFRONT_MILESTONES": str(self._milestones_path),
        }
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read_fd, False)
        with contextlib.suppress(OSError):  # over the user's pipe quota: the default size will do
            fcntl.fcntl(read_fd, _F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            self._process = subprocess.Popen(
                self._launch.argv,
                env=environ,
                cwd=self._launch.working_directory,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=write_fd,
                stderr=write_fd,
            )
        except OSError:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        pid = self._process.pid
        self._on_spawn(pid)
        self._output_fd = read_fd
        self._statm_fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._pidfd = os.pidfd_open(pid)
        loop.add_reader(self._pidfd, self._on_exit)
        self.watch_output(True)

    def _since_spawn_ms(self) -> float:
        return (time.monotonic_ns() - self.spawned_ns) / 1e6

    # -- output --------------------------------------------------------------------------------------------------------

    def watch_output(self, on: bool) -> None:
        """Read output when it comes (init, long invocations) or only when asked: one system call against a wake-up per line."""
        if on == self._watching_output or self._output_fd < 0:
            return
        self._watching_output = on
        loop = asyncio.get_running_loop()
        if on:
            loop.add_reader(self._output_fd, self._on_output)
        else:
            loop.remove_reader(self._output_fd)

    def read_output(self) -> bytes:
        """All output that is there now."""
        if self._output_fd < 0:
            return b""
        chunks = []
        while True:
            try:
                chunk = os.read(self._output_fd, _READ_BYTES)
            except BlockingIOError:
                break
            if not chunk:
                self.watch_output(False)
                break
            chunks.append(chunk)
            if len(chunk) < _READ_BYTES:
                break
        return b"".join(chunks)

    def _on_output(self) -> None:
        chunk = self.read_output()
        if chunk:
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
            self._signal_group(signal.SIGCONT)

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

    def runtime_asks_next(self, connection: RuntimeConnection) -> None:
        if connection.running is not None:
            connection.write(refusal(403, "InvalidStateTransition", "the invocation in progress has not been answered"))
            return
        if self._phase is Phase.SHUTDOWN:
            return
        self._parked.append(connection)
        if self._ready is not None and not self._ready.done():
            self._on_ready()
        elif self._phase is Phase.RETURNING:
            self._set_frozen()
            self._host.environment_back(self)

    def _on_ready(self) -> None:
        assert self._ready is not None
        self.ready_ns = time.monotonic_ns()
        self._on_output()
        self.watch_output(False)
        self._set_frozen()
        self._ready.set_result(None)

    def _set_frozen(self) -> None:
        self._phase = Phase.FROZEN
        if self._freezer is not None:
            self._freezer.add(self)

    def freeze(self) -> None:
        """Stop the group's processes; `dispatch` and `shutdown` continue them."""
        self._stopped = True
        self._signal_group(signal.SIGSTOP)

    def runtime_answers(
        self, connection: RuntimeConnection, request_id: str, body: bytes, *, failed: bool, error_type: str | None
    ) -> None:
        invocation = self._running.pop(request_id, None)
        if invocation is None:
            connection.write(refusal(400, "InvalidRequestID", "no such invocation in progress"))
            return
        connection.running = None
        if not self.first_response_ns:
            self.first_response_ns = time.monotonic_ns()
        self._phase = Phase.RETURNING
        if len(body) > failures.RESPONSE_LIMIT_BYTES and not failed:
            body, failed, error_type = failures.response_too_large(), True, "Function.ResponseSizeTooLarge"
            connection.write(refusal(413, "RequestEntityTooLarge", "response exceeds the payload limit"))
        else:
            connection.write(ACCEPTED)
        self._host.environment_answered(self, invocation, body, failed, error_type)

    def runtime_init_failed(self, connection: RuntimeConnection, body: bytes, error_type: str | None) -> None:
        connection.write(ACCEPTED)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(InitFailure(body, error_type or "Runtime.Unknown", "error", self._since_spawn_ms()))

    def runtime_asks_restore(self, connection: RuntimeConnection) -> None:
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n")

    def runtime_restore_failed(self, connection: RuntimeConnection, body: bytes) -> None:
        self.runtime_init_failed(connection, body, "Runtime.AfterRestoreError")

    # -- the end -------------------------------------------------------------------------------------------------------

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End the whole process group at once; `environment_exited` follows."""
        self._signal_group(signal.SIGKILL)

    async def shutdown(self, *, grace_s: float) -> None:
        """Shutdown phase: thaw, SIGTERM, `grace_s` for handlers of that signal, then SIGKILL; closes the port."""
        self._phase = Phase.SHUTDOWN
        if self._process is not None and self._gone is not None:
            self._close_port()  # a client that is hung up on would connect again
            self._signal_group(signal.SIGTERM)
            self._signal_group(signal.SIGCONT)
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
        shutil.rmtree(self.tmp, ignore_errors=True)
        self._milestones_path.unlink(missing_ok=True)

    def _close_port(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _on_exit(self) -> None:
        """The process has ended: reap it, read what it left, tell whoever waits."""
        assert self._process is not None
        assert self._gone is not None
        loop = asyncio.get_running_loop()
        pid = self._process.pid
        loop.remove_reader(self._pidfd)
        _, wait_status, usage = os.wait4(pid, 0)
        status = os.waitstatus_to_exitcode(wait_status)
        self._process.returncode = status
        self.exited_cpu_s += usage.ru_utime + usage.ru_stime
        self._signal_group(signal.SIGKILL)  # whatever the process started must not outlive it
        self._process = None
        self._stopped = False
        self._on_gone(pid)
        self._on_output()
        self._close_descriptors()
        for connection in list(self._connections):
            connection.close()
        self._parked.clear()
        running, self._running = list(self._running.values()), {}
        was = self._phase
        self._phase = Phase.SHUTDOWN
        gone, self._gone = self._gone, None
        gone.set_result(None)
        if self._ready is not None and not self._ready.done():
            payload = failures.runtime_exited("", status)
            self._ready.set_result(InitFailure(payload, "Runtime.ExitError", "error", self._since_spawn_ms()))
        elif was not in (Phase.INIT, Phase.SHUTDOWN):
            self._host.environment_exited(self, status, was, running)

    def _close_descriptors(self) -> None:
        self.watch_output(False)
        for descriptor in (self._pidfd, self._output_fd, self._statm_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self._pidfd = self._output_fd = self._statm_fd = -1
