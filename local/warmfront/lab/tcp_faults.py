"""The TCP faults: what each does to a chunk of bytes in one direction of a connection.

A fault is an entry in FAULT_KINDS and at most one small function. To add one, write

    async def shouting(hit: Hit, chunk: Chunk, onward: Onward) -> None:
        await onward(chunk.with_data(chunk.data.upper()))

and its line in the table. Bytes that a function does not pass to `onward` are lost; such an entry has `drops_bytes`.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

Direction = Literal["upstream", "downstream"]
"""upstream: from the client to the backing service; downstream: from the service to the client."""
DIRECTIONS: Mapping[str, tuple[Direction, ...]] = {
    "upstream": ("upstream",),
    "downstream": ("downstream",),
    "both": ("upstream", "downstream"),
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes as they were read, or their end: a FIN (`end`) or an RST (`end` and `reset`)."""

    data: bytes
    arrived_s: float
    end: bool = False
    reset: bool = False

    def with_data(self, data: bytes) -> "Chunk":
        return replace(self, data=data)


Onward = Callable[[Chunk], Awaitable[None]]


class Link(Protocol):
    """What a fault can do to its direction of a connection, besides passing chunks on."""

    def reset_connection(self) -> None:
        """Send an RST to both ends at once."""

    def end(self) -> None:
        """Send a FIN to the receiving end and discard everything else in this direction."""

    def end_connection(self) -> None:
        """Send a FIN to both ends."""

    def answer(self, data: bytes) -> None:
        """Send `data` back where the chunk came from."""


class FaultError(Exception):
    """An invalid fault: an unknown kind, setting or direction, or a number out of range."""


@dataclass(frozen=True, slots=True)
class TcpFault:
    """A fault with its settings; those that are not given have the defaults of its kind."""

    kind: str
    direction: str = "both"
    share: float = 1.0
    """The fraction of connections hit, drawn once per connection."""
    seed: int = 0
    settings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS:
            raise FaultError(f"no TCP fault {self.kind!r}; there are: {', '.join(FAULT_KINDS)}")
        if self.direction not in DIRECTIONS:
            raise FaultError(f"direction {self.direction!r} is not one of {', '.join(DIRECTIONS)}")
        if not 0 < self.share <= 1:
            raise FaultError(f"share is {self.share}; it is a fraction of the connections, above 0 and up to 1")
        kind = FAULT_KINDS[self.kind]
        if kind.whole_listener and self.share != 1:
            raise FaultError(f"{self.kind} hits the whole listener; to hit a share of the connections use reset")
        for name, value in self.settings.items():
            if name not in kind.settings:
                raise FaultError(f"{self.kind} has no setting {name!r}; it has: {', '.join(kind.settings) or 'none'}")
            if value < 0:
                raise FaultError(f"{self.kind}: {name} is {value}; it cannot be negative")

    def setting(self, name: str) -> float:
        return self.settings.get(name, FAULT_KINDS[self.kind].settings[name])

    def hits(self, connection_number: int) -> bool:
        """Return whether a connection is hit. It only depends on seed, kind and number, so that a seed is repeatable."""
        return random.Random(f"{self.seed}:{self.kind}:{connection_number}").random() < self.share


class Hit(Protocol):
    """One fault on one direction of one connection."""

    @property
    def link(self) -> Link: ...
    @property
    def rng(self) -> random.Random: ...
    @property
    def seen_bytes(self) -> int:
        """How many bytes reached this fault before the current chunk."""

    def setting(self, name: str) -> float: ...
    async def wait_until(self, moment_s: float) -> bool:
        """Wait until `moment_s` on the loop's clock or until the fault is cleared; return whether it still applies."""

    async def wait(self, seconds: float) -> bool: ...
    async def cleared(self) -> None: ...


async def latency(hit: Hit, chunk: Chunk, onward: Onward) -> None:
    # Counted from each chunk's arrival: chunks in quick succession are each late by the delay, not by a sum of delays.
    await hit.wait_until(chunk.arrived_s + hit.setting("delay_s"))
    await onward(chunk)


async def jitter(hit: Hit, chunk: Chunk, onward: Onward) -> None:
    await hit.wait_until(chunk.arrived_s + hit.rng.random() * hit.setting("delay_max_s"))
    await onward(chunk)


async def black_hole(hit: Hit, chunk: Chunk, onward: Onward) -> None:
    # Held back, not dropped: when a partition heals, TCP retransmits, and a stream never has gaps.
    await hit.cleared()
    await onward(chunk)


async def reset(hit: Hit) -> None:
    if await hit.wait(hit.setting("after_s")):
        hit.link.reset_connection()


async def bandwidth(hit: Hit, chunk: Chunk, onward: Onward) -> None:
    rate = max(1.0, hit.setting("bytes_per_s"))
    piece_bytes = max(1, int(rate / 50))  # at most 20 ms of the rate at a time, so that it flows instead of bursting
    for piece in pieces_of(chunk, piece_bytes):
        await hit.wait(len(piece.data) / rate)
        await onward(piece)


async def truncate(hit: Hit, chunk: Chunk, onward: Onward) -> None:
    left_bytes = int(hit.setting("bytes")) - hit.seen_bytes
    if len(chunk.data) <= left_bytes:
        await onward(chunk)
        return
    if left_bytes > 0:
        await onward(chunk.with_data(chunk.data[:left_bytes]))
    hit.link.end_connection()


async def half_close(hit: Hit) -> None:
    if await hit.wait(hit.setting("after_s")):
        hit.link.end()


async def slow_close(hit: Hit, chunk: Chunk, onward: Onward) -> None:
    if chunk.end:
        await hit.wait_until(chunk.arrived_s + hit.setting("delay_s"))
    await onward(chunk)


async def slicer(hit: Hit, chunk: Chunk, onward: Onward) -> None:
    for piece in pieces_of(chunk, int(hit.setting("bytes"))):
        await onward(piece)
        await hit.wait(hit.setting("delay_s"))


async def http_error(hit: Hit, chunk: Chunk, onward: Onward) -> None:
    # For services with HTTP (the local AWS): the request never reaches the service.
    if chunk.end:
        await onward(chunk)
        return
    status = int(hit.setting("status"))
    hit.link.answer(b"HTTP/1.1 %d Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
    hit.link.end_connection()


async def aws_throttled(hit: Hit, chunk: Chunk, onward: Onward) -> None:
    # As SQS and Secrets Manager throttle in the JSON protocol: a 400, with the code in a header and in the body.
    if chunk.end:
        await onward(chunk)
        return
    body = b'{"__type": "com.amazonaws#ThrottlingException", "message": "Rate exceeded"}'
    head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.0\r\nConnection: close\r\n"
    length = f"x-amzn-ErrorType: ThrottlingException\r\nContent-Length: {len(body)}\r\n\r\n"
    hit.link.answer(head.encode() + length.encode() + body)
    hit.link.end_connection()


def pieces_of(chunk: Chunk, piece_bytes: int) -> list[Chunk]:
    """Split a chunk into pieces of at most `piece_bytes`; an end is one piece."""
    if not chunk.data:
        return [chunk]
    size = max(1, piece_bytes)
    return [chunk.with_data(chunk.data[at : at + size]) for at in range(0, len(chunk.data), size)]


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault: its description, settings and behaviour."""

    says: str
    settings: Mapping[str, float] = field(default_factory=dict)
    on_chunk: Callable[[Hit, Chunk, Onward], Awaitable[None]] | None = None
    on_hit: Callable[[Hit], Awaitable[None]] | None = None
    """Runs once per direction: at once on open connections, at the start of later ones."""
    drops_bytes: bool = False
    holds_dialling: bool = False
    """New connections do not reach the service until the fault is cleared."""
    whole_listener: bool = False


FAULT_KINDS: dict[str, FaultKind] = {
    "latency": FaultKind("every chunk arrives delay_s late", {"delay_s": 0.1}, on_chunk=latency),
    "jitter": FaultKind("every chunk arrives up to delay_max_s late, in order", {"delay_max_s": 0.1}, on_chunk=jitter),
    "black_hole": FaultKind(
        "connections open, but nothing arrives until the fault is cleared", on_chunk=black_hole, holds_dialling=True
    ),
    "reset": FaultKind(
        "RST to both ends, now and on every new connection", {"after_s": 0}, on_hit=reset, drops_bytes=True
    ),
    "refuse": FaultKind("new connections are refused, open ones continue", whole_listener=True),
    "bandwidth": FaultKind("at most bytes_per_s", {"bytes_per_s": 10_000}, on_chunk=bandwidth),
    "truncate": FaultKind(
        "FIN to both ends after the given number of bytes", {"bytes": 64}, on_chunk=truncate, drops_bytes=True
    ),
    "half_close": FaultKind(
        "FIN in one direction, the other continues", {"after_s": 0}, on_hit=half_close, drops_bytes=True
    ),
    "slow_close": FaultKind("a FIN arrives delay_s late", {"delay_s": 1}, on_chunk=slow_close),
    "slicer": FaultKind("every chunk arrives in small pieces", {"bytes": 16, "delay_s": 0.001}, on_chunk=slicer),
    "http_error": FaultKind(
        "an HTTP status instead of a response", {"status": 503}, on_chunk=http_error, drops_bytes=True
    ),
    "aws_throttled": FaultKind(
        "ThrottlingException instead of a response of AWS", on_chunk=aws_throttled, drops_bytes=True
    ),
}
