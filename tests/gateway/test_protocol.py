"""The real server on a real socket: one write per answer, header names as written, answers without a body."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from local.gateway import create_apps
from local.gateway.protocol import OneWriteProtocol, OneWriteTransport
from local.template import Template
from tests.gateway.conftest import Recorder

Load = Callable[..., Template]
ROUTES = """
  A:
    Type: AWS::Serverless::Function
    Properties: {Events: {E: {Type: HttpApi, Properties: {Path: /a, Method: any}}}}
"""
REST = """
  A:
    Type: AWS::Serverless::Function
    Properties: {Events: {E: {Type: Api, Properties: {Path: /a, Method: any}}}}
"""


class FakeTransport:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def held(*writes: bytes) -> tuple[OneWriteTransport, FakeTransport]:
    inner = FakeTransport()
    transport = OneWriteTransport(inner)  # type: ignore[arg-type]
    for data in writes:
        transport.write(data)
    return transport, inner


def test_head_and_body_leave_in_one_write() -> None:
    _, inner = held(b"HTTP/1.1 200 OK\r\n\r\n", b"body", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 is my body")
    assert inner.writes == [b"HTTP/1.1 200 OK\r\n\r\nbody", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 is my body"]


def test_a_head_without_body_leaves_at_the_end_of_the_answer() -> None:
    transport, inner = held(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert inner.writes == []
    transport.flush()
    transport.flush()
    assert inner.writes == [b"HTTP/1.1 204 No Content\r\n\r\n"]


def test_closing_sends_what_is_held() -> None:
    transport, inner = held(b"HTTP/1.1 204 No Content\r\n\r\n")
    transport.close()
    assert inner.writes == [b"HTTP/1.1 204 No Content\r\n\r\n"]
    assert inner.closed
    assert transport.is_closing()


def test_100_continue_is_not_held() -> None:
    _, inner = held(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert inner.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]


async def serve(app: Any, talk: Callable[[int], Awaitable[Any]]) -> Any:
    config = uvicorn.Config(app, port=0, http=OneWriteProtocol, log_level="error", lifespan="off", server_header=False)
    server = uvicorn.Server(config)
    with contextlib.closing(config.bind_socket()) as listener:
        listener.listen()  # clients may come before the server accepts
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            return await asyncio.wait_for(talk(listener.getsockname()[1]), 20)
        finally:
            server.should_exit = True
            await task


async def exchange(port: int, *requests: bytes) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
        body = await reader.readexactly(length if not request.startswith(b"HEAD") else 0)
        answers.append(head + body)
    writer.close()
    await writer.wait_closed()
    return answers


def talk_to(app: Any, *requests: bytes) -> list[bytes]:
    async def talk(port: int) -> list[bytes]:
        return await exchange(port, *requests)

    return list(asyncio.run(serve(app, talk)))


def test_a_connection_is_kept_through_answers_with_and_without_body(template: Load) -> None:
    service = Recorder({"statusCode": 200, "headers": {"content-type": "text/plain"}, "body": "hello"})
    (app,) = create_apps(template(ROUTES), service)
    request = b"%s /a HTTP/1.1\r\nHost: x\r\n\r\n"
    answers = talk_to(app, request % b"GET", request % b"HEAD", request % b"GET", b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answers[0].endswith(b"\r\n\r\nhello")
    assert answers[1].endswith(b"\r\n\r\n")
    assert b"content-length: 5" in answers[1]
    assert answers[2].endswith(b"hello")
    assert answers[3].startswith(b"HTTP/1.1 404 Not Found")
    assert all(b"apigw-requestid: " in answer and b"server:" not in answer for answer in answers)


def test_204_and_304_have_no_body_and_keep_the_connection(template: Load) -> None:
    service = Recorder({"statusCode": 204})
    (app,) = create_apps(template(ROUTES), service)
    request = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    first, second = talk_to(app, request, request)
    assert first.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"content-length" not in first
    assert b"transfer-encoding" not in first
    assert second.startswith(b"HTTP/1.1 204")


def test_a_posted_body_and_expect_continue_arrive(template: Load) -> None:
    service = Recorder()
    (app,) = create_apps(template(ROUTES), service)
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 7\r\n"
    talk_to(app, head + b'\r\n{"a":1}')
    (_, event) = service.calls[0]
    assert event["body"] == '{"a":1}'

    async def talk(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"Expect: 100-continue\r\n\r\n")
        interim = await reader.readuntil(b"\r\n\r\n")
        writer.write(b'{"a":2}')
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return interim

    assert asyncio.run(serve(app, talk)) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert service.calls[1][1]["body"] == '{"a":2}'


def test_a_rest_event_shows_header_names_as_written(template: Load) -> None:
    service = Recorder()
    (app,) = create_apps(template(REST), service)
    talk_to(app, b"GET /a HTTP/1.1\r\nHost: x\r\nX-My-Header: 1\r\nother: 2\r\n\r\n")
    headers: Any = service.calls[0][1]["headers"]
    assert (headers["X-My-Header"], headers["other"], headers["Host"]) == ("1", "2", "x")


def test_requests_on_ten_connections_do_not_mix(template: Load) -> None:
    class Echo(Recorder):
        async def invoke(self, function: str, event: bytes, *, trace_id: str) -> Any:
            await asyncio.sleep(0)
            query = json.loads(event)["queryStringParameters"]["n"]
            self.result = {"statusCode": 200, "body": query}
            return await super().invoke(function, event, trace_id=trace_id)

    (app,) = create_apps(template(ROUTES), Echo())

    async def talk(port: int) -> list[list[bytes]]:
        requests = [[b"GET /a?n=%d HTTP/1.1\r\nHost: x\r\n\r\n" % (100 * c + n) for n in range(20)] for c in range(10)]
        return await asyncio.gather(*(exchange(port, *own) for own in requests))

    for connection, answers in enumerate(asyncio.run(serve(app, talk))):
        assert [int(a.rpartition(b"\r\n")[2]) for a in answers] == [100 * connection + n for n in range(20)]
