"""The application around the pure parts: ports, clashes, bodies in pieces, time limits, headers and ids."""

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from warmfront.emulator.gateway import GatewayOptions, create_apps
from warmfront.emulator.lambda_service.types import FunctionNotFound, InvocationResult
from warmfront.emulator.template import Template, TemplateError

from tests.emulator.gateway.asgi import ask
from tests.emulator.gateway.conftest import Recorder

Load = Callable[..., Template]
TWO_APIS = """
  First: {Type: AWS::Serverless::HttpApi}
  Second: {Type: AWS::Serverless::Api, Properties: {StageName: v1}}
  A:
    Type: AWS::Serverless::Function
    Properties:
      FunctionUrlConfig: {AuthType: NONE}
      Events:
        One: {Type: HttpApi, Properties: {Path: /a, Method: get, ApiId: !Ref First}}
        Two: {Type: Api, Properties: {Path: /b, Method: get, RestApiId: !Ref Second}}
"""


def one_route(path: str, **more: str) -> str:
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    return f"""
  A:
    Type: AWS::Serverless::Function
    Properties:
      Timeout: 60
      Events: {{E: {{Type: HttpApi, Properties: {{Path: "{path}", Method: any{extra}}}}}}}
"""


def test_every_api_and_function_url_has_an_application(template: Load) -> None:
    apps = create_apps(template(TWO_APIS), Recorder())
    assert [(app.api.kind, app.api.logical_id) for app in apps] == [
        ("http", "First"),
        ("rest", "Second"),
        ("url", "AUrl"),
    ]
    assert [route.key for route in apps[1].routes] == ["GET /b"]


async def internal(scope: MutableMapping[str, Any], receive: object, send: Any) -> None:  # noqa: ARG001
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@pytest.mark.parametrize("path", ["/_warmfront/state", "/2015-03-31/functions/A/invocations"])
def test_the_emulators_own_paths_go_to_its_own_application_on_the_first_port_only(template: Load, path: str) -> None:
    apps = create_apps(template(TWO_APIS), Recorder(), GatewayOptions(internal=internal))
    assert asyncio.run(ask(apps[0], "GET", path, []))[0] == 299
    assert asyncio.run(ask(apps[1], "GET", path, []))[0] == 403


@pytest.mark.parametrize(
    ("path", "prefix"), [("/_warmfront/mine", "/_warmfront/"), ("/2015-03-31/{x}", "/2015-03-31/")]
)
def test_a_route_that_clashes_with_the_emulators_paths_names_both(template: Load, path: str, prefix: str) -> None:
    loaded = template(one_route(path))
    with pytest.raises(TemplateError, match="clashes with") as caught:
        create_apps(loaded, Recorder(), GatewayOptions(internal=internal))
    assert f"ANY {path}" in str(caught.value)
    assert prefix in str(caught.value)


def test_a_greedy_route_does_not_clash_but_comes_after_the_emulators_paths(template: Load) -> None:
    (app,) = create_apps(template(one_route("/{proxy+}")), Recorder(), GatewayOptions(internal=internal))
    assert asyncio.run(ask(app, "GET", "/_warmfront/state", []))[0] == 299
    assert asyncio.run(ask(app, "GET", "/other", []))[0] == 200


@pytest.mark.parametrize("chunk_bytes", [1, 3, 1000])
def test_a_body_in_pieces_is_one_body(template: Load, chunk_bytes: int) -> None:
    service = Recorder()
    (app,) = create_apps(template(one_route("/a")), service)
    headers = [("Content-Type", "text/plain"), ("Transfer-Encoding", "chunked")]
    asyncio.run(ask(app, "POST", "/a", headers, b"hello world", chunk_bytes=chunk_bytes))
    assert service.calls[0][1]["body"] == "hello world"


def test_equal_and_different_headers_in_turn_each_reach_their_own_event(template: Load) -> None:
    service = Recorder()
    (app,) = create_apps(template(one_route("/a")), service)
    for value in ("1", "1", "2", "1"):
        asyncio.run(ask(app, "GET", "/a", [("X-Forwarded-For", value), ("Cookie", f"n={value}")]))
    events: list[Any] = [event for _, event in service.calls]
    assert [event["headers"]["x-forwarded-for"] for event in events] == [f"{n}, 127.0.0.1" for n in "1121"]
    assert [event["cookies"] for event in events] == [[f"n={n}"] for n in "1121"]


def test_ids_do_not_repeat(template: Load) -> None:
    service = Recorder()
    (app,) = create_apps(template(one_route("/a")), service)
    for _ in range(600):
        asyncio.run(ask(app, "GET", "/a", []))
    contexts: list[Any] = [event["requestContext"] for _, event in service.calls]
    headers: list[Any] = [event["headers"] for _, event in service.calls]
    assert len({context["requestId"] for context in contexts}) == 600
    assert len({header["x-amzn-trace-id"] for header in headers}) == 600


def test_a_body_over_the_limit_is_not_read_to_its_end(template: Load) -> None:
    (app,) = create_apps(template(one_route("/a")), Recorder())
    reads = 0

    async def endless() -> MutableMapping[str, Any]:
        nonlocal reads
        reads += 1
        return {"type": "http.request", "body": b"x" * 1_000_000, "more_body": True}

    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "raw_path": b"/a", "path": "/a",
        "query_string": b"", "headers": [(b"transfer-encoding", b"chunked")], "client": None, "server": None,
    }  # fmt: skip
    asyncio.run(app(scope, endless, send))
    assert sent[0]["status"] == 413
    assert reads == 11


def test_an_invocation_goes_on_after_the_gateway_has_given_up(template: Load) -> None:
    class Slow(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.release = asyncio.Event()
            self.finished = asyncio.Event()

        async def invoke(self, function: str, event: bytes, *, trace_id: str) -> InvocationResult:
            await self.release.wait()
            self.finished.set()
            return await super().invoke(function, event, trace_id=trace_id)

    async def scenario() -> int:
        service = Slow()
        (app,) = create_apps(
            template(one_route("/a", TimeoutInMillis="50")), service, GatewayOptions(note=lambda _: None)
        )
        status = (await ask(app, "GET", "/a", []))[0]
        service.release.set()
        await asyncio.wait_for(service.finished.wait(), 5)
        return status

    assert asyncio.run(scenario()) == 503


def test_a_function_that_finishes_first_needs_no_timer(template: Load) -> None:
    """Only where the function may outlast the integration is there a task and a timer for it."""
    app = create_apps(template(one_route("/a").replace("Timeout: 60", "Timeout: 10")), Recorder())[0]
    endpoint, *_ = app._router.match("GET", "/a") or pytest.fail("no route")
    assert endpoint.limit_s is None
    app = create_apps(template(one_route("/a")), Recorder())[0]
    endpoint, *_ = app._router.match("GET", "/a") or pytest.fail("no route")
    assert endpoint.limit_s == 30


def test_a_function_that_cannot_run_is_a_500_and_a_note_that_says_why(template: Load) -> None:
    class Nothing(Recorder):
        async def invoke(self, function: str, event: bytes, *, trace_id: str) -> InvocationResult:  # noqa: ARG002
            raise FunctionNotFound("Function not found: A")

    notes: list[str] = []
    (app,) = create_apps(template(one_route("/a")), Nothing(), GatewayOptions(note=notes.append))
    assert asyncio.run(ask(app, "GET", "/a", []))[0] == 500
    assert notes == ["GET /a -> A: the function failed (Function not found: A), so the client gets 500"]


def test_lifespan_is_answered(template: Load) -> None:
    (app,) = create_apps(template(one_route("/a")), Recorder())
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> MutableMapping[str, Any]:
        return incoming.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_websocket_is_refused(template: Load) -> None:
    (app,) = create_apps(template(one_route("/a")), Recorder())
    sent: list[str] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    asyncio.run(app({"type": "websocket"}, receive, send))
    assert sent == ["websocket.close"]


@pytest.mark.parametrize("path", ["/Prod", "/Prod/"])
def test_the_root_of_a_rest_stage_is_no_segment_of_a_greedy_path(template: Load, path: str) -> None:
    """logandk/serverless-wsgi issue 20, RhinoSecurityLabs/IPRotate_Burp_Extension issue 5."""
    service = Recorder()
    (app,) = create_apps(template(one_route("/{proxy+}").replace("HttpApi", "Api")), service)
    status, _, body = asyncio.run(ask(app, "GET", path, []))
    assert (status, body, service.calls) == (403, b'{"message":"Missing Authentication Token"}', [])
    assert asyncio.run(ask(app, "GET", "/Prod/Prod", []))[0] == 200
