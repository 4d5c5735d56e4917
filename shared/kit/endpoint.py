"""The handler around the routes: route key -> function, errors -> problem details, one line of metrics. Knows no route.

The route key is the one that API Gateway has matched already (payload 2.0, `routeKey`), so nothing is matched again:
Powertools' event handler would cost 80 ms of import (302 modules) and 25 to 65 us per invocation to find what
`event["routeKey"]` says.
"""

import functools
import os
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from msgspec import Struct

from shared.kit import telemetry, tracing
from shared.kit.deadline import Deadline
from shared.kit.problems import Malformed, NotFound, Problem, TooLarge
from shared.shop import contract

RESERVE_MS = 200  # to answer in, where the settings do not say otherwise

type Run = Callable[[Coroutine[Any, Any, "Response"]], "Response"]
type Route = Callable[["Request"], Awaitable["Response"]]
type Admit = Callable[["Request"], Awaitable[Mapping[str, str]]]
type Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


class Request:
    """What a route needs of the event."""

    __slots__ = ("_event", "deadline", "headers", "query")

    def __init__(self, event: Mapping[str, Any], deadline: Deadline) -> None:
        self._event = event
        self.deadline = deadline
        self.headers: Mapping[str, str] = event.get("headers") or {}  # names are lower case in payload 2.0
        self.query: Mapping[str, str] = event.get("queryStringParameters") or {}

    @property
    def client(self) -> str:
        """Who asks: whose token it is, else the address that it comes from."""
        context = self._event["requestContext"]
        subject: str = _claims(context).get("sub", "")
        return f"sub {subject}" if subject else f"ip {context.get('http', {}).get('sourceIp', '')}"

    @property
    def id(self) -> str:
        """The one path parameter that the shop has."""
        identity: str = self._event["pathParameters"]["id"]
        return identity

    @property
    def path(self) -> str:
        path: str = self._event["rawPath"]
        return path

    @property
    def body(self) -> bytes:
        body: str = self._event.get("body") or ""
        if not self._event.get("isBase64Encoded"):
            return body.encode("utf-8", "surrogatepass")  # half a surrogate pair is for the JSON reader to refuse
        try:
            return b64decode(body, validate=True)
        except ValueError:
            raise Malformed("The body is not the Base64 that it is said to be.") from None

    @property
    def scope(self) -> str:
        """Whose request of which route: keys of one caller mean nothing to another."""
        return f"{self._event['routeKey']} {_claims(self._event['requestContext']).get('sub', '')}"


def _claims(context: Mapping[str, Any]) -> Mapping[str, str]:
    claims: Mapping[str, str] = context.get("authorizer", {}).get("jwt", {}).get("claims", {})
    return claims


_NOTHING: Mapping[str, str] = {}


class Response(Struct, frozen=True):
    status: int
    body: str = ""
    headers: dict[str, str] = {}  # msgspec copies it for each instance
    media_type: str = "application/json"

    def payload(self, also: Mapping[str, str] = _NOTHING) -> dict[str, Any]:
        """`also`: headers that every response of this invocation has."""
        headers = {"content-type": self.media_type, **self.headers} if self.body else {**self.headers}
        headers |= also
        return {"statusCode": self.status, "headers": headers, "body": self.body, "isBase64Encoded": False}


def json(status: int, value: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(status, contract.encode(value).decode(), headers or {})


def endpoint(
    routes: Mapping[str, Route],
    *,
    run: Run,
    reserve_ms: int = RESERVE_MS,
    body_max_bytes: int | None = None,
    admit: Admit | None = None,
    server_timing: bool = False,
) -> Handler:
    """The Lambda handler for these routes. `run` is what an invocation's coroutine runs on.

    `admit` is asked before any work: it raises a problem, or gives headers that whatever is answered will have.
    """

    async def answer(event: dict[str, Any], context: Any, also: dict[str, str]) -> Response:
        try:
            route = routes.get(event.get("routeKey", ""))
            if route is None:
                raise NotFound("There is nothing at this path.")
            if body_max_bytes is not None:
                _check_size(event, body_max_bytes)
            request = Request(event, Deadline.of(context, reserve_ms=reserve_ms))
            if admit is not None:
                also |= await admit(request)
            return await route(request)
        except Problem as problem:
            if problem.status >= 500:
                cause = type(problem.__cause__ or problem).__name__
                telemetry.logger.warning(
                    telemetry.REFUSED, status=problem.status, problem=problem.type, error_type=cause
                )
            return _refusal(problem, context.aws_request_id)
        except Exception as error:
            # The last one: whatever nobody foresaw is a 500 that tells the client nothing, and the log only where.
            telemetry.logger.error(telemetry.UNEXPECTED, error_type=type(error).__name__, where=_where(error))
            return _refusal(Problem("This should not have happened."), context.aws_request_id)

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        begun_s = time.perf_counter()
        telemetry.begin_to_spend()
        also: dict[str, str] = {}
        response = run(answer(event, context, also))
        telemetry.describe(route=event.get("routeKey"), status=response.status, request_id=context.aws_request_id)
        latency_ms = (time.perf_counter() - begun_s) * 1000
        telemetry.measure(telemetry.LATENCY, round(latency_ms, 3))
        if server_timing:
            also["server-timing"] = telemetry.spent(latency_ms)
        return response.payload(also)

    return _observed(handler)


def _observed(handler: Handler) -> Handler:
    """Powertools' Logger, Metrics and Tracer around each invocation.

    Its decorators serve the first one (cold-start metric, key and annotation) and those that X-Ray chose. For any other
    they would prepare log keys nobody reads and a subsegment nobody sends, 50 us of a warm invocation: it gets its log
    keys when it logs something, and its line of metrics.
    """
    decorated: Handler = telemetry.logger.inject_lambda_context(handler)
    decorated = telemetry.metrics.log_metrics(decorated, capture_cold_start_metric=True)
    tracer = tracing.tracer_for(os.environ, telemetry.SERVICE)
    if tracer is not None:
        decorated = tracer.capture_lambda_handler(decorated, capture_response=False)
    if telemetry.LOGS_EACH_INVOCATION:
        return decorated
    whole = True

    @functools.wraps(handler)
    def observed(event: dict[str, Any], context: Any) -> dict[str, Any]:
        nonlocal whole
        if whole or (tracer is not None and tracing.chosen(os.environ)):
            whole = False
            telemetry.context_of_logs.serve(None)
            answered: dict[str, Any] = decorated(event, context)
            return answered
        telemetry.context_of_logs.serve(context)
        try:
            return handler(event, context)
        finally:
            telemetry.metrics.flush_metrics()

    return observed


def _check_size(event: Mapping[str, Any], body_max_bytes: int) -> None:
    body = event.get("body")
    if body is not None and len(body) > body_max_bytes:
        raise TooLarge(f"The body is larger than {body_max_bytes} bytes.")


def _refusal(problem: Problem, request_id: str) -> Response:
    document = contract.encode(problem.document(f"urn:uuid:{request_id}")).decode()
    return Response(
        problem.status, document, {**problem.headers, "cache-control": "no-store"}, "application/problem+json"
    )


def _where(error: BaseException) -> list[str]:
    """The way through the code, without the text of any line and without the message: either may hold a row's data."""
    steps = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        steps.append(f"{code.co_filename.rpartition('/')[2]}:{step.tb_lineno} {code.co_name}")
        step = step.tb_next
    return steps[-8:]
