"""The real server on a real socket: one write per response, header names as written, responses without a body."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState
from warmfront.emulator.gateway import create_apps
from warmfront.emulator.gateway.backlog import PER_TURN, Backlog
from warmfront.emulator.gateway.exchange import ANSWER
from warmfront.emulator.gateway.http_protocol import OneWriteProtocol, OneWriteTransport
from warmfront.emulator.template import Template

from tests.emulator.gateway.conftest import Recorder

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

    def get_extra_info(self, _name: str) -> None:
        return None

    def resume_reading(self) -> None:
        pass


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
    try:
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
            body = await reader.readexactly(length if not request.startswith(b"HEAD") else 0)
            answers.append(head + body)
    finally:
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


class Answering:
    """Gives its whole response to the server, or sends it the plain way where that is not taken."""

    def __init__(self, *headers: tuple[bytes, bytes], body: bytes = b"hello", whole: bool = True) -> None:
        self.headers = [*headers, (b"content-length", b"%d" % len(body))]
        self.body = body
        self.whole = whole
        self.taken: list[bool] = []

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        self.taken.append(self.whole and scope[ANSWER](scope, 200, self.headers, self.body))
        if not self.taken[-1]:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            await send({"type": "http.response.body", "body": self.body})


PLAIN = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def undated(answer: bytes) -> list[bytes]:
    return [line for line in answer.split(b"\r\n") if not line.startswith(b"date: ")]


def test_a_whole_response_is_to_the_letter_what_the_plain_way_sends() -> None:
    headers = (b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=\xe4")
    whole, plain = Answering(*headers), Answering(*headers, whole=False)
    answers, expected = talk_to(whole, PLAIN, PLAIN), talk_to(plain, PLAIN, PLAIN)
    assert whole.taken == [True, True]
    assert [undated(answer) for answer in answers] == [undated(answer) for answer in expected]
    assert all(b"\r\ndate: " in answer for answer in answers)


def test_a_gateway_gives_its_responses_whole(template: Load) -> None:
    (app,) = create_apps(template(ROUTES), Recorder({"statusCode": 200, "body": "hello"}))
    messages = 0

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        async def counting(message: Any) -> None:
            nonlocal messages
            messages += 1
            await send(message)

        await app(scope, receive, counting)

    answers = talk_to(counted, PLAIN, PLAIN)
    assert all(answer.endswith(b"hello") for answer in answers)
    assert messages == 0


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_ends_the_connection_or_asks_for_no_body_goes_the_plain_way(request_: bytes) -> None:
    app = Answering()
    (answer,) = talk_to(app, request_)
    assert app.taken == [False]
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n" if request_.startswith(b"HEAD") else b"hello")


@pytest.mark.parametrize("header", [(b"x-bad", b"1\r\nset-cookie: stolen=1"), (b"x bad", b"1")])
def test_a_header_that_would_split_the_response_is_never_written(header: tuple[bytes, bytes]) -> None:
    app = Answering(header)
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        talk_to(app, PLAIN)
    assert caught.value.partial == b""
    assert app.taken == [False]


def test_requests_sent_in_one_go_are_answered_in_their_order() -> None:
    bodies = iter([b"one", b"two", b"three"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Answering(body=next(bodies))(scope, receive, send)

    async def talk(port: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(3 * PLAIN)
        answers = []
        for _ in range(3):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
            answers.append(await reader.readexactly(length))
        writer.close()
        await writer.wait_closed()
        return answers

    assert asyncio.run(serve(app, talk)) == [b"one", b"two", b"three"]


def test_a_client_that_does_not_read_is_waited_for_with_the_next_response() -> None:
    app = Answering(body=bytes(32 << 20))  # more than sockets hold

    async def talk(port: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for sent in (1, 2):
            writer.write(PLAIN)
            while len(app.taken) < sent:  # noqa: ASYNC110 - set by the server of this very loop
                await asyncio.sleep(0)
        received = 0
        while received < 64 << 20:
            received += len(await reader.read(1 << 20))
        writer.close()
        await writer.wait_closed()
        return received

    assert asyncio.run(serve(app, talk)) > 64 << 20
    assert app.taken == [True, False]


def connected(app: Any, backlog: Backlog | None = None) -> tuple[OneWriteProtocol, FakeTransport]:
    config, transport = uvicorn.Config(app, lifespan="off"), FakeTransport()
    protocol = OneWriteProtocol(config, ServerState(), {}, backlog=backlog)
    protocol.connection_made(transport)  # type: ignore[arg-type]
    return protocol, transport


def test_requests_that_came_together_begin_a_few_in_a_turn() -> None:
    """Between two turns the loop hears of environments that have answered."""
    began: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        began.append(scope["path"])
        await asyncio.Event().wait()

    async def test() -> None:
        backlog = Backlog(asyncio.get_running_loop())
        protocols = [connected(app, backlog)[0] for _ in range(2 * PER_TURN + 1)]
        paths = [f"/{index}" for index in range(len(protocols))]
        for protocol, path in zip(protocols, paths, strict=True):
            protocol.data_received(PLAIN.replace(b" /a ", f" {path} ".encode()))
        seen = []
        for _ in range(4):
            seen.append(len(began))
            await asyncio.sleep(0)
        assert seen == [0, PER_TURN, 2 * PER_TURN, len(paths)]
        assert began == paths
        for protocol in protocols:
            protocol.connection_lost(None)

    asyncio.run(test())


def test_the_application_begins_in_the_turn_in_which_its_request_was_read() -> None:
    began: list[str] = []
    answered = asyncio.Event()

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        began.append(scope["path"])
        await answered.wait()
        scope[ANSWER](scope, 200, [(b"content-length", b"2")], b"ok")

    async def test() -> None:
        protocol, transport = connected(app)
        protocol.data_received(PLAIN)
        await asyncio.sleep(0)
        assert began == ["/a"]
        assert len(protocol.tasks) == 1
        answered.set()
        await asyncio.gather(*protocol.tasks)
        await asyncio.sleep(0)  # for what is called when a task is done
        assert transport.writes[0].endswith(b"\r\n\r\nok")
        assert protocol.tasks == set()
        protocol.connection_lost(None)

    asyncio.run(test())


def test_an_application_that_waits_for_nothing_leaves_no_task() -> None:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        scope[ANSWER](scope, 200, [(b"content-length", b"2")], b"ok")

    async def test() -> None:
        protocol, transport = connected(app)
        for _ in range(2):
            protocol.data_received(PLAIN)
            await asyncio.sleep(0)
        assert [data.endswith(b"\r\n\r\nok") for data in transport.writes] == [True, True]
        assert protocol.tasks == set()
        protocol.connection_lost(None)

    asyncio.run(test())
