"""A small HTTP server in a thread of its own, whose every answer a test decides."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Got:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    """Sent in place of an HTTP response; then the connection is closed."""


type Handler = Callable[[Got], Awaitable[Answer] | Answer]


@dataclass(slots=True)
class Server:
    port: int
    got: list[Got] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def serving(handler: Handler) -> Iterator[Server]:
    server = Server(0)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_serve(handler, server, ready, stop),))
    thread.start()
    try:
        assert ready.wait(10)
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


async def _serve(handler: Handler, server: Server, ready: threading.Event, stop: asyncio.Event) -> None:
    clients: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        writers.add(writer)
        server.connections += 1
        try:
            await _converse(handler, server, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            clients.discard(task)

    listening = await asyncio.start_server(on_client, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    ready.set()
    await stop.wait()
    listening.close()
    for _ in range(10):  # a connection may still be on its way in, and a transport closes its socket a turn later
        for writer in list(writers):
            writer.transport.abort()
        for task in list(clients):
            task.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*clients, return_exceptions=True)
    for writer in list(writers):
        writer.transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)


async def _converse(
    handler: Handler, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        got = Got(method, path, headers, body)
        server.got.append(got)
        answer = handler(got)
        if not isinstance(answer, Answer):
            answer = await answer
        if answer.raw is not None:
            writer.write(answer.raw)
            return
        lines = {"content-length": str(len(answer.body))} | answer.headers
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {answer.status} X\r\n{text}\r\n".encode() + answer.body)
        if headers.get("connection") == "close":
            return
