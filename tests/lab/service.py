"""A fake backing service for the tests of the proxy: sends what a test wants, and records what it receives."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from warmfront.lab.proxy import Proxy
from warmfront.lab.tcp_faults import TcpFault

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE_S = 10.0  # ends a test that hangs; nothing should take a hundredth of it


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, data: bytes) -> bytes:
        """Send data, and read as many bytes back."""
        self.writer.write(data)
        return await asyncio.wait_for(self.reader.readexactly(len(data)), PATIENCE_S)

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), PATIENCE_S)


@dataclass
class Bench:
    """A service, a proxy in front of it, and a way to connect through the proxy."""

    proxy: Proxy
    ended: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    """One entry per connection that ended at the service: "end", or "reset"."""
    _clients: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> Client:
        reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.proxy.port), PATIENCE_S)
        self._clients.append(writer)
        return Client(reader, writer)

    def add(self, kind: str, direction: str = "both", *, share: float = 1, seed: int = 0, **settings: float) -> None:
        self.proxy.add(kind, TcpFault(kind, direction, share, seed, settings))

    async def close(self) -> None:
        for writer in self._clients:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def bench(answer: Answer = echo) -> AsyncIterator[Bench]:
    ended: asyncio.Queue[str] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
            ended.put_nowait("end")
        except ConnectionResetError:
            ended.put_nowait("reset")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = Bench(Proxy(server.sockets[0].getsockname()), ended)
    try:
        yield made
    finally:
        await made.close()
        made.proxy.clear()
        made.proxy.close()
        server.close()
        await server.wait_closed()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
