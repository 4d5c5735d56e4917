"""Writes go out immediately and in order, over real sockets, on both event loops; the rest is left to the transport."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from warmfront.emulator.lambda_service.immediate_writer import PromptWriter

LOOPS = pytest.mark.parametrize("make_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])


class Served(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost.set()


def run(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    talk: Callable[[asyncio.Transport, socket.socket, Served], Awaitable[None]],
) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, served = await loop.create_connection(Served, sock=ours)
        try:
            await asyncio.wait_for(talk(transport, theirs, served), 30)
        finally:
            transport.abort()
            theirs.close()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


@LOOPS
def test_it_is_there_before_the_turn_ends(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def talk(transport: asyncio.Transport, theirs: socket.socket, served: Served) -> None:  # noqa: ARG001
        PromptWriter(transport).write(b"now")
        assert theirs.recv(10) == b"now"

    run(make_loop, talk)


@LOOPS
def test_what_the_socket_does_not_take_comes_later_and_in_order(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def talk(transport: asyncio.Transport, theirs: socket.socket, served: Served) -> None:  # noqa: ARG001
        writer = PromptWriter(transport)
        pieces = [bytes([number]) * 100_000 for number in range(100)]
        for piece in pieces[:50]:
            writer.write(piece)
        assert transport.get_write_buffer_size() > 0
        loop, received = asyncio.get_running_loop(), b""
        while len(received) < 2_500_000:
            received += await loop.sock_recv(theirs, 1 << 20)
        for piece in pieces[50:]:  # some of them while the transport still has something, some after
            writer.write(piece)
            received += await loop.sock_recv(theirs, 1 << 20)
        while len(received) < 10_000_000:
            received += await loop.sock_recv(theirs, 1 << 20)
        assert received == b"".join(pieces)

    run(make_loop, talk)


@LOOPS
def test_what_was_written_before_by_the_transport_goes_first(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def talk(transport: asyncio.Transport, theirs: socket.socket, served: Served) -> None:  # noqa: ARG001
        transport.write(b"first ")
        PromptWriter(transport).write(b"second")
        loop, received = asyncio.get_running_loop(), b""
        while len(received) < 12:
            received += await loop.sock_recv(theirs, 100)
        assert received == b"first second"

    run(make_loop, talk)


@LOOPS
def test_a_transport_that_is_closing_sends_nothing_more(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def talk(transport: asyncio.Transport, theirs: socket.socket, served: Served) -> None:
        writer = PromptWriter(transport)
        transport.close()
        writer.write(b"late")
        assert await asyncio.get_running_loop().sock_recv(theirs, 10) == b""
        assert served.lost.is_set()

    run(make_loop, talk)


@LOOPS
def test_a_peer_that_is_gone_is_the_transports_to_find(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def talk(transport: asyncio.Transport, theirs: socket.socket, served: Served) -> None:
        theirs.close()
        PromptWriter(transport).write(b"to nobody")
        await served.lost.wait()

    run(make_loop, talk)


def test_without_a_socket_everything_is_the_transports() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.writes: list[bytes] = []

        def get_extra_info(self, name: str) -> None:
            assert name == "socket"

        def write(self, data: bytes) -> None:
            self.writes.append(data)

    recorder: Any = Recorder()
    PromptWriter(recorder).write(b"all")
    assert recorder.writes == [b"all"]
