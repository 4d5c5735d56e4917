"""A loop whose time is simulated, and a server on it: seconds of load in a moment, the same every time."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, cast

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HEAD_END = b"\r\n\r\n"


class _Skipping(selectors.DefaultSelector):
    """Nothing to read: then the wait is over at once, and the clock says how long it would have been."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and no timer is set: it would never end"
            self.now_s += timeout
        return ready


class FakeLoop(asyncio.SelectorEventLoop):
    """Connects to `server` in memory, whatever address is asked for."""

    def __init__(self, server: "StallingServer") -> None:
        self._skipping = _Skipping()
        self._server = server
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now_s

    def clock_ns(self) -> int:
        return round(self.time() * 1e9)

    async def create_connection(self, protocol_factory: Callable[[], Any], *_: Any, **__: Any) -> Any:
        protocol = protocol_factory()
        transport = _Transport(self, self._server, protocol)
        protocol.connection_made(transport)
        return transport, protocol


class StallingServer:
    """One request after the other, each in `service_s`; at the end of every `every_s` it works on nothing for `stall_s`."""

    def __init__(self, *, service_s: float, every_s: float, stall_s: float) -> None:
        self._service_s = service_s
        self._every_s = every_s
        self._stall_s = stall_s
        self._free_at_s = 0.0

    def done_at_s(self, arrived_s: float) -> float:
        """When the answer to what arrives now goes out: after all that came before, and after the stall that it meets."""
        begin_s = max(arrived_s, self._free_at_s)
        into_s = begin_s % self._every_s
        if into_s + self._service_s > self._every_s - self._stall_s:
            begin_s += self._every_s - into_s
        self._free_at_s = begin_s + self._service_s
        return self._free_at_s


class _Transport(asyncio.Transport):
    def __init__(self, loop: FakeLoop, server: StallingServer, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self._server = server
        self._protocol: asyncio.BaseProtocol = protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def write(self, data: Any) -> None:
        for _ in range(bytes(data).count(HEAD_END)):
            self._loop.call_at(self._server.done_at_s(self._loop.time()), self._answer)

    def _answer(self) -> None:
        cast(asyncio.Protocol, self._protocol).data_received(ANSWER)

    def abort(self) -> None:
        self._protocol = asyncio.Protocol()


def run[T](loop: FakeLoop, main: Coroutine[Any, Any, T]) -> T:
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
