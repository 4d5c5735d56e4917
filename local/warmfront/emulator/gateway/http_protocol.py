"""Serves HTTP with uvicorn's httptools protocol: a response in one write, heads of bounded size and time.

The only module that uses private parts of uvicorn; UVICORN says with which versions that works.
"""

import asyncio
import contextlib
import functools
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from warmfront.emulator.gateway.backlog import Backlog
from warmfront.emulator.gateway.exchange import ANSWER, RAW_NAMES
from warmfront.emulator.lambda_service.immediate_writer import PromptWriter

UVICORN: Final = ("0.54.0",)
"""Versions whose private parts are as this module uses them; tests/emulator/gateway/test_uvicorn.py holds it to that."""
HEAD_MAX_BYTES: Final = 64 * 1024
"""Of a request line with its headers while they arrive. The gateway's own limit is lower, and its answer in its API's words."""
HEAD_LIMIT_S: Final = 20.0
"""From a request's first byte to the end of its headers."""
SILENCE_LIMIT_S: Final = 75.0
"""From a connection's opening to its first byte: as long as between two requests."""

_TOO_LARGE: Final = (431, b'{"message":"Request Header Fields Too Large"}')
_TOO_SLOW: Final = (408, b'{"message":"Request Timeout"}')
_HEAD: Final = b"HTTP/1.1 "
_CONTINUE: Final = b"HTTP/1.1 100"
_LINE: Final = b": ".join  # of a header's name and value


class SignallessServer(uvicorn.Server):
    """uvicorn without its signal handlers: the command owns signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class OneWriteTransport:
    """Holds a response's head until its first bytes of body come (or its end): one system call, one packet.

    uvicorn writes the two apart, which costs a second send and wakes the client for half an answer.
    """

    __slots__ = ("_head", "_transport", "_writer")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._writer = PromptWriter(transport)
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        head = self._head
        if head is not None:
            self._head = None
            self._transport.write(head + data)
        elif data.startswith(_HEAD) and not data.startswith(_CONTINUE):
            self._head = data
        elif data:
            self._transport.write(data)

    def write_whole(self, data: bytes) -> None:
        """Write a complete response."""
        self._writer.write(data)

    def flush(self) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OneWriteProtocol(HttpToolsProtocol):
    """Give it to uvicorn as `http=`. Keeps header names as written too: REST events show them.

    A head that is too large or too slow ends the connection while it arrives: uvicorn would collect it without end.

    An application that has its whole response ready may give it to `scope[ANSWER]`: two ASGI messages, each a coroutine
    that asks every header what only strange ones need, are a fifth of what the emulator does for a request.
    """

    _raw_names: list[bytes]

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        backlog: Backlog | None = None,
    ) -> None:
        """`backlog`: one for all connections of a loop (`functools.partial` gives it to uvicorn); without it, each has its own."""
        super().__init__(config, server_state, app_state, _loop)
        self._backlog = backlog if backlog is not None else Backlog(self.loop)
        self._in_head = True
        self._head_bytes = 0
        self._head_begun = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWriteTransport(transport))  # type: ignore[arg-type]
        self._head_timer = self.loop.call_later(SILENCE_LIMIT_S, self._end_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head:
            return
        # Most heads come whole, in one piece, and need no timer of their own.
        if self._head_bytes > HEAD_MAX_BYTES:
            self._refuse(*_TOO_LARGE)
        elif self._head_bytes and not self._head_begun:
            self._stop_head_timer()
            self._head_begun = True
            self._head_timer = self.loop.call_later(HEAD_LIMIT_S, self._refuse, *_TOO_SLOW)

    def on_headers_complete(self) -> None:
        self._in_head = self._head_begun = False
        self._head_bytes = 0
        self._stop_head_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_silent(self) -> None:
        self._head_timer = None
        self.transport.close()

    def _refuse(self, status: int, body: bytes) -> None:
        """Answer a head that is not complete, and end the connection."""
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:  # else another request's response would be cut
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[RAW_NAMES] = self._raw_names = []  # type: ignore[typeddict-unknown-key]
        self.scope[ANSWER] = self.answer  # type: ignore[typeddict-unknown-key]

    def on_header(self, name: bytes, value: bytes) -> None:
        self._raw_names.append(name)
        super().on_header(name, value)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._backlog.add(functools.partial(self._begin, cycle, app))

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        """The application runs at once up to its first wait, which is for its environment."""
        task = asyncio.Task(cycle.run_asgi(app), loop=self.loop, eager_start=True)
        if not task.done():
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def answer(self, scope: object, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send this response to the request of `scope`; its headers have the content's length, and none is the connection's.

        False, and nothing is done, where the plain way has more to see to: a client that has gone, is slow to read, sent
        its next request already, wants the connection closed or asked with HEAD, and a header that no client may see.
        """
        cycle = self.cycle
        if cycle.scope is not scope or cycle.disconnected or cycle.response_started or self.flow.write_paused:
            return False
        names, values = zip(*headers, strict=True)
        if HEADER_RE.search(b"".join(names)) or HEADER_VALUE_RE.search(b"".join(values)):
            return False
        if not cycle.keep_alive or cycle.scope["method"] == "HEAD":
            return False
        lines = b"\r\n".join(map(_LINE, (*cycle.default_headers, *headers)))
        self.transport.write_whole(b"".join((STATUS_LINE[status], lines, b"\r\n\r\n", body)))  # type: ignore[attr-defined]
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        cycle.on_response()
        return True

    def on_response_complete(self) -> None:
        self.transport.flush()  # type: ignore[attr-defined]  # HEAD, 204 and 304 have a head and nothing else
        super().on_response_complete()
