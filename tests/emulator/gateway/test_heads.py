"""Heads of requests are bounded while they arrive, in bytes and in time; others on the connection are not cut."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from warmfront.emulator.gateway import create_apps, http_protocol
from warmfront.emulator.gateway.http_protocol import HEAD_MAX_BYTES
from warmfront.emulator.template import Template

from tests.emulator.gateway.conftest import Recorder
from tests.emulator.gateway.test_protocol import ROUTES, exchange, serve

Load = Callable[..., Template]
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


async def endless(port: int, begin: bytes, piece: bytes, pause_s: float = 0.0) -> tuple[bytes, int]:
    """What a client gets that never ends its head, and how much it could send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begin)
    answer, sent = asyncio.ensure_future(reader.read()), len(begin)
    try:
        while not answer.done() and sent < 50 * HEAD_MAX_BYTES:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            await asyncio.sleep(pause_s)
    except ConnectionError:
        pass
    finally:
        writer.close()
    try:
        return await asyncio.wait_for(answer, 5), sent
    except ConnectionError:
        return b"", sent


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /a HTTP/1.1\r\nX-Long: ", b"x" * 8192),
        (b"GET /a HTTP/1.1\r\n", b"X-Many: 1\r\n" * 700),
        (b"GET /", b"a" * 8192),
    ],
    ids=["one-header", "many-headers", "url"],
)
def test_a_head_without_end_ends_the_connection(template: Load, begin: bytes, piece: bytes) -> None:
    service = Recorder()
    (app,) = create_apps(template(ROUTES), service)
    answer, sent = asyncio.run(serve(app, lambda port: endless(port, begin, piece)))
    assert sent < 50 * HEAD_MAX_BYTES
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")  # lost where the client was still writing
    assert service.calls == []


@pytest.mark.parametrize("first", [b"", GET], ids=["new", "kept"])
def test_a_slow_head_is_a_408(template: Load, first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_LIMIT_S", 0.2)
    (app,) = create_apps(template(ROUTES), Recorder())

    async def talk(port: int) -> tuple[bytes, int]:
        return await endless(port, first + b"GET /a HTTP/1.1\r\n", b"X: 1\r\n", pause_s=0.02)

    answer, _ = asyncio.run(serve(app, talk))
    statuses = [int(each) for each in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]
    assert statuses == ([200, 408] if first else [408])


def test_a_silent_connection_is_closed_without_an_answer(template: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "SILENCE_LIMIT_S", 0.05)
    (app,) = create_apps(template(ROUTES), Recorder())

    async def talk(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()

    assert asyncio.run(serve(app, talk)) == b""


def test_a_head_in_small_pieces_and_requests_after_it_are_served(template: Load) -> None:
    (app,) = create_apps(template(ROUTES), Recorder())

    async def talk(port: int) -> tuple[bytes, list[bytes]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for index in range(0, len(GET), 5):
            writer.write(GET[index : index + 5])
            await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return head, await exchange(port, *[GET] * 3)

    found: Any = asyncio.run(serve(app, talk))
    assert found[0].startswith(b"HTTP/1.1 200 ")
    assert all(each.startswith(b"HTTP/1.1 200 ") for each in found[1])


def test_a_large_body_is_not_counted_as_a_head(template: Load) -> None:
    (app,) = create_apps(template(ROUTES), Recorder())
    body = b"x" * (3 * HEAD_MAX_BYTES)
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def talk(port: int) -> list[bytes]:
        return await exchange(port, request, request, GET)

    found = asyncio.run(serve(app, talk))
    assert [each[:12] for each in found] == [b"HTTP/1.1 200"] * 3
