"""A SnapStart function's snapshot: one process that has finished init, and the forks that are its restores.

The process runs the official client up to the point where a restore would go on (`zygote` is its side); a fork goes on from there.
"""

import asyncio
import errno
import itertools
import json
import os
import shutil
import signal
import socket
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from warmfront.emulator.lambda_service import failures
from warmfront.emulator.lambda_service.environments.process_group import (
    Guard,
    Launch,
    Sandbox,
    SandboxHost,
    Told,
    output_pipe,
    spawn,
)
from warmfront.emulator.lambda_service.environments.starter import InitFailure
from warmfront.emulator.lambda_service.runtimes.runtime_api import ACCEPTED, RuntimeConnection, refusal

_REPLY_BYTES = 65536
_LOST = "the process of the snapshot has ended"


class SnapshotHost(Protocol):
    """Who is told what happens to a snapshot: its function."""

    def snapshot_output(self, chunk: bytes) -> None: ...

    def snapshot_began(self) -> None: ...

    def snapshot_done(self, failure: InitFailure | None, init_ms: float, open_then: list[str]) -> None:
        """`open_then`: what was open when it was taken and does not survive a restore."""


class Snapshot:
    """Taken when first asked for, or again when its process has died. A failed init fails every restore, as a version does."""

    def __init__(self, launch: Launch, host: SnapshotHost, guard: Guard, *, tmp: Path, limit_s: float) -> None:
        self.command = launch.argv[0]
        self.mounts = launch.mounts
        self.failure: InitFailure | None = None
        self.spawned_ns = 0
        self.ready_ns = 0
        self._launch = launch
        self._host = host
        self._guard = guard
        self._open_then: list[str] = []
        self._tmp = tmp
        self._limit_s = limit_s
        self._server: asyncio.Server | None = None
        self._sandbox: Sandbox | None = None
        self._control: socket.socket | None = None
        self._outgoing: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._tokens = itertools.count(1)
        self._restores: dict[int, asyncio.Future[tuple[int, int]]] = {}
        self._reaps: dict[int, Told] = {}
        self._forks: set[int] = set()
        self._connections: set[RuntimeConnection] = set()
        self._ready: asyncio.Future[InitFailure | None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._taking: asyncio.Task[InitFailure | None] | None = None
        self._closing = False

    # -- what others ask -----------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        return self._sandbox.pid if self._sandbox is not None else None

    @property
    def state(self) -> str:
        if self.failure is not None:
            return "failed"
        if self._taking is None:
            return "none"
        return "ready" if self._taking.done() else "making"

    @property
    def init_duration_ms(self) -> float | None:
        return (self.ready_ns - self.spawned_ns) / 1e6 if self.ready_ns else None

    def describe(self) -> dict[str, object]:
        failure = self.failure
        return {
            "state": self.state,
            "pid": self.pid,
            "init_duration_ms": self.init_duration_ms,
            "reason": None if failure is None else failure.error_type or failure.status,
        }

    @property
    def milestones_path(self) -> Path:
        return self._tmp.with_suffix(".milestones")

    async def taken(self) -> InitFailure | None:
        """Wait until there is a snapshot; why there is none, otherwise."""
        if self._taking is None:
            self._taking = asyncio.get_running_loop().create_task(self._take())
        return await asyncio.shield(self._taking)

    async def _take(self) -> InitFailure | None:
        self._tmp.mkdir(parents=True, exist_ok=True)
        self.milestones_path.unlink(missing_ok=True)
        self._host.snapshot_began()
        self.failure = await self._init()
        if self.failure is not None:
            await self._end()
        if not self._closing:
            self._host.snapshot_done(self.failure, self.init_duration_ms or 0.0, self._open_then)
        return self.failure

    async def _init(self) -> InitFailure | None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: RuntimeConnection(self), "127.0.0.1", 0)
        self._ready = loop.create_future()
        self.spawned_ns, self.ready_ns = time.monotonic_ns(), 0
        try:
            self._start()
        except OSError as error:
            self._let_go()
            return InitFailure(failures.spawn_failed("", str(error)), "Runtime.InvalidEntrypoint", "error", 0.0)
        try:
            async with asyncio.timeout(self._limit_s):
                return await self._ready
        except TimeoutError:
            return InitFailure(b"", "", "timeout", self._since_spawn_ms())

    def _start(self) -> None:
        assert self._server is not None
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        environ = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}",
            "TMPDIR": str(self._tmp),
            "WARMFRONT_MILESTONES": str(self.milestones_path),
            "WARMFRONT_SNAPSHOT": str(theirs.fileno()),
        }
        with theirs:
            self._sandbox = spawn(self._launch, environ, self, self._guard, pass_fds=(theirs.fileno(),))
        loop = asyncio.get_running_loop()
        self._gone = loop.create_future()
        loop.add_reader(self._control, self._on_reply)

    def _since_spawn_ms(self) -> float:
        return (time.monotonic_ns() - self.spawned_ns) / 1e6

    # -- restores ------------------------------------------------------------------------------------------------------

    async def open(self, environ: Mapping[str, str], host: SandboxHost, guard: Guard, held_fd: int = -1) -> Sandbox:
        """Fork a process with these variables. Raises OSError. The snapshot must be `taken`."""
        token = next(self._tokens)
        own = dict(environ)
        order: dict[str, object] = {"fork": token}
        if self.mounts is not None:
            own = self.mounts.adapted(own)
            order["mounts"] = self.mounts.fork_entry(held_fd)
        else:
            self._copy_tmp(Path(own["TMPDIR"]))
        order |= {"note": own.pop("WARMFRONT_MILESTONES"), "environ": own}
        restored = self._restores[token] = asyncio.get_running_loop().create_future()
        output_fd, write_fd = output_pipe()
        try:
            self._order(order, write_fd, *((os.dup(held_fd),) if held_fd >= 0 else ()))
            pid, forked_ns = await restored
            sandbox = Sandbox(pid, output_fd, self._reap, host, guard)
        except BaseException:
            os.close(output_fd)
            raise
        finally:
            self._restores.pop(token, None)
        sandbox.began_ns = forked_ns
        return sandbox

    def _copy_tmp(self, tmp: Path) -> None:
        """What init left in /tmp is part of the snapshot."""
        if any(self._tmp.iterdir()) and not any(tmp.iterdir()):
            shutil.copytree(self._tmp, tmp, dirs_exist_ok=True, symlinks=True)

    def _reap(self, pid: int, told: Told) -> None:
        if self._control is None:  # its parent is gone, and its status with it
            self._forks.discard(pid)
            told(-signal.SIGKILL, 0.0)
            return
        self._reaps[pid] = told
        self._order({"reap": pid})

    # -- the socket ----------------------------------------------------------------------------------------------------

    def _order(self, order: dict[str, object], *fds: int) -> None:
        """Send, in order; takes the descriptors over."""
        if self._control is None:
            for fd in fds:
                os.close(fd)
            raise OSError(errno.ECONNRESET, _LOST)
        self._outgoing.append((json.dumps(order).encode(), fds))
        self._flush()

    def _flush(self) -> None:
        control = self._control
        while self._outgoing and control is not None:
            data, fds = self._outgoing[0]
            try:
                socket.send_fds(control, [data], fds)
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(control, self._flush)
                return
            except OSError:
                return  # it has died: `sandbox_exited` follows
            self._outgoing.popleft()
            for fd in fds:
                os.close(fd)
        if control is not None:
            asyncio.get_running_loop().remove_writer(control)

    def _on_reply(self) -> None:
        assert self._control is not None
        while True:
            try:
                data = self._control.recv(_REPLY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                asyncio.get_running_loop().remove_reader(self._control)
                return
            self._on_message(json.loads(data))

    def _on_message(self, message: dict[str, object]) -> None:
        if "ready" in message:
            self._on_ready(message)
        elif "reaped" in message:
            self._on_reaped(message)
        elif "failed" in message:
            waiting = self._restores.get(int(str(message["failed"])))
            if waiting is not None and not waiting.done():
                waiting.set_exception(OSError(errno.EAGAIN, str(message["reason"])))
        else:
            self._on_forked(int(str(message["forked"])), int(str(message["pid"])), int(str(message["at"])))

    def _on_ready(self, message: dict[str, object]) -> None:
        assert self._ready is not None
        if self._ready.done():
            return
        found = message["open"]
        assert isinstance(found, list)
        self.ready_ns = time.monotonic_ns()
        self._open_then = found
        self._ready.set_result(None)

    def _on_forked(self, token: int, pid: int, forked_ns: int) -> None:
        self._forks.add(pid)
        waiting = self._restores.get(token)
        if waiting is not None and not waiting.done():
            waiting.set_result((pid, forked_ns))
            return
        os.killpg(pid, signal.SIGKILL)  # whoever asked has gone
        self._reap(pid, lambda *_: None)

    def _on_reaped(self, message: dict[str, object]) -> None:
        pid = int(str(message["reaped"]))
        self._forks.discard(pid)
        if (told := self._reaps.pop(pid, None)) is not None:
            told(int(str(message["status"])), float(str(message["cpu_s"])))
        if self._closing and not self._forks:
            self._hang_up()

    # -- its init (RuntimeHost, SandboxHost) ---------------------------------------------------------------------------

    def runtime_connected(self, connection: RuntimeConnection) -> None:
        self._connections.add(connection)

    def runtime_disconnected(self, connection: RuntimeConnection) -> None:
        self._connections.discard(connection)

    def runtime_asks_next(self, connection: RuntimeConnection) -> None:
        connection.write(refusal(403, "InvalidStateTransition", "a snapshot takes no events"))

    def runtime_answers(
        self,
        connection: RuntimeConnection,
        request_id: str,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
        *,
        failed: bool,  # noqa: ARG002
        error_type: str | None,  # noqa: ARG002
    ) -> None:
        connection.write(refusal(400, "InvalidRequestID", "no such invocation in progress"))

    def runtime_init_failed(self, connection: RuntimeConnection, body: bytes, error_type: str | None) -> None:
        connection.write(ACCEPTED)
        self._fail(InitFailure(body, error_type or "Runtime.Unknown", "error", self._since_spawn_ms()))

    def runtime_asks_restore(self, connection: RuntimeConnection) -> None:
        connection.write(refusal(403, "InvalidStateTransition", "this process waits for its restores elsewhere"))

    def runtime_restore_failed(self, connection: RuntimeConnection, body: bytes) -> None:
        self.runtime_init_failed(connection, body, "Runtime.AfterRestoreError")

    def _fail(self, failure: InitFailure) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(failure)

    def sandbox_output(self, chunk: bytes) -> None:
        self._host.snapshot_output(chunk)

    def sandbox_exited(self, status: int, cpu_s: float) -> None:  # noqa: ARG002
        """The process has ended: in its init, or by somebody's hand. Its forks live on; the next restore takes a new snapshot."""
        self._sandbox = None
        if self._control is not None:
            self._on_reply()
        self._let_go()
        self._fail(
            InitFailure(failures.runtime_exited("", status), "Runtime.ExitError", "error", self._since_spawn_ms())
        )
        for waiting in self._restores.values():
            if not waiting.done():
                waiting.set_exception(OSError(errno.ECONNRESET, _LOST))
        reaps, self._reaps = self._reaps, {}
        self._forks.clear()
        if self.failure is None and self.ready_ns:
            self._taking = None
        for told in reaps.values():
            told(-signal.SIGKILL, 0.0)
        if self._gone is not None:
            self._gone.set_result(None)
            self._gone = None

    def _let_go(self) -> None:
        """Of everything but what it forked."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            asyncio.get_running_loop().remove_writer(self._control)
            self._control.close()
            self._control = None
        for _, fds in self._outgoing:
            for fd in fds:
                os.close(fd)
        self._outgoing.clear()
        for connection in list(self._connections):
            connection.close()
        if self._server is not None:
            self._server.close()
            self._server = None

    # -- the end -------------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        if self._sandbox is not None:
            self._sandbox.kill()
        if self._gone is not None:
            await asyncio.shield(self._gone)

    def leave(self) -> None:
        """No restores are asked for any more: ends when the last environment restored from it has."""
        self._closing = True
        if not self._forks and not self._restores:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._sandbox is not None:
            self._sandbox.kill()
        self._remove_files()

    def _remove_files(self) -> None:
        shutil.rmtree(self._tmp, ignore_errors=True)
        self.milestones_path.unlink(missing_ok=True)

    async def close(self) -> None:
        """End it at once."""
        self._closing = True
        if self._taking is not None and not self._taking.done():
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)
        await self._end()
        self._remove_files()
