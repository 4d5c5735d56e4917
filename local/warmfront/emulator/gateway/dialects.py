"""How HTTP APIs, REST APIs and function URLs differ: what each answers when the handler's own answer cannot be sent."""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from warmfront.emulator.gateway.exchange import Response
from warmfront.emulator.template import ApiKind

INTEGRATION_LIMIT_S: Final[Mapping[ApiKind, float]] = {"http": 30.0, "rest": 29.0, "url": 900.0}
"""docs.aws.amazon.com/apigateway/latest/developerguide/limits.html"""
BODY_LIMIT_BYTES: Final = 10 * 1024 * 1024
EVENT_LIMIT_BYTES: Final = 6 * 1024 * 1024
"""docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: what Lambda takes for a synchronous invocation."""
HEADER_LIMIT_BYTES: Final = 10_240
"""HTTP APIs: request line and header values together. REST APIs and function URLs are held to the same figure here."""


class Failure(Enum):
    """Why a request does not get the handler's answer."""

    NO_ROUTE = "no route"
    FUNCTION_ERROR = "the function failed"
    MALFORMED = "the handler's result is malformed"
    TIMEOUT = "the integration timed out"
    THROTTLED = "Lambda throttled the invocation"
    RATE_LIMITED = "the stage's throttle"
    BODY_TOO_LARGE = "the request's body is too large"
    EVENT_TOO_LARGE = "the event is too large for Lambda"
    HEADERS_TOO_LARGE = "the request's headers are too large"
    UNAUTHORIZED = "no or invalid credentials"
    FORBIDDEN = "the authorizer denied"
    AUTHORIZER_FAILED = "the authorizer failed"


def _json(status: int, body: bytes) -> Response:
    return Response(status, [(b"content-type", b"application/json")], body)


_HTTP: Final = {
    Failure.NO_ROUTE: _json(404, b'{"message":"Not Found"}'),
    Failure.FUNCTION_ERROR: _json(500, b'{"message":"Internal Server Error"}'),
    Failure.MALFORMED: _json(500, b'{"message":"Internal Server Error"}'),
    Failure.TIMEOUT: _json(503, b'{"message":"Service Unavailable"}'),
    # Not confirmed by AWS: community reports only (REST APIs hide the 429 too).
    Failure.THROTTLED: _json(503, b'{"message":"Service Unavailable"}'),
    Failure.RATE_LIMITED: _json(429, b'{"message":"Too Many Requests"}'),
    # Not confirmed by AWS: the wording of the next three.
    Failure.BODY_TOO_LARGE: _json(413, b'{"message":"Request Entity Too Large"}'),
    Failure.EVENT_TOO_LARGE: _json(413, b'{"message":"Request Entity Too Large"}'),
    Failure.HEADERS_TOO_LARGE: _json(431, b'{"message":"Request Header Fields Too Large"}'),
    Failure.UNAUTHORIZED: _json(401, b'{"message":"Unauthorized"}'),
    Failure.FORBIDDEN: _json(403, b'{"message":"Forbidden"}'),
    Failure.AUTHORIZER_FAILED: _json(500, b'{"message":"Internal Server Error"}'),
}

_REST: Final = {
    Failure.NO_ROUTE: _json(403, b'{"message":"Missing Authentication Token"}'),
    Failure.FUNCTION_ERROR: _json(502, b'{"message": "Internal server error"}'),
    Failure.MALFORMED: _json(502, b'{"message": "Internal server error"}'),
    Failure.TIMEOUT: _json(504, b'{"message": "Endpoint request timed out"}'),
    Failure.THROTTLED: _json(500, b'{"message": "Internal server error"}'),
    Failure.RATE_LIMITED: _json(429, b'{"message":"Too Many Requests"}'),
    Failure.BODY_TOO_LARGE: _json(413, b'{"message":"Request Too Long"}'),
    Failure.EVENT_TOO_LARGE: _json(413, b'{"message":"Request Too Long"}'),
    Failure.HEADERS_TOO_LARGE: _json(431, b'{"message":"Request Header Fields Too Large"}'),
    Failure.UNAUTHORIZED: _json(401, b'{"message":"Unauthorized"}'),
    Failure.FORBIDDEN: _json(
        403, b'{"Message":"User is not authorized to access this resource with an explicit deny"}'
    ),
    Failure.AUTHORIZER_FAILED: _json(500, b'{"message":null}'),
}

_URL: Final = {
    **_HTTP,
    Failure.FUNCTION_ERROR: _json(502, b"Internal Server Error"),
    Failure.MALFORMED: _json(502, b"Internal Server Error"),
    Failure.TIMEOUT: _json(504, b"Gateway Timeout"),
    # docs.aws.amazon.com/lambda/latest/dg/urls-monitoring.html: throttles of a function URL are 429.
    Failure.THROTTLED: _json(
        429,
        b'{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}',
    ),
    Failure.FORBIDDEN: _json(403, b'{"Message":"Forbidden"}'),
    Failure.UNAUTHORIZED: _json(403, b'{"Message":"Forbidden"}'),
}

FAILURES: Final[Mapping[ApiKind, Mapping[Failure, Response]]] = {"http": _HTTP, "rest": _REST, "url": _URL}
