"""Sends exchanges over one HTTP connection, at most one at a time."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import httptools

from .render import Exchange, Renderer, body_is_right, pick
from .samples import Outcome
from .workloads import Capture, Step


class Loop(Protocol):
    """The part of the load loop that a connection uses."""

    renderer: Renderer
    keep_bodies: bool
    clock: Callable[[], int]

    def finished(self, connection: "Connection", outcome: Outcome, now: int) -> None: ...


class Connection(asyncio.Protocol):
    """One connection and the exchange in flight on it. After a disconnect the same object gets a new transport."""

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
            raise  # a bug in our own callback, which must not be recorded as a protocol error of the server
        except httptools.HttpParserError:
            self.drop()
            if self.exchange is not None:
                self.end(Outcome.PROTOCOL)

    # Callbacks of the HTTP parser; fresh_parser registers only those that this block needs.

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
        if status < 200:  # an interim response: the final response follows
            return
        self.status = status
        if not self.parser.should_keep_alive():
            self.drop()
        if exchange is None:  # a response without a request
            self.drop()
            return
        steps = self.loop.renderer.requests[exchange.kind].steps
        if self.step + 1 == len(steps):
            self.end(Outcome.OK if status in steps[-1].expect else Outcome.STATUS)
        else:
            self._next_step(exchange, steps[self.step], steps[self.step + 1])

    # Called by the load loops

    def fresh_parser(self) -> None:
        self.parser = httptools.HttpResponseParser(_Callbacks(self))

    def begin(self, exchange: Exchange, due_ns: int, now: int) -> None:
        """Start an exchange: send its first request now, or in `resume` if the connection is not open yet.

        Args:
            exchange: what to send.
            due_ns: when the exchange was due, from which latency counts (nanoseconds of the loop's clock).
            now: the present time of the same clock.
        """
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
        """Send the exchange that waited for this connection to open. Its latency includes the wait."""
        if self.exchange is not None and self.transport is not None:
            self.transport.write(self.exchange.first)

    def end(self, outcome: Outcome) -> None:
        """Finish the exchange in flight and report its outcome to the loop."""
        now = self.loop.clock()
        self.idle_since_ns = now
        self.loop.finished(self, outcome, now)

    def drop(self) -> None:
        """Abort the transport. Events that it still delivers are discarded."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.set_protocol(_DiscardEvents())
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


class _DiscardEvents(asyncio.Protocol):
    """Replaces the protocol of an aborted transport, so that its late events do not reach the connection."""


class _Callbacks:
    """The parser's callbacks. One call per header costs more than the rest of the parsing, so `on_header` is set only where
    a step captures a header."""

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
