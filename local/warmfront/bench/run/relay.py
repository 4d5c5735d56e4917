"""Adds a network round trip between handlers and backing services, without root: a TCP relay process delays the bytes.

The relay uses epoll and a timerfd directly, because event loops round timers to whole milliseconds, more than the round trip.
"""

import contextlib
import heapq
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Self

from .accounting import process_cpu_s

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16
BACKLOG = 1024
START_S = 10.0
STOP_S = 5.0
PINGS = 200
PING = b"p" * 64


class RelayError(Exception):
    """The relay did not start."""


# The bench's side


class Relay:
    """Controls a relay process. It exits when its stdin closes, so it cannot outlive the bench.

    `ports`: name of a target -> local port that leads to it.
    """

    def __init__(self, process: subprocess.Popen[bytes], rtt_s: float, ports: Mapping[str, int]) -> None:
        self._process = process
        self.rtt_s = rtt_s
        self.ports = ports

    @classmethod
    def start(cls, rtt_s: float, targets: Mapping[str, tuple[str, int]]) -> Self:
        """Start a relay.

        Args:
            rtt_s: the round trip to add, in seconds.
            targets: name -> (host, port) to forward to.

        Raises:
            RelayError: the process ended.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "warmfront.bench.run.relay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        order = {"rtt_ns": int(rtt_s * 1e9), "targets": list(targets.values())}
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RelayError(f"the relay exited with status {process.wait(START_S)}; its output is above")
        return cls(process, rtt_s, dict(zip(targets, json.loads(line), strict=True)))

    @property
    def cpu_s(self) -> float:
        return process_cpu_s(self._process.pid) or 0.0

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Calibration:
    """The measured delay of a relay: seconds added to a direct round trip, and its CPU seconds for each."""

    round_trip_s: float
    cpu_s: float


def calibrate(rtt_s: float) -> Calibration:
    """Measure what a relay with this round trip (seconds) adds, by pings directly and through it."""
    with _echo() as port, Relay.start(rtt_s, {"echo": (LOOPBACK, port)}) as relay:
        direct = _ping_s(port)
        used = relay.cpu_s
        through = _ping_s(relay.ports["echo"])
        return Calibration(through - direct, (relay.cpu_s - used) / PINGS)


def _ping_s(port: int) -> float:
    times = []
    with socket.create_connection((LOOPBACK, port), timeout=START_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(PINGS):
            start = time.perf_counter()
            connection.sendall(PING)
            connection.recv(CHUNK)
            times.append(time.perf_counter() - start)
    return median(times)


@contextlib.contextmanager
def _echo() -> Iterator[int]:
    """Run an echo server for one client at a time."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    while heard := client.recv(CHUNK):
                        client.sendall(heard)

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=serve, name="relay-echo", daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


# The relay's side


@dataclass(slots=True)
class _End:
    """One socket of a relayed connection. Bytes received on it are sent to `other` after the delay."""

    socket: socket.socket
    other: "_End" = None  # type: ignore[assignment]  # set when its pair exists
    not_before_ns: int = 0  # bytes received on it are delivered no earlier
    waiting: bytearray = field(default_factory=bytearray)  # bytes to send that the kernel has not accepted yet
    ended: bool = False  # its peer has closed its sending side
    gone: bool = False  # no longer registered with epoll
    finished: bool = False  # all bytes of `other` were delivered to it


class _Loop:
    def __init__(self, rtt_ns: int, targets: Sequence[tuple[str, int]]) -> None:
        self._rtt_ns = rtt_ns
        self._one_way_ns = rtt_ns // 2
        self._epoll = select.epoll()
        self._listeners: dict[int, tuple[socket.socket, tuple[str, int]]] = {}
        self._ends: dict[int, _End] = {}
        self._due: list[tuple[int, int, _End, bytes]] = []
        self._count = 0
        self._timer = -1
        if sys.version_info >= (3, 13):
            self._timer = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK)
            self._epoll.register(self._timer, select.EPOLLIN)
        self._epoll.register(0, select.EPOLLIN)
        for host, port in targets:
            listener = socket.create_server((LOOPBACK, 0), backlog=BACKLOG)
            self._listeners[listener.fileno()] = (listener, (host, port))
            self._epoll.register(listener.fileno(), select.EPOLLIN)

    @property
    def ports(self) -> list[int]:
        return [listener.getsockname()[1] for listener, _ in self._listeners.values()]

    def run(self) -> None:
        while True:
            for fd, events in self._epoll.poll(self._timeout_s()):
                if fd == 0:
                    return  # stdin closed: the bench has ended
                if fd == self._timer:
                    with contextlib.suppress(BlockingIOError):
                        os.read(fd, 8)
                elif fd in self._listeners:
                    self._accept(*self._listeners[fd])
                elif end := self._ends.get(fd):
                    if events & select.EPOLLOUT:
                        self._flush(end)
                    if not end.ended:
                        self._receive(end)
                    elif events & (select.EPOLLHUP | select.EPOLLERR):
                        self._forget(end)  # closed: epoll would report it again at every poll
            self._deliver()

    def _timeout_s(self) -> float | None:
        """Timeout for poll. None: the timerfd wakes it; before Python 3.13 poll's own timeout in milliseconds is used."""
        if not self._due:
            return None
        if sys.version_info >= (3, 13):
            os.timerfd_settime_ns(self._timer, flags=os.TFD_TIMER_ABSTIME, initial=self._due[0][0])
            return None
        return max(0.0, (self._due[0][0] - time.monotonic_ns()) / 1e9)

    def _accept(self, listener: socket.socket, target: tuple[str, int]) -> None:
        near, _ = listener.accept()
        try:
            far = socket.create_connection(target, timeout=START_S)
        except OSError:
            near.close()
            return
        # The kernel has already accepted the client; over a network the handshake would take one more round trip.
        ends = (_End(near, not_before_ns=time.monotonic_ns() + self._rtt_ns + self._one_way_ns), _End(far))
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end in ends:
            end.socket.setblocking(False)
            end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends[end.socket.fileno()] = end
            self._epoll.register(end.socket.fileno(), select.EPOLLIN)

    def _receive(self, end: _End) -> None:
        try:
            received = end.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            end.ended = True
            self._watch(end)
        end.not_before_ns = max(end.not_before_ns, time.monotonic_ns() + self._one_way_ns)
        self._count += 1
        heapq.heappush(self._due, (end.not_before_ns, self._count, end.other, received))

    def _deliver(self) -> None:
        now = time.monotonic_ns()
        while self._due and self._due[0][0] <= now:
            _, _, end, received = heapq.heappop(self._due)
            if received:
                end.waiting += received
            else:
                end.finished = True
            self._flush(end)

    def _flush(self, end: _End) -> None:
        try:
            while end.waiting:
                del end.waiting[: end.socket.send(end.waiting)]
        except BlockingIOError:
            pass
        except OSError:
            end.waiting.clear()
            end.finished = True
        if end.finished and not end.waiting:
            with contextlib.suppress(OSError):
                end.socket.shutdown(socket.SHUT_WR)
            if end.ended and end.other.finished:
                self._close(end)
                return
        self._watch(end)

    def _watch(self, end: _End) -> None:
        if self._ends.get(end.socket.fileno()) is end and not end.gone:
            readable = 0 if end.ended else select.EPOLLIN
            self._epoll.modify(end.socket.fileno(), readable | (select.EPOLLOUT if end.waiting else 0))

    def _close(self, end: _End) -> None:
        """Close both sockets, after both sides have ended and all bytes were delivered."""
        for one in (end, end.other):
            self._forget(one)
            self._ends.pop(one.socket.fileno(), None)
            one.socket.close()

    def _forget(self, end: _End) -> None:
        if not end.gone:
            end.gone = True
            self._epoll.unregister(end.socket.fileno())


def main() -> None:
    order = json.loads(os.read(0, CHUNK))
    loop = _Loop(order["rtt_ns"], [(host, port) for host, port in order["targets"]])
    sys.stdout.write(json.dumps(loop.ports) + "\n")
    sys.stdout.flush()
    loop.run()


if __name__ == "__main__":
    main()
