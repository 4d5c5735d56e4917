"""Starts, awaits and stops a child process that writes its output to a file."""

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from . import reaper
from .errors import BackingError, PortTakenError
from .identity import SELF, Identity
from .watcher import Watcher, get_watcher

TAIL_LINES = 12
PORT_TAKEN = b"ddress already in use"
FALLBACK_WAIT_S = 0.02
IN_MODIFY = 0x2  # inotify(7)


class Child:
    """A process with its own session, whose output goes to a file, and which never outlives this process."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], output: Path, offset: int, watcher: Watcher) -> None:
        self.name = name
        self.pid = popen.pid
        self._popen = popen
        self._output = output
        self._offset = offset  # the file may still hold the output of an earlier run
        self._watcher = watcher
        self._pidfd = os.pidfd_open(popen.pid)

    @classmethod
    def start(
        cls,
        name: str,
        argv: list[str],
        *,
        output: Path,
        env: Mapping[str, str],
        stdin: bytes = b"",
        identity: Identity = SELF,
        first_signal: int = 0,
        keep_open: Sequence[int] = (),
        watcher: Watcher | None = None,
    ) -> Self:
        watcher = watcher or get_watcher()
        with output.open("ab") as log, _memory_file(stdin) as source:
            offset = log.tell()
            try:
                popen = subprocess.Popen(
                    identity.command(argv),
                    stdin=source,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(env),
                    cwd="/",
                    # A session, not only a group: stopped members of a group get SIGHUP when its parent dies, and
                    # may be gone before the watcher has seen their descendants (setpgid(2), orphaned groups).
                    start_new_session=True,
                    pass_fds=tuple(keep_open),
                )
            except OSError as error:
                raise BackingError(f"{name} cannot be started: {argv[0]}: {error.strerror}") from error
        watcher.register(popen.pid, first_signal=first_signal)
        return cls(name, popen, output, offset, watcher)

    @property
    def running(self) -> bool:
        return self._pidfd >= 0 and not self.wait(0)

    @property
    def output(self) -> bytes:
        with self._output.open("rb") as file:
            file.seek(self._offset)
            return file.read()

    def await_output(self, text: bytes, *, timeout_s: float) -> None:
        """Wait until `text` is in the output.

        Raises:
            BackingError: the child ended, or did not write the text within `timeout_s`; with the end of its output.
        """
        deadline = time.monotonic() + timeout_s
        with _Changes(self._output) as changes:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if changes.fd >= 0:
                poll.register(changes.fd, select.POLLIN)
            while text not in self.output:
                if not self.running:
                    raise self.failure("ended before it was ready")
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise self.failure(f"was not ready within {timeout_s:g} s")
                poll.poll(1000 * (left_s if changes.fd >= 0 else min(left_s, FALLBACK_WAIT_S)))
                changes.drain()

    def wait(self, timeout_s: float) -> bool:
        """Return whether the child ended within `timeout_s`. It keeps its process id until `stop` or `result`."""
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout_s) * 1000))

    def result(self, *, timeout_s: float) -> bytes:
        """Wait until the child ends and return its whole output.

        Raises:
            BackingError: it failed, or did not end within `timeout_s`.
        """
        if not self.wait(timeout_s):
            self.stop(grace_s=0)
            raise self.failure(f"did not end within {timeout_s:g} s")
        self._end_group()
        if self._popen.returncode:
            raise self.failure(f"failed with exit status {self._popen.returncode}")
        return self.output

    def stop(self, *, polite: int = signal.SIGTERM, grace_s: float = 5.0) -> None:
        """Send a signal, wait up to `grace_s` seconds, then kill the group and its descendants. Safe to call twice."""
        if self.running:
            self.send(polite)
            self.send(signal.SIGCONT)  # a stopped process does not receive the first signal
            self.wait(grace_s)
        if self._pidfd >= 0:
            self._end_group()

    def send(self, number: int) -> None:
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, number)

    def failure(self, what: str) -> BackingError:
        output = self.output
        tail = output.decode(errors="replace").splitlines()[-TAIL_LINES:]
        kind = PortTakenError if PORT_TAKEN in output else BackingError
        return kind("\n  ".join([f"{self.name} {what}; the end of {self._output}:", *(tail or ["(nothing)"])]))

    def _end_group(self) -> None:
        # Before the leader is reaped: until then, the kernel cannot give the group's id to another process.
        reaper.end({self.pid: 0})
        self._popen.wait()
        self._watcher.unregister(self.pid)
        os.close(self._pidfd)
        self._pidfd = -1


class _Changes:
    """Wakes a poll when a file is written to. It has no descriptor if the user is out of inotify instances."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None)
        self.fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd >= 0 and libc.inotify_add_watch(self.fd, os.fsencode(path), IN_MODIFY) < 0:
            self._close()

    def drain(self) -> None:
        if self.fd >= 0:
            try:
                os.read(self.fd, 65_536)
            except BlockingIOError:
                return

    def _close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def _memory_file(content: bytes) -> BinaryIO:
    """An in-memory file as a child's stdin. Passwords go through it, so no file and no process list shows them."""
    file = os.fdopen(os.memfd_create("stdin"), "wb+")
    file.write(content)
    file.seek(0)
    return file
