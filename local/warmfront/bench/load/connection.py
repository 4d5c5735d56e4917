"""One HTTP connection with at most one exchange in flight."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import httptools

from .render import Exchange, Renderer, body_is_right, pick
from .samples import Outcome
from .workloads import Capture, Step


class Loop(Protocol):
    """What a connection asks of the load loop that drives it."""

    renderer: Renderer
    keep_bodies: bool
    clock: Callable[[], int]

    def finished(self, connection: "Connection", outcome: Outcome, now: int) -> None: ...


class Connection(asyncio.Protocol):
    """One connection and the exchange in flight on it. A new transport replaces a broken one; the object stays."""

    __slots__ = (
        "bodies",
        "due_ns",
        "exchange",
        "headers",
        "idle_since_ns",
        "loop",
        "opening",
        "parser",
        "sent_ns",
        "size",
        "status",
        "step",
        "transport",
    )

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.opening: asyncio.Task[None] | None = None
        self.parser: Any = None
        self.exchange: Exchange | None = None
        self.step = 0
        self.due_ns = 0
        self.sent_ns = 0
        self.idle_since_ns = 0
        self.status = 0
        self.size = 0
        self.bodies: list[bytes] = []
        self.headers: dict[str, str] = {}

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.idle_since_ns = self.loop.clock()
        self.fresh_parser()

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        if self.exchange is not None:
            self.end(Outcome.LOST)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a mistake of ours, which must not pass for the server's
        except httptools.HttpParserError:
            self.drop()
            if self.exchange is not None:
                self.end(Outcome.PROTOCOL)

    # The parser's callbacks; only those that this block needs are offered to it (fresh_parser).

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.size += len(body)

    def on_body_kept(self, body: bytes) -> None:
        self.size += len(body)
        self.bodies.append(body)

    def on_message_complete(self) -> None:
        exchange = self.exchange
        status = self.parser.get_status_code()
        if status < 200:  # an interim response: the one that counts follows
            return
        self.status = status
        if not self.parser.should_keep_alive():
            self.drop()
        if exchange is None:  # an answer nobody asked for
            self.drop()
            return
        steps = self.loop.renderer.requests[exchange.kind].steps
        if self.step + 1 == len(steps):
            self.end(Outcome.OK if status in steps[-1].expect else Outcome.STATUS)
        else:
            self._next_step(exchange, steps[self.step], steps[self.step + 1])

    # What the loops do with it

    def fresh_parser(self) -> None:
        self.parser = httptools.HttpResponseParser(_Callbacks(self))

    def begin(self, exchange: Exchange, due_ns: int, now: int) -> None:
        """Sends an exchange; on a connection that is not there it goes out when there is one."""
        self.exchange = exchange
        self.step = 0
        self.status = 0
        self.size = 0
        if self.bodies:
            self.bodies = []
        if self.headers:
            self.headers = {}
        self.due_ns = due_ns
        self.sent_ns = now
        if self.transport is not None:
            self.transport.write(exchange.first)

    def resume(self) -> None:
        """The exchange that waited for this connection goes out; its clock has been running."""
        if self.exchange is not None and self.transport is not None:
            self.transport.write(self.exchange.first)

    def end(self, outcome: Outcome) -> None:
        now = self.loop.clock()
        self.idle_since_ns = now
        self.loop.finished(self, outcome, now)

    def drop(self) -> None:
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.set_protocol(_Deaf())
            transport.abort()

    def _next_step(self, exchange: Exchange, step: Step, following: Step) -> None:
        body = b"".join(self.bodies)
        if self.status not in step.expect:
            self.end(Outcome.STATUS)
        elif step.checks_body and not body_is_right(step, exchange.values, body):
            self.end(Outcome.BODY)
        elif not _capture_all(step.captures, self.headers, body, exchange.values):
            self.end(Outcome.CAPTURE)
        else:
            self.step += 1
            self.size = 0
            self.bodies = []
            self.headers = {}
            payload = self.loop.renderer.step(following, exchange.values)
            if self.transport is None:
                self.end(Outcome.LOST)
            else:
                self.transport.write(payload)


class _Deaf(asyncio.Protocol):
    """Takes the place of a connection that was given up, so that its late news reaches nobody."""


class _Callbacks:
    """What the parser calls. A call per header costs more than all else here, so it is asked for only with need."""

    def __init__(self, connection: Connection) -> None:
        self.on_message_complete = connection.on_message_complete
        self.on_body = connection.on_body_kept if connection.loop.keep_bodies else connection.on_body
        requests = connection.loop.renderer.requests
        if any(capture.header for request in requests for step in request.steps for capture in step.captures):
            self.on_header = connection.on_header


def _capture_all(
    captures: tuple[Capture, ...], headers: Mapping[str, str], body: bytes, values: dict[str, str]
) -> bool:
    for capture in captures:
        value = _captured(capture, headers, body)
        if value is None:
            return False
        values[capture.name] = value
    return True


def _captured(capture: Capture, headers: Mapping[str, str], body: bytes) -> str | None:
    if capture.header is not None:
        return headers.get(capture.header.lower(), capture.default)
    try:
        found = pick(json.loads(body), capture.json or "")
    except (ValueError, KeyError):
        return capture.default
    return capture.default if found is None else str(found)
