"""Receives X-Ray segments at the daemon's address in batches, and parses them when their trace is requested.

Form: a header line and a JSON document (docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html#xray-api-daemon).
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

HEADER = b'{"format":'
DATAGRAM_BYTES_MAX = 65_536
KEPT_MAX = 2000
KEPT_BYTES_MAX = 8 * 1024 * 1024
BATCH_S = 0.25
BATCH_MAX = 512
_BUFFER_BYTES = 4 * 1024 * 1024
_SO_RXQ_OVFL = 40  # asm-generic/socket.h; Python has no name for it
_DEPTH_MAX = 50


class SegmentReceiver:
    """A loopback UDP socket. Idle it costs nothing; busy it is read four times a second, and what does not fit is dropped and counted."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        self._socket.bind(("127.0.0.1", 0))
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.received = 0
        self.dropped = 0
        """Datagrams that came when the socket's buffer was full."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listen()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _listen(self) -> None:
        self._timer = None
        assert self._loop is not None
        self._loop.add_reader(self._socket.fileno(), self._on_first)

    def _on_first(self) -> None:
        """Something came: leave it, and what follows it, for one reading a little later."""
        assert self._loop is not None
        self._loop.remove_reader(self._socket.fileno())
        self._timer = self._loop.call_later(BATCH_S, self._batch)

    def _batch(self) -> None:
        self.drain()
        self._listen()

    def drain(self) -> None:
        """Take what is there now, at most one batch."""
        for _ in range(BATCH_MAX):
            try:
                datagram, control, _, _ = self._socket.recvmsg(DATAGRAM_BYTES_MAX, 64)
            except OSError:
                return
            for level, kind, data in control:
                if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                    self.dropped = int.from_bytes(data[:4], "little")
            self._keep(datagram)

    def _keep(self, datagram: bytes) -> None:
        self.received += 1
        self._kept.append(datagram)
        self._kept_bytes += len(datagram)
        while len(self._kept) > KEPT_MAX or self._kept_bytes > KEPT_BYTES_MAX:
            self._kept_bytes -= len(self._kept.popleft())

    def of_trace(self, trace_id: str) -> list[dict[str, Any]]:
        """Every segment and subsegment of a trace, nested ones beside their parents; of two reports of one, the later."""
        self.drain()
        wanted = trace_id.encode()
        found: dict[str, dict[str, Any]] = {}
        for datagram in [each for each in self._kept if wanted in each]:
            document = read_datagram(datagram)
            if document is not None and document.get("trace_id") == trace_id:
                for part in _flattened(document, None, 0):
                    found[str(part.get("id"))] = part
        return list(found.values())


def read_datagram(datagram: bytes) -> dict[str, Any] | None:
    """The document of a datagram; None when it is none."""
    head, _, body = datagram.partition(b"\n")
    if not head.startswith(HEADER):
        return None
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    return document if isinstance(document, dict) else None


def _flattened(document: dict[str, Any], parent_id: str | None, depth: int) -> Iterator[dict[str, Any]]:
    part = {key: value for key, value in document.items() if key != "subsegments"}
    if parent_id is not None:
        part["parent_id"] = parent_id
    yield part
    nested = document.get("subsegments")
    if isinstance(nested, list) and depth < _DEPTH_MAX:
        for each in nested:
            if isinstance(each, dict):
                yield from _flattened(each, str(document.get("id")), depth + 1)
