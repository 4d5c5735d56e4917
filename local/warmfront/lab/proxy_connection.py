"""One connection through the proxy: two sockets, two directions, and the faults that act on them.

Unless a fault that drops bytes is applied, every byte arrives once and in order (tests/lab/test_proxy.py).
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from warmfront.lab.tcp_faults import DIRECTIONS, FAULT_KINDS, Chunk, Direction, FaultKind, Hit, TcpFault

QUEUE_MAX_BYTES = 256 * 1024  # above this, the sender is stopped, as by a full TCP window


class ActiveFault:
    """One applied fault; it wakes everything that waits for its end."""

    def __init__(self, name: str, fault: TcpFault) -> None:
        self.name = name
        self.fault = fault
        self.kind: FaultKind = FAULT_KINDS[fault.kind]
        self.connections_hit = 0
        self.on = True
        self._waiters: set[asyncio.Future[None]] = set()

    def clear(self) -> None:
        self.on = False
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, until_s: float | None) -> bool:
        """Wait until `until_s` on the loop's clock (None: without end) or until the fault is cleared; return whether it still applies."""
        loop = asyncio.get_running_loop()
        if not self.on or (until_s is not None and until_s <= loop.time()):
            return self.on
        waiter = loop.create_future()
        timer = None if until_s is None else loop.call_at(until_s, _finish, waiter)
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()
        return self.on


def _finish(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


class LinkHit:
    """One fault on one direction of one connection: the `Hit` that fault functions get."""

    def __init__(self, active: ActiveFault, link: "ProxyLink") -> None:
        self.active = active
        self.link = link
        self.rng = random.Random(f"{active.fault.seed}:{link.connection.number}:{link.direction}")
        self.seen_bytes = 0

    def setting(self, name: str) -> float:
        return self.active.fault.setting(name)

    async def wait_until(self, moment_s: float) -> bool:
        return await self.active.wait(moment_s)

    async def wait(self, seconds: float) -> bool:
        return await self.active.wait(asyncio.get_running_loop().time() + seconds)

    async def cleared(self) -> None:
        await self.active.wait(None)


class ProxyLink:
    """One direction of one connection: passes what `source` receives through the faults to `destination`."""

    def __init__(self, connection: "Connection", direction: Direction, source: "End", destination: "End") -> None:
        self.connection = connection
        self.direction: Direction = direction
        self.source, self.destination = source, destination
        self.hits: tuple[LinkHit, ...] = ()
        self.ended = False
        self._queue: deque[Chunk] = deque()
        self._queued_bytes = 0
        self._carrier: asyncio.Task[None] | None = None

    def feed(self, chunk: Chunk) -> None:
        if self.ended:
            return
        if not self.hits and self._carrier is None and self.destination.open:
            self._deliver(chunk)  # without faults: no queue, no task
            return
        self._queue.append(chunk)
        self._queued_bytes += len(chunk.data)
        self.regulate()
        if self._carrier is None:
            self._carrier = self.connection.spawn(self._carry())

    async def _carry(self) -> None:
        await self.connection.dialled.wait()
        while self._queue and not self.ended:
            chunk = self._queue.popleft()
            await self._through(chunk, 0, self.hits)
            self._queued_bytes -= len(chunk.data)
            self.regulate()
        self._carrier = None

    async def _through(self, chunk: Chunk, stage: int, hits: tuple[LinkHit, ...]) -> None:
        if stage == len(hits):
            await self.destination.writable.wait()
            self._deliver(chunk)
            return
        hit = hits[stage]

        async def onward(passed: Chunk) -> None:
            await self._through(passed, stage + 1, hits)

        if hit.active.kind.on_chunk is None or not hit.active.on:
            await onward(chunk)
            return
        try:
            await hit.active.kind.on_chunk(hit, chunk, onward)
        finally:
            hit.seen_bytes += len(chunk.data)

    def _deliver(self, chunk: Chunk) -> None:
        if self.ended:
            return
        if chunk.reset:
            self.connection.reset()
        elif chunk.end:
            self.end()
        else:
            self.connection.carried[self.direction] += len(chunk.data)
            self.destination.write(chunk.data)

    def regulate(self) -> None:
        """Stop reading while the queue or the destination is full, so that no byte is dropped and memory is limited."""
        full = self._queued_bytes > QUEUE_MAX_BYTES or not self.destination.writable.is_set()
        self.source.read(not full)

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._queue.clear()
        self.destination.write_end()
        self.connection.close_if_ended()

    def end_connection(self) -> None:
        self.connection.end()

    def reset_connection(self) -> None:
        self.connection.reset()

    def answer(self, data: bytes) -> None:
        self.source.write(data)


class End(asyncio.Protocol):
    """One of a connection's two sockets."""

    def __init__(self) -> None:
        self.inbound: ProxyLink
        self.outbound: ProxyLink
        self.transport: asyncio.Transport | None = None
        self.writable = asyncio.Event()
        self.left = False
        """The peer has sent a FIN or an RST, so nothing more will arrive."""

    @property
    def open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self.inbound.feed(Chunk(data, asyncio.get_running_loop().time()))

    def eof_received(self) -> bool:
        self.left = True
        self.inbound.feed(Chunk(b"", asyncio.get_running_loop().time(), end=True))
        return True  # half-closed: the other direction continues until it ends by itself

    def connection_lost(self, exc: Exception | None) -> None:
        self.left = True
        self.writable.set()  # tasks that wait to write find it closed
        if exc is not None:
            self.inbound.feed(Chunk(b"", asyncio.get_running_loop().time(), end=True, reset=True))
        self.inbound.connection.end_lost(self)

    def pause_writing(self) -> None:
        self.writable.clear()
        self.outbound.regulate()

    def resume_writing(self) -> None:
        self.writable.set()
        self.outbound.regulate()

    def read(self, wanted: bool) -> None:
        if self.transport is None or self.left:
            return
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def write(self, data: bytes) -> None:
        if self.open and self.transport is not None:
            self.transport.write(data)

    def write_end(self) -> None:
        if self.open and self.transport is not None:
            with contextlib.suppress(OSError):  # the peer has reset the connection
                self.transport.write_eof()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        if self.transport is None:
            return
        if not self.transport.is_closing():
            # Linger of 0 s makes the close an RST instead of a FIN.
            linger = struct.pack("ii", 1, 0)
            with contextlib.suppress(OSError):
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()


Carried = dict[Direction, int]
"""Delivered bytes, by direction."""


class Connection:
    """A client's connection together with the one that the proxy opened to the service."""

    def __init__(self, number: int, carried: Carried, on_close: Callable[["Connection"], None]) -> None:
        self.number = number
        self.carried = carried
        self._on_close = on_close
        self.client, self.server = End(), End()
        self.dialled = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        upstream = ProxyLink(self, "upstream", self.client, self.server)
        downstream = ProxyLink(self, "downstream", self.server, self.client)
        self.client.inbound = self.server.outbound = upstream
        self.server.inbound = self.client.outbound = downstream
        self.links = {"upstream": upstream, "downstream": downstream}

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def start(self, accepted: socket.socket, upstream: tuple[str, int]) -> None:
        """Connect to the service and join the accepted socket to that connection. Raises OSError if that fails."""
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: self.client, accepted)
        await self._wait_for_leave_to_dial()
        if self.client.left:  # gone before the partition healed: with TCP, the service would never have heard of it
            self.reset()
            return
        try:
            await loop.create_connection(lambda: self.server, *upstream)
        except OSError:
            self.reset()
            raise
        if self._closed:  # closed by a fault or the client during the connect
            self.server.reset()
        self.dialled.set()

    async def _wait_for_leave_to_dial(self) -> None:
        for hit in self.links["upstream"].hits:
            if hit.active.kind.holds_dialling:
                await hit.cleared()

    def hit(self, active: ActiveFault) -> None:
        """Apply the fault to this connection, if it is among the share that is hit."""
        if self._closed or active.kind.whole_listener or not active.fault.hits(self.number):
            return
        active.connections_hit += 1
        for direction in DIRECTIONS[active.fault.direction]:
            hit = LinkHit(active, self.links[direction])
            hit.link.hits = (*hit.link.hits, hit)
            if active.kind.on_hit is not None:
                self.spawn(self._strike(active.kind.on_hit, hit))

    async def _strike(self, on_hit: Callable[[Hit], Awaitable[None]], hit: LinkHit) -> None:
        await self.dialled.wait()
        if hit.active.on:
            await on_hit(hit)

    def forget(self, active: ActiveFault) -> None:
        for link in self.links.values():
            link.hits = tuple(hit for hit in link.hits if hit.active is not active)

    def close_if_ended(self) -> None:
        if all(link.ended for link in self.links.values()):
            self._close(End.close)

    def end(self) -> None:
        for link in self.links.values():
            link.end()

    def reset(self) -> None:
        self._close(End.reset)

    def _close(self, how: Callable[[End], None]) -> None:
        if self._closed:
            return
        self._closed = True
        for link in self.links.values():
            link.ended = True
        how(self.client)
        how(self.server)
        self.dialled.set()
        self._on_close(self)

    def end_lost(self, lost: End) -> None:
        """Handle a lost socket: data for it is dropped, data from it is still delivered."""
        if lost.inbound.ended or not (self.client.open or self.server.open):
            self.reset()
