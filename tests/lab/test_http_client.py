"""The small HTTP client: whole responses, errors without one, and never another request's response."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from warmfront.lab.http_client import Client, NoAnswer

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[Client]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                await reader.readexactly(length)
                await answer(head.split()[1], writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = Client(*listening.sockets[0].getsockname())
    try:
        yield client
    finally:
        await client.close()
        listening.close()
        await listening.wait_closed()


async def say_the_path(path: str, writer: asyncio.StreamWriter) -> None:
    body = path.encode()
    writer.write(b"HTTP/1.1 200 OK\r\nX-Path: %b\r\nContent-Length: %d\r\n\r\n%b" % (body, len(body), body))


def test_status_headers_and_body_come_back_and_the_connection_is_kept() -> None:
    async def test() -> None:
        async with server(say_the_path) as client:
            for path in ("/a", "/b"):
                reply = await client.request("GET", path)
                assert (reply.status, reply.headers["x-path"], reply.body) == (200, path, path.encode())

    asyncio.run(test())


def test_silence_and_a_broken_answer_are_no_answer() -> None:
    async def half(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/half":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            writer.close()

    async def test() -> None:
        async with server(half) as client:
            with pytest.raises(NoAnswer, match="/half"):
                await client.request("GET", "/half", timeout_s=5)
            with pytest.raises(NoAnswer, match="TimeoutError"):
                await client.request("GET", "/silent", timeout_s=0.1)

    asyncio.run(test())


def test_a_cancelled_request_leaves_its_answer_to_nobody() -> None:
    async def slow(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/slow":
            asked.set()
            await asyncio.sleep(0.05)
        await say_the_path(path, writer)

    asked = asyncio.Event()

    async def test() -> None:
        async with server(slow) as client:
            request = asyncio.ensure_future(client.request("GET", "/slow"))
            await asked.wait()
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            assert (await client.request("GET", "/next")).body == b"/next"

    asyncio.run(test())


def test_nobody_there_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="ConnectionRefusedError"):
        asyncio.run(Client("127.0.0.1", 1).request("GET", "/"))
