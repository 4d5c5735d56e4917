"""The processes of one execution environment: started, read from, measured, stopped, ended."""

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from warmfront.emulator.lambda_service.environments.mount_namespace import VARIABLE, FunctionMounts
from warmfront.emulator.lambda_service.runtimes.log_frames import FrameReader

_READ_BYTES = 1 << 18
_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1 << 18
FILE_DESCRIPTORS = 1024
"""A function has so many (docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html), whatever the emulator itself may open."""
_ONE_THREAD = b"\nThreads:\t1\n"


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start the process: what the runtime of a function needs, all resolved."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    """Without AWS_LAMBDA_RUNTIME_API and the log stream, which belong to one environment."""
    working_directory: Path
    credentials: Callable[[], Mapping[str, str]] = dict
    """AWS credentials for a process that starts now: real ones expire."""
    mounts: FunctionMounts | None = None
    """What its processes mount; None: they see this machine's folders."""
    enters_itself: bool = True
    """Our bootstrap mounts its folders itself; False for other programs, which start when that is done."""
    own_bootstrap: bool = True
    """It begins in our bootstrap, which notes milestones; False for a `bootstrap` the function brought."""

    @property
    def command(self) -> str:
        return self.argv[0]

    async def open(
        self, environ: Mapping[str, str], host: "SandboxHost", guard: "Guard", held_fd: int = -1
    ) -> "Sandbox":
        """A process with these variables beside the launch's; `held_fd`: mounts of the last one, or -1. Raises OSError."""
        return spawn(self, environ, host, guard, held_fd=held_fd)


@dataclass(frozen=True, slots=True)
class Guard:
    """Who is told of every process group, so that none outlives the emulator."""

    on_spawn: Callable[[int], None] = lambda _: None
    on_gone: Callable[[int], None] = lambda _: None


class SandboxHost(Protocol):
    """Who owns the processes: an execution environment."""

    def sandbox_output(self, chunk: bytes) -> None: ...

    def sandbox_exited(self, status: int, cpu_s: float) -> None: ...


type Told = Callable[[int, float], None]
"""Takes an exit status and the CPU seconds of a process that has ended."""
type Reap = Callable[[int, Told], None]
"""Reaps a process that has ended, and tells."""


def spawn(
    launch: Launch,
    environ: Mapping[str, str],
    host: SandboxHost,
    guard: Guard,
    *,
    pass_fds: tuple[int, ...] = (),
    held_fd: int = -1,
) -> "Sandbox":
    """Start a process in a session of its own. Raises OSError when it cannot be started."""
    output_fd, write_fd = output_pipe()
    argv, mounts, folder = launch.argv, launch.mounts, launch.working_directory
    entry = {}
    if mounts is not None:
        environ, folder = mounts.adapted(environ), Path("/")
        entry = {VARIABLE: mounts.entry(held_fd, keep="WARMFRONT_SNAPSHOT" in environ)}
        pass_fds = (*pass_fds, *mounts.descriptors(held_fd))
        argv = argv if launch.enters_itself else mounts.command(argv)
    try:
        process = subprocess.Popen(
            argv,
            env={
                **launch.credentials(),
                **launch.environ,
                **(environ if launch.own_bootstrap else _public(environ)),
                **entry,
            },
            cwd=folder,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=write_fd,
            stderr=write_fd,
            pass_fds=pass_fds,
        )
    except OSError:
        os.close(output_fd)
        raise
    finally:
        os.close(write_fd)

    def reap(pid: int, told: Told) -> None:
        _, wait_status, usage = os.wait4(pid, 0)
        process.returncode = os.waitstatus_to_exitcode(wait_status)
        told(process.returncode, usage.ru_utime + usage.ru_stime)

    return Sandbox(process.pid, output_fd, reap, host, guard)


def file_descriptors() -> int:
    """How many a function's process may open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return FILE_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(FILE_DESCRIPTORS, hard)


def open_many_files() -> None:
    """Lets this process open as many files as it is allowed: each environment takes five, and 1,024 is the usual start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _public(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("WARMFRONT_")}


def output_pipe() -> tuple[int, int]:
    """Read and write end of what a process prints to."""
    output_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(output_fd, False)
    with contextlib.suppress(OSError):  # over the user's pipe quota: the default size will do
        fcntl.fcntl(output_fd, _F_SETPIPE_SZ, _PIPE_BYTES)
    return output_fd, write_fd


class Sandbox:
    """One process in a session of its own, with all it starts."""

    def __init__(self, pid: int, output_fd: int, reap: Reap, host: SandboxHost, guard: Guard) -> None:
        self.pid = pid
        self._output_fd = output_fd
        self._reap = reap
        self._host = host
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._watching = False
        self._frames = FrameReader()
        self.began_ns = time.monotonic_ns()
        # A handler that wakes up must not push the emulator, which just woke it, off the processor: fewer switches, 6 %
        # less CPU per invocation when more environments run than there are cores.
        os.sched_setscheduler(self.pid, os.SCHED_BATCH, os.sched_param(0))
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (file_descriptors(), file_descriptors()))
        guard.on_spawn(self.pid)
        self._status_fd = os.open(f"/proc/{self.pid}/status", os.O_RDONLY | os.O_CLOEXEC)
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)
        self.watch_output(True)

    # -- output --------------------------------------------------------------------------------------------------------

    def watch_output(self, on: bool) -> None:
        """Read output when it comes (init, long invocations) or only when asked: one system call against a wake-up per line."""
        if on == self._watching or self._output_fd < 0:
            return
        self._watching = on
        if on:
            self._loop.add_reader(self._output_fd, self._on_output)
        else:
            self._loop.remove_reader(self._output_fd)

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
        return self._frames.read(b"".join(chunks))

    def _on_output(self) -> None:
        chunk = self.read_output()
        if chunk:
            self._host.sandbox_output(chunk)

    def pids(self) -> list[int]:
        return [self.pid, *_descendants(self.pid)]

    # -- memory --------------------------------------------------------------------------------------------------------

    def memory_peak_bytes(self) -> int:
        """Most that the process ever held at once (the kernel keeps that), with what its children hold now."""
        status = _read_start(self._status_fd)
        peak = _memory_of(status, b"VmHWM:")
        if _ONE_THREAD in status and not _children(self.pid, self.pid):
            return peak  # most processes are alone; to list a family costs three times as much
        for child in _descendants(self.pid):
            with contextlib.suppress(OSError):
                descriptor = os.open(f"/proc/{child}/status", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    peak += _memory_of(_read_start(descriptor), b"VmRSS:")
                finally:
                    os.close(descriptor)
        return peak

    # -- signals and the end -------------------------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        """To the whole process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End everything at once, with what has left the group; `sandbox_exited` follows."""
        strays = _descendants(self.pid)
        self.signal(signal.SIGKILL)
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _on_exit(self) -> None:
        """The process has ended: have it reaped, read what it left, tell the host."""
        self._loop.remove_reader(self._pidfd)
        self.signal(
            signal.SIGKILL
        )  # before it is reaped: whatever it started must not outlive it, and its id is still its own
        self._reap(self.pid, self._on_reaped)

    def _on_reaped(self, status: int, cpu_s: float) -> None:
        self._guard.on_gone(self.pid)
        self._on_output()
        if rest := self._frames.rest():
            self._host.sandbox_output(rest)
        self.watch_output(False)
        for descriptor in (self._pidfd, self._output_fd, self._status_fd):
            os.close(descriptor)
        self._output_fd = self._status_fd = -1
        self._host.sandbox_exited(status, cpu_s)


def _read_start(descriptor: int) -> bytes:
    """The first 4 kB of a file below /proc; nothing when its process is gone."""
    try:
        return os.pread(descriptor, 4096, 0)
    except OSError:
        return b""


def _memory_of(status: bytes, field: bytes) -> int:
    """A field of /proc/PID/status in bytes; 0 where it is not, as when the process is gone."""
    start = status.find(field)
    return int(status[start + len(field) :].split(None, 1)[0]) * 1024 if start >= 0 else 0


def _children(pid: int, thread: int) -> list[int]:
    """What a thread of a process has started; nothing where the process is gone or the kernel does not tell."""
    try:
        descriptor = os.open(f"/proc/{pid}/task/{thread}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return [int(child) for child in os.read(descriptor, 1 << 16).split()]
    except OSError:
        return []
    finally:
        os.close(descriptor)


def _descendants(pid: int) -> list[int]:
    """Children of a process, and theirs, as the kernel lists them by thread."""
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):  # noqa: PTH208 - names only, ten times a second
                children = _children(parent, int(thread))
                found += children
                queue += children
    return found
