"""The Runtime API's wire: what the official runtime client says over its sockets.

Paths and headers: docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. Every execution environment has a port of its own, because the
official client takes `host:port` only (a path prefix breaks its init/error call).
"""

import asyncio
from typing import Protocol, cast

import httptools

from warmfront.emulator.lambda_service.immediate_writer import PromptWriter

NEXT = b"/2018-06-01/runtime/invocation/next"
INVOCATION = b"/2018-06-01/runtime/invocation/"
INIT_ERROR = b"/2018-06-01/runtime/init/error"
RESTORE_NEXT = b"/2018-06-01/runtime/restore/next"
RESTORE_ERROR = b"/2018-06-01/runtime/restore/error"

_JSON = b"Content-Type: application/json\r\n"
_ACCEPTED_BODY = b'{"status":"OK"}\n'
ACCEPTED = b"HTTP/1.1 202 Accepted\r\n" + _JSON + b"Content-Length: %d\r\n\r\n" % len(_ACCEPTED_BODY) + _ACCEPTED_BODY
_REASONS = {200: b"OK", 400: b"Bad Request", 403: b"Forbidden", 404: b"Not Found", 413: b"Request Entity Too Large"}

_STREAMING = b"lambda-runtime-function-response-mode"
_ERROR_TYPE = b"lambda-runtime-function-error-type"
_EXPECT = b"expect"
_TELLING = frozenset({len(_ERROR_TYPE), len(_EXPECT)})


class RuntimeHost(Protocol):
    """Who answers a runtime's calls: the execution environment that owns the port."""

    def runtime_connected(self, connection: "RuntimeConnection") -> None: ...

    def runtime_asks_next(self, connection: "RuntimeConnection") -> None: ...

    def runtime_answers(
        self, connection: "RuntimeConnection", request_id: str, body: bytes, *, failed: bool, error_type: str | None
    ) -> None: ...

    def runtime_init_failed(self, connection: "RuntimeConnection", body: bytes, error_type: str | None) -> None: ...

    def runtime_asks_restore(self, connection: "RuntimeConnection") -> None: ...

    def runtime_restore_failed(self, connection: "RuntimeConnection", body: bytes) -> None: ...

    def runtime_disconnected(self, connection: "RuntimeConnection") -> None: ...


def refusal(status: int, error_type: str, message: str) -> bytes:
    """An error answer as the Runtime API words it: `{"errorMessage", "errorType"}`."""
    body = b'{"errorMessage":"%b","errorType":"%b"}\n' % (message.encode(), error_type.encode())
    return b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, _REASONS[status], _JSON, len(body), body)


class RuntimeConnection(asyncio.Protocol):
    """One keep-alive connection of a runtime, which may ask for the next event in one breath with its answer to the last."""

    __slots__ = (
        "_body",
        "_error_type",
        "_expects_continue",
        "_held",
        "_host",
        "_parser",
        "_url",
        "_waits",
        "_writer",
        "running",
        "transport",
    )

    def __init__(self, host: RuntimeHost) -> None:
        self._host = host
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._error_type: bytes | None = None
        self._expects_continue = False
        self._held = b""
        self._waits = False
        self.transport: asyncio.Transport | None = None
        self._writer: PromptWriter
        self.running: str | None = None
        """Request id of the invocation this connection was given and has not answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._writer = PromptWriter(self.transport)
        self._host.runtime_connected(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.transport = None
        self._host.runtime_disconnected(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
        if self._held and not self._waits:
            self.write(b"")

    def accept(self) -> None:
        """Answer 202: together with the next event if that was asked for in the same breath, else when all that came is read.

        A write wakes the process at the other end, which is most of what an invocation costs here.
        """
        self._held += ACCEPTED

    def write(self, data: bytes) -> None:
        self._waits = False
        if self.transport is not None:
            self._writer.write(self._held + data)
            self._held = b""

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    # -- httptools' callbacks ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._body = []
        self._error_type = None
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) not in _TELLING:  # most of an invocation's eight headers are neither, and the length says so
            return
        lower = name.lower()
        if lower == _ERROR_TYPE:
            self._error_type = value
        elif lower == _EXPECT:
            self._expects_continue = True

    def on_headers_complete(self) -> None:
        if self._expects_continue:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        url = self._url
        if url == NEXT:
            self._waits = True
            self._host.runtime_asks_next(self)
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        error_type = self._error_type.decode("latin-1") if self._error_type is not None else None
        if url.startswith(INVOCATION):
            self._on_answer(url, body, error_type)
        elif url == INIT_ERROR:
            self._host.runtime_init_failed(self, body, error_type)
        elif url == RESTORE_NEXT:
            self._host.runtime_asks_restore(self)
        elif url == RESTORE_ERROR:
            self._host.runtime_restore_failed(self, body)
        else:
            self.write(refusal(404, "InvalidPath", "no such path in the Runtime API"))

    def _on_answer(self, url: bytes, body: bytes, error_type: str | None) -> None:
        request_id, _, kind = url[len(INVOCATION) :].partition(b"/")
        if kind not in (b"response", b"error"):
            self.write(refusal(404, "InvalidPath", "no such path in the Runtime API"))
            return
        self._host.runtime_answers(
            self, request_id.decode("latin-1"), body, failed=kind == b"error", error_type=error_type
        )


def next_head(
    *, request_id: str, deadline_ms: int, function_arn: str, trace_id: str, client_context: str | None, length: int
) -> bytes:
    """Head of the answer to `/next`. Content-Type must be there: without it the official native client crashes."""
    extra = f"Lambda-Runtime-Client-Context: {client_context}\r\n" if client_context else ""
    return (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"Lambda-Runtime-Aws-Request-Id: {request_id}\r\n"
        f"Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n"
        f"Lambda-Runtime-Invoked-Function-Arn: {function_arn}\r\n"
        f"Lambda-Runtime-Trace-Id: {trace_id}\r\n{extra}"
        f"Content-Length: {length}\r\n\r\n"
    ).encode("latin-1")
