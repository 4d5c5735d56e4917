"""uvicorn's httptools protocol with head and body of a response in one write. Knows sockets, nothing of events."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from local.gateway.exchange import RAW_NAMES

_HEAD: Final = b"HTTP/1.1 "
_CONTINUE: Final = b"HTTP/1.1 100"


class OneWriteTransport:
    """Holds a response's head until its first bytes of body come (or its end): one system call, one packet.

    uvicorn writes the two apart, which costs a second send and wakes the client for half an answer.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
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
    """Give it to uvicorn as `http=OneWriteProtocol`. Keeps header names as written too: REST events show them."""

    _raw_names: list[bytes]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWriteTransport(transport))  # type: ignore[arg-type]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[RAW_NAMES] = self._raw_names = []  # type: ignore[typeddict-unknown-key]

    def on_header(self, name: bytes, value: bytes) -> None:
        self._raw_names.append(name)
        super().on_header(name, value)

    def on_response_complete(self) -> None:
        self.transport.flush()  # type: ignore[attr-defined]  # HEAD, 204 and 304 have a head and nothing else
        super().on_response_complete()
