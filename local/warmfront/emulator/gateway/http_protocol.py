"""uvicorn's httptools protocol with a response in one write, and in one call. Knows sockets, nothing of events."""

import asyncio
import functools
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

_HEAD: Final = b"HTTP/1.1 "
_CONTINUE: Final = b"HTTP/1.1 100"
_LINE: Final = b": ".join  # of a header's name and value


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
        """A response that needs nothing more."""
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

    An application that has its whole response at hand may give it to `scope[ANSWER]`: two ASGI messages, each a coroutine
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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWriteTransport(transport))  # type: ignore[arg-type]

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
