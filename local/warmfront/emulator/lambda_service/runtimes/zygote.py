"""Runs inside a SnapStart function's first process: holds it where the snapshot is taken, and forks it for every restore.

Loaded by the bootstrap from its file, so it may import nothing of the emulator's. It speaks to the emulator's `snapshot` over one socket
and knows nothing of environments.
"""

import contextlib
import gc
import importlib.util
import json
import os
import select
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

NATIVE = "runtime_client"
"""The official client's native module: it fixes the Runtime API's address when it is loaded, so a fork loads it, never the zygote."""
ORDER_BYTES = 65536

Note = Callable[..., None]


class _Later(ModuleType):
    """Stands for the native module until there is an address of one's own."""

    def initialize_client(self, user_agent: str) -> None:
        self.user_agent = user_agent


def hold_native() -> None:
    """To be called before the official client is imported."""
    sys.modules[NATIVE] = _Later(NATIVE)


class Zygote:
    """The process a snapshot is made of. `restore_next` is where the official client waits for a restore: it returns in forks only."""

    def __init__(self, control_fd: int, client: Any, log_fd: int, note: Note, note_to: Callable[[str], None]) -> None:
        """`log_fd`: where the client writes log frames, beside standard output."""
        self._log_fd = log_fd
        self._control = socket.socket(fileno=control_fd)
        self._client = client
        self._note = note
        self._note_to = note_to
        self._spec: Any = None
        self._loops: list[Any] = []
        self._epolls: dict[int, list[tuple[int, int]]] = {}
        self._connections: list[int] = []
        client.restore_next = self.restore_next

    def restore_next(self) -> None:
        later = sys.modules.pop(NATIVE)
        self._spec = importlib.util.find_spec(NATIVE)
        sys.modules[NATIVE] = later
        _load_ahead()
        # Without it a collection in a fork would write to every object's header, and no page stayed shared.
        gc.collect()
        found = self._look_around()
        gc.freeze()
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
        _flush()
        self._say(ready=time.monotonic_ns(), open=found)
        self._serve()

    # -- what a fork must not share ------------------------------------------------------------------------------------

    def _look_around(self) -> list[str]:
        """Remember connections and event loops; returns what somebody should know of."""
        found = [f"thread {each.name!r}" for each in threading.enumerate() if each is not threading.main_thread()]
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
            fd = int(name)
            try:
                target = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
            except OSError:
                continue
            if target.startswith("socket:") and fd != self._control.fileno():
                found += self._look_at_socket(fd)
            elif target == "anon_inode:[eventpoll]":
                self._epolls[fd] = _watched_by(fd)
        if "asyncio.selector_events" in sys.modules:
            kind = sys.modules["asyncio.selector_events"].BaseSelectorEventLoop
            self._loops = [each for each in gc.get_objects() if isinstance(each, kind) and not each.is_closed()]
        return found

    def _look_at_socket(self, fd: int) -> list[str]:
        with socket.socket(fileno=os.dup(fd)) as each:
            network = each.family in (socket.AF_INET, socket.AF_INET6)
            if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return [f"listening socket {fd} on {_address(each.getsockname())}"]
            try:
                peer = each.getpeername()
            except OSError:
                return []  # not connected: nothing that a restore could break
            if each.type & socket.SOCK_STREAM and (network or peer):
                self._connections.append(fd)
            elif not network and not peer:
                return []  # half of a pair inside this process, such as an event loop's
            return [f"socket {fd} to {_address(peer)}"]

    def _make_own(self) -> None:
        """In a fork: connections are broken, as after a restore on Lambda, and event loops are nobody else's."""
        for fd in self._connections:
            mine, other = socket.socketpair()
            other.close()
            os.dup2(mine.fileno(), fd, inheritable=False)
            mine.close()
        for fd, watched in self._epolls.items():
            with select.epoll() as fresh:
                os.dup2(fresh.fileno(), fd, inheritable=False)
                for other_fd, events in watched:
                    fresh.register(other_fd, events)
        for loop in self._loops:
            loop._close_self_pipe()
            loop._make_self_pipe()

    # -- orders --------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Fork on order until the emulator hangs up."""
        while True:
            data, fds, _, _ = socket.recv_fds(self._control, ORDER_BYTES, 2)
            if not data:
                os._exit(0)
            order = json.loads(data)
            if "reap" in order:
                self._reap(order["reap"])
            elif self._fork(order, *fds):
                return

    def _fork(self, order: dict[str, Any], output_fd: int, mount_fd: int = -1) -> bool:
        """True in the fork. `mount_fd`: mounts of the environment's last process."""
        try:
            pid = os.fork()
        except OSError as error:
            _close(output_fd, mount_fd)
            self._say(failed=order["fork"], reason=error.strerror)
            return False
        if pid:
            _close(output_fd, mount_fd)
            return False
        forked_ns = time.monotonic_ns()
        os.setsid()
        self._say(forked=order["fork"], pid=os.getpid(), at=forked_ns)
        self._control.close()
        os.dup2(output_fd, 1)
        os.dup2(output_fd, 2)
        os.dup2(output_fd, self._log_fd, inheritable=False)
        os.close(output_fd)
        if "mounts" in order:
            sys.modules["warmfront_namespace"].enter_fork(order["mounts"], mount_fd)
        self._become(order, forked_ns)
        return True

    def _become(self, order: dict[str, Any], forked_ns: int) -> None:
        """In a fork: the environment that was ordered."""
        old_tmp = os.environ.get("TMPDIR")
        os.environ.update(order["environ"])
        self._note_to(order["note"])
        tempfile: Any = sys.modules.get("tempfile")
        if tempfile is not None and old_tmp is not None and tempfile.tempdir == old_tmp:
            tempfile.tempdir = os.environ["TMPDIR"]
        self._make_own()
        self._load_native()
        self._client.lambda_runtime_address = os.environ["AWS_LAMBDA_RUNTIME_API"]
        del self._client.restore_next
        wait = self._client.wait_next_invocation
        client_ns = time.monotonic_ns()

        def wait_and_note() -> object:
            del self._client.wait_next_invocation
            self._note(forked_ns=forked_ns, client_ns=client_ns, restored_ns=time.monotonic_ns())
            return wait()

        self._client.wait_next_invocation = wait_and_note

    def _load_native(self) -> None:
        later = cast(_Later, sys.modules.pop(NATIVE))
        native = importlib.util.module_from_spec(self._spec)
        sys.modules[NATIVE] = native
        self._spec.loader.exec_module(native)
        native.initialize_client(later.user_agent)
        sys.modules["awslambdaric.lambda_runtime_client"].runtime_client = native  # type: ignore[attr-defined]

    def _reap(self, pid: int) -> None:
        try:
            _, wait_status, usage = os.wait4(pid, 0)
        except ChildProcessError:
            self._say(reaped=pid, status=0, cpu_s=0.0)
            return
        status = os.waitstatus_to_exitcode(wait_status)
        self._say(reaped=pid, status=status, cpu_s=usage.ru_utime + usage.ru_stime)

    def _say(self, **message: object) -> None:
        self._control.send(json.dumps(message).encode())


def _close(*descriptors: int) -> None:
    for each in descriptors:
        if each >= 0:
            os.close(each)


def _load_ahead() -> None:
    """The libraries that the native module needs: every fork would look for them and link them again, a millisecond each."""
    import _ctypes

    for name in ("libstdc++.so.6", "libgcc_s.so.1"):
        with contextlib.suppress(OSError):
            _ctypes.dlopen(name, os.RTLD_NOW)


def _flush() -> None:
    """What stays in a buffer would be printed by every fork."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()


def _watched_by(epoll_fd: int) -> list[tuple[int, int]]:
    """Descriptors and events, as the kernel lists them (`tfd: 7 events: 19 data: 7 ...`)."""
    with open(f"/proc/self/fdinfo/{epoll_fd}", encoding="ascii") as file:  # noqa: PTH123
        fields = [line.split() for line in file if line.startswith("tfd:")]
    return [(int(each[1]), int(each[3], 16)) for each in fields]


def _address(address: object) -> str:
    if isinstance(address, tuple):
        return f"{address[0]}:{address[1]}"
    return str(address if not isinstance(address, bytes) else address.decode(errors="replace")) or "an unnamed address"
