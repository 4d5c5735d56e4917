"""Makes a Lambda handler of routes: finds the route, turns errors into problem details, writes one line of metrics.

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
from shared.kit.problems import (
    Forbidden,
    Malformed,
    NotFound,
    NotSetUp,
    Problem,
    TooLarge,
    Unauthenticated,
    missing_part,
)
from shared.kit.requests import encode

RESERVE_MS = 200  # to answer in, where the settings do not say otherwise

type Run = Callable[[Coroutine[Any, Any, "Response"]], "Response"]
type Route = Callable[["Request"], Awaitable["Response"]]
type Admit = Callable[["Request"], Awaitable[Mapping[str, str]]]
type Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


class Request:
    """What a route needs of the event."""

    __slots__ = ("_event", "_local_identity", "deadline", "headers", "query")

    def __init__(self, event: Mapping[str, Any], deadline: Deadline, local_identity: str | None = None) -> None:
        self._event = event
        self._local_identity = local_identity
        self.deadline = deadline
        self.headers: Mapping[str, str] = event.get("headers") or {}  # names are lower case in payload 2.0
        self.query: Mapping[str, str] = event.get("queryStringParameters") or {}

    @property
    def client(self) -> str:
        """Whose token it is, else the address that the request comes from."""
        context = self._event["requestContext"]
        subject: str = _claims(context).get("sub", "")
        return f"sub {subject}" if subject else f"ip {context.get('http', {}).get('sourceIp', '')}"

    @property
    def parameters(self) -> Mapping[str, str]:
        """Of the path."""
        parameters: Mapping[str, str] = self._event.get("pathParameters") or {}
        return parameters

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
    def subject(self) -> str:
        """The `sub` of the token that API Gateway has verified. Raises Unauthenticated (401) without one.

        Where no authorizer runs it is the endpoint's local identity, if it has one; the log says so once.
        """
        subject = _claims(self._event["requestContext"]).get("sub")
        if subject:
            return subject
        if self._local_identity is None:
            raise Unauthenticated("This needs a token, and none was verified.")
        _say_that_identity_is_assumed(self._local_identity)
        return self._local_identity

    def require_scope(self, scope: str) -> None:
        """Raises Forbidden (403) unless the token has this scope. The local identity has every scope."""
        claims = _claims(self._event["requestContext"])
        if not claims:
            _ = self.subject
            return
        # A claim that is a list arrives as "[one two]".
        if scope not in (claims.get("scope") or claims.get("scp") or "").strip("[]").split():
            raise Forbidden(f"This needs a token with the scope {scope}.")

    @property
    def idempotency_scope(self) -> str:
        """Whose request of which route: keys of one caller mean nothing to another."""
        return f"{self._event['routeKey']} {self.subject}"


def _claims(context: Mapping[str, Any]) -> Mapping[str, str]:
    claims: Mapping[str, str] = context.get("authorizer", {}).get("jwt", {}).get("claims", {})
    return claims


@functools.cache
def _say_that_identity_is_assumed(identity: str) -> None:
    """Once for each environment."""
    telemetry.logger.warning(telemetry.IDENTITY_ASSUMED, subject=identity)


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
    return Response(status, encode(value).decode(), headers or {})


def endpoint(
    routes: Mapping[str, Route],
    *,
    run: Run,
    reserve_ms: int = RESERVE_MS,
    body_max_bytes: int | None = None,
    admit: Admit | None = None,
    server_timing: bool = False,
    local_identity: str | None = None,
) -> Handler:
    """The Lambda handler for these routes. `run` is what an invocation's coroutine runs on.

    `admit` is asked before any work: it raises a problem, or gives headers that whatever is answered will have.
    `local_identity` is who asks where no authorizer has verified a token; None refuses such requests.
    """

    async def answer(event: dict[str, Any], context: Any, also: dict[str, str]) -> Response:
        try:
            route = routes.get(event.get("routeKey", ""))
            if route is None:
                raise NotFound("There is nothing at this path.")
            if body_max_bytes is not None:
                _check_size(event, body_max_bytes)
            request = Request(event, Deadline.of(context, reserve_ms=reserve_ms), local_identity)
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
            if part := missing_part(error):
                telemetry.logger.error(telemetry.NOT_SET_UP, missing=part, sqlstate=getattr(error, "sqlstate", None))
                return _refusal(NotSetUp(_not_set_up(part, local_identity is not None)), context.aws_request_id)
            # The last one: an unforeseen error is a 500 that tells the client nothing. The log says what and where, and
            # repeats no message, which may quote a row's data.
            telemetry.logger.error(
                telemetry.UNEXPECTED,
                error_type=type(error).__name__,
                sqlstate=getattr(error, "sqlstate", None),
                constraint=getattr(error, "constraint_name", None),
                where=_where(error),
            )
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


def _not_set_up(part: str, is_local: bool) -> str:
    """Only on a developer's machine does a client learn what the schema is called."""
    if not is_local:
        return "A part of the database does not exist."
    return f"{part[:1].upper()}{part[1:]}: the schema has not been applied to this database, or not all of it."


def _observed(handler: Handler) -> Handler:
    """Powertools' Logger, Metrics and Tracer around each invocation.

    Its decorators serve the first one (cold-start metric, key and annotation) and those that X-Ray chose. For any other
    they would prepare unused log keys and a subsegment that is not sent, 50 us of a warm invocation: it gets its log
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
    """Counts the bytes that the client sent: a body is text here, and Base64 is a third longer than what it encodes."""
    body = event.get("body")
    if not body:
        return
    if event.get("isBase64Encoded"):
        size = len(body) // 4 * 3 - (2 if body.endswith("==") else 1 if body.endswith("=") else 0)
    else:
        size = len(body) if body.isascii() else len(body.encode("utf-8", "surrogatepass"))
    if size > body_max_bytes:
        raise TooLarge(f"The body is larger than {body_max_bytes} bytes.")


def _refusal(problem: Problem, request_id: str) -> Response:
    document = encode(problem.document(f"urn:uuid:{request_id}")).decode()
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
