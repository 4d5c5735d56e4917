"""One ASGI application per API: route, event, invocation, answer. Of the Lambda service it knows one method."""

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from warmfront.emulator.gateway import payload, payload_v1
from warmfront.emulator.gateway.authorizers import Check, Checks
from warmfront.emulator.gateway.cors import Cors
from warmfront.emulator.gateway.credentials import DeniedError
from warmfront.emulator.gateway.dialects import (
    BODY_LIMIT_BYTES,
    EVENT_LIMIT_BYTES,
    FAILURES,
    HEADER_LIMIT_BYTES,
    INTEGRATION_LIMIT_S,
    Failure,
)
from warmfront.emulator.gateway.exchange import (
    ANSWER,
    RAW_NAMES,
    Call,
    Head,
    Request,
    Response,
    Stamps,
    api_context,
    encode_json,
    read_head,
)
from warmfront.emulator.gateway.jwt_authorizer import KeySource
from warmfront.emulator.gateway.request_observer import RequestObserver
from warmfront.emulator.gateway.routes import Router, strip_stage
from warmfront.emulator.gateway.stage_throttle import TokenBucket, buckets
from warmfront.emulator.lambda_service.types import InvocationResult, ServiceError, Throttled
from warmfront.emulator.template import Api, ApiKind, Route, Template, TemplateError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

OWN_PREFIX: Final = "/_warmfront/"
OWN_ROOT: Final = "/_warmfront"
INVOKE_PREFIX: Final = "/2015-03-31/"
_CALL: Final = "warmfront.call"
_PROTOCOLS: Final = {version: f"HTTP/{version}" for version in ("1.0", "1.1", "2", "3")}
_logger: Final = logging.getLogger("warmfront.gateway")


class Service(Protocol):
    """What the gateway wants of the Lambda service."""

    async def invoke(self, function: str, event: bytes, *, trace_id: str) -> InvocationResult: ...


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """The emulator's choices that no template states."""

    internal: AsgiApp | None = None
    """Answers /_warmfront/ and the Invoke API's dated path on the first API's port."""
    enforce_auth: bool = False
    """False: routes with an authorizer are open, and a token's claims reach the handler unverified."""
    jwks: str | None = None
    """File or URL of the public keys that tokens are verified with."""
    trust_tokens: bool = False
    """Take a token's signature on trust; everything else of it is checked."""
    enforce_throttles: bool = False
    """Hold requests to the template's ThrottlingRateLimit and ThrottlingBurstLimit."""
    region: str = "us-east-1"
    stamps: Stamps = field(default_factory=Stamps)
    monotonic: Callable[[], float] = time.monotonic
    """Measures throttles and how long an authorizer's answer is remembered."""
    note: Callable[[str], None] = field(default=lambda text: _logger.warning("%s", text))
    """Takes one line that explains an answer the handler did not give."""
    observer: RequestObserver | None = None
    """Is told of each answer; responses of every kind of API then carry their trace id."""


@dataclass(slots=True)
class _Endpoint:
    """A route with what its requests need, looked up once."""

    route: Route
    build: Callable[[Call], dict[str, object]]
    parse: Callable[[bytes, Call], Response]
    check: Check | None
    bucket: TokenBucket | None
    limit_s: float | None
    """The integration's limit, or None where the function's own timeout comes first."""
    integration: str
    """What is invoked: the function, by the alias that SAM publishes it under where it has one."""
    open: bool = field(init=False)
    """Nothing stands before the invocation."""

    def __post_init__(self) -> None:
        self.open = self.check is None and self.bucket is None


def _integration(route: Route, template: Template) -> str:
    config = template.functions.get(route.function)
    if config is None or config.auto_publish_alias is None:
        return route.function
    return f"{route.function}:{config.auto_publish_alias}"


class GatewayApp:
    """The ASGI application of one API."""

    def __init__(self, api: Api, template: Template, service: Service, options: GatewayOptions) -> None:
        self.api = api
        self.routes = api.routes
        self._service = service
        self._options = options
        self._stamps = options.stamps
        self._internal = options.internal
        self._observer = options.observer
        self._context = api_context(api)
        self._failures = FAILURES[api.kind]
        self._cors = Cors(api.cors, api.kind) if api.cors is not None else None
        self._last_headers: list[tuple[bytes, bytes]] = []
        self._last_head = read_head([])
        self._router = Router(self._endpoints(template), path_first=api.kind == "rest")

    def _endpoints(self, template: Template) -> list[tuple[str, str, _Endpoint]]:
        options, api = self._options, self.api
        checks = Checks(
            api,
            enforce=options.enforce_auth,
            keys=KeySource(options.jwks) if options.jwks else None,
            trust_tokens=options.trust_tokens,
            clock=options.stamps.clock,
            monotonic=options.monotonic,
            region=options.region,
            invoke=self._invoke_authorizer,
        )
        throttles = buckets(api, options.monotonic) if options.enforce_throttles else {}
        return [
            (
                route.method,
                route.path,
                _Endpoint(
                    route,
                    event_builder(api, route),
                    _parser(api, route),
                    checks.check(route.authorizer),
                    throttles.get(route.key),
                    self._limit_s(route, template),
                    _integration(route, template),
                ),
            )
            for route in api.routes
        ]

    def _limit_s(self, route: Route, template: Template) -> float | None:
        limit_s = min(INTEGRATION_LIMIT_S[self.api.kind], route.timeout_ms / 1000)
        # An init can outlast the function's timeout: it has ten seconds of its own.
        function_s = template.functions[route.function].timeout_s + 10
        return limit_s if limit_s < function_s else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        path: str = scope["raw_path"].decode("latin-1")
        if self._internal is not None and (path.startswith((OWN_PREFIX, INVOKE_PREFIX)) or path == OWN_ROOT):
            await self._internal(scope, receive, send)
            return
        kind, began_ns = self.api.kind, time.monotonic_ns()
        request_uuid = self._stamps.uuid() if kind != "http" else ""
        request_id = request_uuid if kind == "url" else self._stamps.request_id()
        response = await self._answer(scope, receive, path, request_id, request_uuid)
        call: Call | None = scope.get(_CALL)
        ids = _id_headers(kind, request_id, request_uuid)
        if call is not None and (request_uuid or self._observer is not None):
            ids = (*ids, (b"x-amzn-trace-id", call.trace_id.encode()))
        await _send(response, ids, scope, send)
        if self._observer is not None:
            self._observer.answered(self.api, scope["method"], path, call, response, request_id, began_ns)

    def observe(self, observer: RequestObserver | None) -> None:
        """From now on this one is told, or nobody."""
        self._observer = observer

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._internal is not None:
            await self._internal(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await _lifespan(receive, send)

    async def _answer(self, scope: Scope, receive: Receive, path: str, request_id: str, request_uuid: str) -> Response:
        method: str = scope["method"]
        headers = scope["headers"]
        if headers != self._last_headers:  # one client after another sends the same ones
            self._last_headers, self._last_head = headers, read_head(headers)
        head = self._last_head
        if head.size_bytes + len(path) + len(scope["query_string"]) > HEADER_LIMIT_BYTES:
            return self._failures[Failure.HEADERS_TOO_LARGE]
        below, _ = strip_stage(path, self.api.stage)
        match = self._router.match(method, below)
        if method == "OPTIONS" and (preflight := self._preflight(head, below, match)) is not None:
            return preflight
        if match is None:
            return self._failures[Failure.NO_ROUTE]
        endpoint, path_parameters = match
        body = b""
        if head.chunked or head.fields.get("content-length", "0") != "0":
            received = await read_body(receive, BODY_LIMIT_BYTES)
            if received is None:
                return self._failures[Failure.BODY_TOO_LARGE]
            body = received
        time_text, time_ms = self._stamps.now()
        request = _request(scope, method, path, head, body, raw_names=endpoint.route.payload_format == "1.0")
        trace_id = head.fields.get("x-amzn-trace-id") or self._stamps.trace_id()
        call = Call(
            request, self._context, endpoint.route, below, path_parameters,
            request_id, trace_id, time_text, time_ms, request_uuid,
        )  # fmt: skip
        scope[_CALL] = call
        response = await (self._invoke(endpoint, call) if endpoint.open else self._guarded(endpoint, call))
        if self._cors is not None:
            response = self._cors.apply(response, head.fields.get("origin", ""))
        return response

    def _preflight(
        self, head: Head, below: str, match: tuple[_Endpoint, dict[str, str] | None] | None
    ) -> Response | None:
        if self._cors is None:
            return None
        route_method = match[0].route.method if match is not None else None
        return self._cors.options(head.fields, route_method=route_method, methods=lambda: self._router.methods(below))

    async def _guarded(self, endpoint: _Endpoint, call: Call) -> Response:
        """Authorizer and throttle, then the invocation."""
        if endpoint.check is not None:
            try:
                call = call._replace(authorizer=await endpoint.check(call))
            except DeniedError as error:
                response = self._fail(error.failure, call, str(error))
                if error.challenge is None:
                    return response
                challenge = (b"www-authenticate", error.challenge.encode("latin-1", "replace"))
                return response._replace(headers=[*response.headers, challenge])
        if endpoint.bucket is not None and not endpoint.bucket.take():
            return self._fail(Failure.RATE_LIMITED, call, "ThrottlingRateLimit and ThrottlingBurstLimit")
        return await self._invoke(endpoint, call)

    async def _invoke(self, endpoint: _Endpoint, call: Call) -> Response:
        event = encode_json(endpoint.build(call))
        if len(event) > EVENT_LIMIT_BYTES:
            return self._fail(Failure.EVENT_TOO_LARGE, call, f"{len(event)} bytes")
        try:
            if endpoint.limit_s is None:
                result = await self._service.invoke(endpoint.integration, event, trace_id=call.trace_id)
            else:
                result = await self._bounded(endpoint.integration, event, call.trace_id, endpoint.limit_s)
        except Throttled as error:
            return self._fail(Failure.THROTTLED, call, error.reason)
        except TimeoutError:
            return self._fail(Failure.TIMEOUT, call, f"after {endpoint.limit_s} s")
        except ServiceError as error:
            return self._fail(Failure.FUNCTION_ERROR, call, str(error))
        if result.function_error is not None:
            return self._failures[Failure.FUNCTION_ERROR]
        try:
            return endpoint.parse(result.payload, call)
        except payload.MalformedResultError as error:
            return self._fail(Failure.MALFORMED, call, str(error))

    async def _bounded(self, function: str, event: bytes, trace_id: str, limit_s: float) -> InvocationResult:
        # The invocation goes on when the gateway has given up: Lambda knows nothing of the client.
        invocation = asyncio.ensure_future(self._service.invoke(function, event, trace_id=trace_id))
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.shield(invocation)
        except TimeoutError:
            invocation.add_done_callback(_forget)
            raise

    async def _invoke_authorizer(self, function: str, event: bytes, trace_id: str) -> InvocationResult:
        return await self._service.invoke(function, event, trace_id=trace_id)

    def _fail(self, failure: Failure, call: Call, detail: str) -> Response:
        response = self._failures[failure]
        self._options.note(
            f"{call.request.method} {call.request.path} -> {call.route.function}: {failure.value} ({detail}),"
            f" so the client gets {response.status}"
        )
        return response


def _id_headers(kind: ApiKind, request_id: str, request_uuid: str) -> tuple[tuple[bytes, bytes], ...]:
    """What tells the client of its request's ids."""
    if kind == "http":
        return ((b"apigw-requestid", request_id.encode()),)
    uuid_header = (b"x-amzn-requestid", request_uuid.encode())
    return (uuid_header,) if kind == "url" else (uuid_header, (b"x-amz-apigw-id", request_id.encode()))


def event_builder(api: Api, route: Route) -> Callable[[Call], dict[str, object]]:
    """What makes the event of a route."""
    if api.kind == "rest":
        return functools.partial(payload_v1.build_rest_event, binary_media_types=api.binary_media_types)
    if route.payload_format == "1.0":
        return payload_v1.build_http_event
    return functools.partial(payload.build_event, decode_path=False) if api.kind == "url" else payload.build_event


def _parser(api: Api, route: Route) -> Callable[[bytes, Call], Response]:
    if api.kind == "rest":
        return functools.partial(_parse_rest, binary_media_types=api.binary_media_types)
    if route.payload_format == "1.0":
        return lambda result, _call: payload_v1.parse_http_result(result)
    default = payload.JSON_TYPE if api.kind == "url" else payload.TEXT_TYPE
    return lambda result, _call: payload.parse_result(result, default_type=default)


def _parse_rest(result: bytes, call: Call, *, binary_media_types: tuple[str, ...]) -> Response:
    accept = call.request.head.fields.get("accept", "")
    return payload_v1.parse_rest_result(result, accept=accept, binary_media_types=binary_media_types)


def _request(scope: Scope, method: str, path: str, head: Head, body: bytes, *, raw_names: bool) -> Request:
    client = scope.get("client") or ("127.0.0.1", 0)
    server = scope.get("server") or ("127.0.0.1", 0)
    headers = scope["headers"]
    if raw_names and RAW_NAMES in scope:
        headers = list(zip(scope[RAW_NAMES], [value for _, value in headers], strict=True))
    return Request(
        method, path, scope["query_string"].decode("latin-1"), headers, head, body,
        client[0], server[1] or 0, scope["scheme"], _PROTOCOLS[scope["http_version"]],
    )  # fmt: skip


def _forget(invocation: "asyncio.Future[InvocationResult]") -> None:
    """Takes the late outcome so that asyncio does not complain about an exception nobody saw."""
    if not invocation.cancelled():
        invocation.exception()


async def read_body(receive: Receive, limit_bytes: int) -> bytes | None:
    """The whole body, or None as soon as it is over the limit."""
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            return None
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _send(response: Response, ids: tuple[tuple[bytes, bytes], ...], scope: Scope, send: Send) -> None:
    status, headers, body = response
    if status in (204, 304):
        headers, body = [*headers, *ids], b""
    else:
        headers = [*headers, *ids, (b"content-length", b"%d" % len(body))]
        answer: Callable[..., bool] | None = scope.get(ANSWER)
        if answer is not None and answer(scope, status, headers, body):
            return
    await send({"type": "http.response.start", "status": status, "headers": headers})
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
    outer = dataclasses.replace(options, internal=None)
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
