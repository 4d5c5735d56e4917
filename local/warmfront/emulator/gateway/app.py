"""Serves one API as an ASGI application: finds the route, runs its checks, invokes the function and responds."""

import asyncio
import dataclasses
import logging
import time
from typing import Final

from warmfront.emulator.gateway.asgi import (
    Receive,
    Scope,
    Send,
    end_lifespan,
    read_body,
    read_request,
    respond,
)
from warmfront.emulator.gateway.cors import Cors
from warmfront.emulator.gateway.dialects import (
    BODY_LIMIT_BYTES,
    EVENT_LIMIT_BYTES,
    HEADER_LIMIT_BYTES,
    Failure,
    RefusedError,
)
from warmfront.emulator.gateway.endpoint_factory import EndpointFactory
from warmfront.emulator.gateway.endpoints import Endpoint
from warmfront.emulator.gateway.exchange import Call, Head, Response, api_context, encode_json, read_head
from warmfront.emulator.gateway.gateway_responses import FailureResponses
from warmfront.emulator.gateway.options import GatewayOptions, Service
from warmfront.emulator.gateway.parameter_mapping import map_response
from warmfront.emulator.gateway.payload import MalformedResultError
from warmfront.emulator.gateway.request_observer import RequestObserver
from warmfront.emulator.gateway.routes import StageRouter
from warmfront.emulator.lambda_service.types import InvocationResult, ServiceError, Throttled
from warmfront.emulator.template import Api, ApiKind, Route, Template, TemplateError

OWN_PREFIX: Final = "/_warmfront/"
OWN_ROOT: Final = "/_warmfront"
INVOKE_PREFIX: Final = "/2015-03-31/"
_CALL: Final = "warmfront.call"
_logger: Final = logging.getLogger("warmfront.gateway")


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
        self._failures = FailureResponses(api)
        self._cors = Cors(api.cors, api.kind) if api.cors is not None and api.kind != "rest" else None
        self._last_headers: list[tuple[bytes, bytes]] = []
        self._last_head = read_head([])
        factory = EndpointFactory(api, template, options, self._invoke_authorizer)
        self._router: StageRouter[Endpoint] = StageRouter(factory.endpoints(), api.stage, rest=api.kind == "rest")

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
        await respond(response, ids, scope, send)
        if self._observer is not None:
            self._observer.answered(self.api, scope["method"], path, call, response, request_id, began_ns)

    def observe(self, observer: RequestObserver | None) -> None:
        """Tell this observer of responses from now on, or nobody."""
        self._observer = observer

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._internal is not None:
            await self._internal(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await end_lifespan(receive, send)

    async def _answer(self, scope: Scope, receive: Receive, path: str, request_id: str, request_uuid: str) -> Response:
        method: str = scope["method"]
        headers = scope["headers"]
        if headers != self._last_headers:  # one client after another sends the same ones
            self._last_headers, self._last_head = headers, read_head(headers)
        head = self._last_head
        if head.size_bytes + len(path) + len(scope["query_string"]) > HEADER_LIMIT_BYTES:
            return self._refuse_early(Failure.HEADERS_TOO_LARGE, scope, path, head, request_id, request_uuid)
        match = self._router.match(method, path)
        if self._cors is not None and method == "OPTIONS":
            route_method = match[0].route.method if match is not None else None
            if (preflight := self._cors.options(head.fields, route_method=route_method)) is not None:
                return preflight
        if match is None:
            return self._refuse_early(Failure.NO_ROUTE, scope, path, head, request_id, request_uuid)
        endpoint, path_parameters, below = match
        body = b""
        if head.chunked or head.fields.get("content-length", "0") != "0":
            received = await read_body(receive, BODY_LIMIT_BYTES)
            if received is None:
                return self._refuse_early(Failure.BODY_TOO_LARGE, scope, path, head, request_id, request_uuid)
            body = received
        time_text, time_ms = self._stamps.now()
        request = read_request(scope, path, head, body, raw_names=endpoint.route.payload_format == "1.0")
        trace_id = head.fields.get("x-amzn-trace-id") or self._stamps.trace_id()
        call = Call(
            request, self._context, endpoint.route, below, path_parameters,
            request_id, trace_id, time_text, time_ms, request_uuid,
        )  # fmt: skip
        scope[_CALL] = call
        response = await (self._invoke(endpoint, call) if endpoint.direct else self._guarded(endpoint, call))
        if self._cors is not None:
            response = self._cors.apply(response, head.fields.get("origin", ""))
        return response

    def _refuse_early(
        self, failure: Failure, scope: Scope, path: str, head: Head, request_id: str, request_uuid: str
    ) -> Response:
        """The response to a request that reaches no route."""
        if not self._failures.customised:
            return self._failures.plain[failure]
        request = read_request(scope, path, head, b"", raw_names=False)
        time_text, time_ms = self._stamps.now()
        nowhere = Route(method=request.method, path="", function="")
        call = Call(
            request, self._context, nowhere, path, None, request_id, "", time_text, time_ms, request_uuid
        )  # fmt: skip
        return self._failures.response(failure, call)

    async def _guarded(self, endpoint: Endpoint, call: Call) -> Response:
        """Runs the checks of a route, then its integration."""
        try:
            for step in endpoint.steps:
                call = await step(call)
            response = await (endpoint.integrate(call) if endpoint.integrate else self._invoke(endpoint, call))
            mapping = endpoint.route.mapping
            return response if mapping is None else map_response(mapping, response, call)
        except RefusedError as error:
            response = self._fail(error.failure, call, str(error), message=error.message)
            if error.challenge is None:
                return response
            challenge = (b"www-authenticate", error.challenge.encode("latin-1", "replace"))
            return response._replace(headers=[*response.headers, challenge])

    async def _invoke(self, endpoint: Endpoint, call: Call) -> Response:
        event = encode_json(endpoint.build(call))
        if len(event) > EVENT_LIMIT_BYTES:
            return self._fail(Failure.EVENT_TOO_LARGE, call, f"{len(event)} bytes")
        try:
            if endpoint.limit_s is None:
                result = await self._service.invoke(endpoint.target, event, trace_id=call.trace_id)
            else:
                result = await self._bounded(endpoint.target, event, call.trace_id, endpoint.limit_s)
        except Throttled as error:
            return self._fail(Failure.THROTTLED, call, error.reason)
        except TimeoutError:
            return self._fail(Failure.TIMEOUT, call, f"after {endpoint.limit_s} s")
        except ServiceError as error:
            return self._fail(Failure.FUNCTION_ERROR, call, str(error))
        if result.function_error is not None:
            return self._failures.response(Failure.FUNCTION_ERROR, call)
        try:
            return endpoint.parse(result.payload, call)
        except MalformedResultError as error:
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

    def _fail(self, failure: Failure, call: Call, detail: str, *, message: str | None = None) -> Response:
        response = self._failures.response(failure, call, message=message)
        target = f" -> {call.route.function}" if call.route.function else ""
        self._options.note(
            f"{call.request.method} {call.request.path}{target}: {failure.value} ({detail}),"
            f" so the client gets {response.status}"
        )
        return response


def _id_headers(kind: ApiKind, request_id: str, request_uuid: str) -> tuple[tuple[bytes, bytes], ...]:
    """What tells the client of its request's ids."""
    if kind == "http":
        return ((b"apigw-requestid", request_id.encode()),)
    uuid_header = (b"x-amzn-requestid", request_uuid.encode())
    return (uuid_header,) if kind == "url" else (uuid_header, (b"x-amz-apigw-id", request_id.encode()))


def _forget(invocation: "asyncio.Future[InvocationResult]") -> None:
    """Retrieve the late outcome, so that asyncio does not log an exception that was never retrieved."""
    if not invocation.cancelled():
        invocation.exception()


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
