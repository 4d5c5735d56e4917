"""A TCP proxy before Postgres that breaks connections at chosen moments."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from types import TracebackType
from urllib.parse import urlsplit


class TcpProxy:
    """Forwards to the server of a URL. `url` is the same through the proxy."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._parts = parts
        self._transports: list[asyncio.WriteTransport] = []
        self._serving: set[asyncio.Task[None]] = set()
        self.url = ""
        self.drop_answer_to: bytes | None = (
            None  # the next answer after a request with these bytes: cut instead of sent
        )
        self.dropped = 0
        self.drops_left = 0
        self.refuses = False  # new connections are closed at once
        self.silent = False  # nothing is forwarded any more

    async def __aenter__(self) -> "TcpProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        login, _, _ = self._parts.netloc.rpartition("@")
        self.url = self._parts._replace(netloc=f"{login}@127.0.0.1:{port}").geturl()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await asyncio.sleep(0.1)  # what has just been accepted is in one of the lists after this
        for transport in self._transports:
            transport.abort()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport is closed by the next turn of the loop

    def drop_answers(self, request: bytes, times: int) -> None:
        """The server does what is asked by the next requests with these bytes; nobody hears of it."""
        self.drop_answer_to, self.drops_left = request, times

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._transports.append(to_client.transport)
        if self.refuses:
            to_client.transport.abort()
            return
        try:
            server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            to_client.transport.abort()
            return
        transports = (to_client.transport, to_server.transport)
        self._transports.append(to_server.transport)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        armed = False

        def cut() -> None:
            for transport in transports:
                transport.abort()

        async def requests() -> None:
            nonlocal armed
            while data := await client.read(65_536):
                armed = armed or (self.drop_answer_to is not None and self.drop_answer_to in data)
                if not self.silent:
                    to_server.write(data)
            cut()

        async def answers() -> None:
            try:
                await forward()
            finally:
                cut()

        async def forward() -> None:
            while data := await server.read(65_536):
                if armed and self.drops_left and b"Z\x00\x00\x00\x05" in data and _is_result(data):
                    self.drops_left -= 1
                    self.dropped += 1
                    return
                if not self.silent:
                    to_client.write(data)

        with suppress(OSError):
            await asyncio.gather(requests(), answers())


@contextmanager
def proxy_in_a_thread(url: str) -> Iterator[TcpProxy]:
    """For a test whose own thread is busy with another loop. Set its switches between requests only."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    proxy = TcpProxy(url)
    try:
        asyncio.run_coroutine_threadsafe(proxy.__aenter__(), loop).result(10)
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _is_result(data: bytes) -> bool:
    """Whether it ends an execution (CommandComplete, PortalSuspended), and not the parsing of a statement before it."""
    position = 0
    while position + 5 <= len(data):
        if data[position : position + 1] in (b"C", b"s", b"E"):
            return True
        position += 1 + int.from_bytes(data[position + 1 : position + 5])
    return False
