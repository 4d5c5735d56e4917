"""One ASGI application per API: route, event, invocation, answer. Of the Lambda service it knows one method."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from local.gateway import payload
from local.gateway.cors import Cors
from local.gateway.dialects import (
    BODY_LIMIT_BYTES,
    EVENT_LIMIT_BYTES,
    FAILURES,
    HEADER_LIMIT_BYTES,
    INTEGRATION_LIMIT_S,
    Failure,
)
from local.gateway.exchange import Call, Request, Response, Stamps, api_context, encode_json
from local.gateway.routes import Router, strip_stage
from local.lambda_service.types import InvocationResult, ServiceError, Throttled
from local.template import Api, Route, Template, TemplateError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

OWN_PREFIX: Final = "/_warmfront/"
INVOKE_PREFIX: Final = "/2015-03-31/"
_logger: Final = logging.getLogger("warmfront.gateway")


class Service(Protocol):
    """What the gateway wants of the Lambda service."""

    async def invoke(self, function: str, event: bytes, *, trace_id: str) -> InvocationResult: ...


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """The emulator's choices that no template states."""

    internal: AsgiApp | None = None
    """Answers /_warmfront/ and the Invoke API's dated path on the first API's port."""
    stamps: Stamps = field(default_factory=Stamps)
    note: Callable[[str], None] = field(default=lambda text: _logger.warning("%s", text))
    """Takes one line that explains an answer the handler did not give."""


@dataclass(slots=True)
class _Endpoint:
    """A route with what its requests need, looked up once."""

    route: Route
    build: Callable[[Call], dict[str, object]]
    parse: Callable[[bytes], Response]
    limit_s: float | None
    """The integration's limit, or None where the function's own timeout comes first."""


class GatewayApp:
    """The ASGI application of one API."""

    def __init__(self, api: Api, template: Template, service: Service, options: GatewayOptions) -> None:
        self.api = api
        self.routes = api.routes
        self._service = service
        self._options = options
        self._stamps = options.stamps
        self._internal = options.internal
        self._context = api_context(api)
        self._failures = FAILURES[api.kind]
        self._cors = Cors(api.cors, api.kind) if api.cors is not None and api.kind != "rest" else None
        self._router = Router(
            ((route.method, route.path, self._endpoint(route, template)) for route in api.routes),
            path_first=api.kind == "rest",
        )

    def _endpoint(self, route: Route, template: Template) -> _Endpoint:
        limit_s = min(INTEGRATION_LIMIT_S[self.api.kind], route.timeout_ms / 1000)
        # An init can outlast the function's timeout: it has ten seconds of its own.
        function_s = template.functions[route.function].timeout_s + 10
        return _Endpoint(route, payload.build_event, payload.parse_result, limit_s if limit_s < function_s else None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        path: str = scope["raw_path"].decode("latin-1")
        if self._internal is not None and path.startswith((OWN_PREFIX, INVOKE_PREFIX)):
            await self._internal(scope, receive, send)
            return
        request_id = self._stamps.request_id()
        response = await self._answer(scope, receive, path, request_id)
        await _send(response, request_id, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._internal is not None:
            await self._internal(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await _lifespan(receive, send)

    async def _answer(self, scope: Scope, receive: Receive, path: str, request_id: str) -> Response:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        method: str = scope["method"]
        size = len(path) + len(scope["query_string"])
        origin, has_body = "", False
        for name, value in headers:
            size += len(name) + len(value)
            if name == b"origin":
                origin = value.decode("latin-1")
            elif name == b"content-length":
                has_body = value != b"0"
            elif name == b"transfer-encoding":
                has_body = True
        if size > HEADER_LIMIT_BYTES:
            return self._failures[Failure.HEADERS_TOO_LARGE]
        below, _ = strip_stage(path, self.api.stage)
        if self._cors is not None and method == "OPTIONS" and origin:
            return self._cors.preflight(origin)
        match = self._router.match(method, below)
        if match is None:
            return self._failures[Failure.NO_ROUTE]
        body = b""
        if has_body:
            received = await read_body(receive, BODY_LIMIT_BYTES)
            if received is None:
                return self._failures[Failure.BODY_TOO_LARGE]
            body = received
        endpoint, path_parameters = match
        client = scope.get("client") or ("127.0.0.1", 0)
        server = scope.get("server") or ("127.0.0.1", 0)
        request = Request(
            method,
            path,
            scope["query_string"].decode("latin-1"),
            headers,
            body,
            client[0],
            server[1] or 0,
            scope["scheme"],
            f"HTTP/{scope['http_version']}",
        )
        time_text, time_ms = self._stamps.now()
        trace_id = _client_trace_id(headers) or self._stamps.trace_id()
        call = Call(
            request,
            self._context,
            endpoint.route,
            below,
            path_parameters,
            request_id,
            trace_id,
            time_text,
            time_ms,
        )
        response = await self._invoke(endpoint, call)
        if self._cors is not None:
            return Response(response.status, self._cors.apply(response.headers, origin), response.body)
        return response

    async def _invoke(self, endpoint: _Endpoint, call: Call) -> Response:
        event = encode_json(endpoint.build(call))
        if len(event) > EVENT_LIMIT_BYTES:
            return self._fail(Failure.EVENT_TOO_LARGE, call, f"{len(event)} bytes")
        try:
            result = await self._bounded(endpoint, event, call.trace_id)
        except Throttled as error:
            return self._fail(Failure.THROTTLED, call, error.reason)
        except TimeoutError:
            return self._fail(Failure.TIMEOUT, call, f"after {endpoint.limit_s:g} s")
        except ServiceError as error:
            return self._fail(Failure.FUNCTION_ERROR, call, str(error))
        if result.function_error is not None:
            return self._failures[Failure.FUNCTION_ERROR]
        try:
            return endpoint.parse(result.payload)
        except payload.MalformedResultError as error:
            return self._fail(Failure.MALFORMED, call, str(error))

    async def _bounded(self, endpoint: _Endpoint, event: bytes, trace_id: str) -> InvocationResult:
        if endpoint.limit_s is None:
            return await self._service.invoke(endpoint.route.function, event, trace_id=trace_id)
        # The invocation goes on when the gateway has given up: Lambda knows nothing of the client.
        invocation = asyncio.ensure_future(self._service.invoke(endpoint.route.function, event, trace_id=trace_id))
        try:
            async with asyncio.timeout(endpoint.limit_s):
                return await asyncio.shield(invocation)
        except TimeoutError:
            invocation.add_done_callback(_forget)
            raise

    def _fail(self, failure: Failure, call: Call, detail: str) -> Response:
        response = self._failures[failure]
        self._options.note(
            f"{call.request.method} {call.request.path} -> {call.route.function}: {failure.value} ({detail}),"
            f" so the client gets {response.status}"
        )
        return response


def _forget(invocation: "asyncio.Future[InvocationResult]") -> None:
    """Takes the late outcome so that asyncio does not complain about an exception nobody saw."""
    if not invocation.cancelled():
        invocation.exception()


def _client_trace_id(headers: list[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"x-amzn-trace-id":
            return value.decode("latin-1") or None
    return None


async def read_body(receive: Receive, limit_bytes: int) -> bytes | None:
    """The whole body, or None as soon as it is over the limit."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body if len(body) <= limit_bytes else None
    chunks, size = [body], len(body)
    while size <= limit_bytes:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks) if size <= limit_bytes else None
    return None


async def _send(response: Response, request_id: str, send: Send) -> None:
    headers = [*response.headers, (b"apigw-requestid", request_id.encode())]
    body = response.body
    if response.status in (204, 304):
        body = b""
    else:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def create_apps(template: Template, service: Service, options: GatewayOptions | None = None) -> list[GatewayApp]:
    """One application per API of the template, the first with the emulator's own paths.

    Raises TemplateError where a route takes one of those paths.
    """
    options = options or GatewayOptions()
    outer = GatewayOptions(stamps=options.stamps, note=options.note)
    apps = []
    for index, api in enumerate(template.apis):
        if index == 0 and options.internal is not None:
            _refuse_clashes(template, api)
        apps.append(GatewayApp(api, template, service, options if index == 0 else outer))
    return apps


def _refuse_clashes(template: Template, api: Api) -> None:
    for route in api.routes:
        for prefix in (OWN_PREFIX, INVOKE_PREFIX):
            if f"{route.path}/".startswith(prefix):
                raise TemplateError(
                    f"{template.path}:{route.line}: route {route.key} of {api.logical_id} clashes with"
                    f" {prefix}, which the emulator keeps for itself; rename the route"
                )
