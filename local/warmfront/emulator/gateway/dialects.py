"""What HTTP APIs, REST APIs and function URLs answer when a request does not get its handler's response."""

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
"""HTTP APIs: request line and header values together. REST APIs and function URLs get the same limit here."""


class Failure(Enum):
    """Why a request does not get the handler's response."""

    NO_ROUTE = "no route"
    FUNCTION_ERROR = "the function failed"
    MALFORMED = "the handler's result is malformed"
    TIMEOUT = "the integration timed out"
    THROTTLED = "Lambda throttled the invocation"
    RATE_LIMITED = "over the rate limit"
    QUOTA_EXCEEDED = "over the usage plan's quota"
    BODY_TOO_LARGE = "the request's body is too large"
    EVENT_TOO_LARGE = "the event is too large for Lambda"
    HEADERS_TOO_LARGE = "the request's headers are too large"
    UNAUTHORIZED = "no or invalid credentials"
    FORBIDDEN = "the authorizer denied"
    IMPLICIT_DENY = "no statement of the authorizer's policy allows the request"
    NOT_SIGNED = "the request is not signed"
    AUTHORIZER_FAILED = "the authorizer failed"
    AUTHORIZER_MISCONFIGURED = "the authorizer's answer is not valid"
    INVALID_API_KEY = "no or unknown API key"
    BAD_PARAMETERS = "a required request parameter is missing"
    BAD_BODY = "the request's body does not fit its model"
    UNSUPPORTED_MEDIA_TYPE = "no request template for this content type"
    BACKEND_UNREACHABLE = "the HTTP backend cannot be reached"
    MISCONFIGURED = "the integration is misconfigured"


class RefusedError(Exception):
    """Ends a request before its integration runs.

    Attributes:
        failure: What the client sees.
        challenge: Value of the response's WWW-Authenticate header, or None.
        message: Text for the client in place of the failure's own, or None.
    """

    def __init__(
        self, failure: Failure, reason: str, challenge: str | None = None, *, message: str | None = None
    ) -> None:
        """`reason` goes to the log, never to the client."""
        super().__init__(reason)
        self.failure = failure
        self.challenge = challenge
        self.message = message


def _json(status: int, body: bytes, *more: tuple[bytes, bytes]) -> Response:
    return Response(status, [(b"content-type", b"application/json"), *more], body)


def _rest(status: int, body: bytes, error_type: str) -> Response:
    return _json(status, body, (b"x-amzn-errortype", error_type.encode()))


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
    Failure.IMPLICIT_DENY: _json(403, b'{"message":"Forbidden"}'),
    Failure.NOT_SIGNED: _json(403, b'{"message":"Forbidden"}'),
    Failure.AUTHORIZER_FAILED: _json(500, b'{"message":"Internal Server Error"}'),
    Failure.AUTHORIZER_MISCONFIGURED: _json(500, b'{"message":"Internal Server Error"}'),
    Failure.BACKEND_UNREACHABLE: _json(503, b'{"message":"Service Unavailable"}'),
    Failure.MISCONFIGURED: _json(500, b'{"message":"Internal Server Error"}'),
}

# Header x-amzn-errortype: captures in aws/chalice issue 1619 (AccessDeniedException), dherault/serverless-offline pull
# request 1376 (AuthorizerConfigurationException), localstack's snapshots (InternalServerErrorException).
_REST: Final = {
    Failure.NO_ROUTE: _rest(403, b'{"message":"Missing Authentication Token"}', "MissingAuthenticationTokenException"),
    Failure.FUNCTION_ERROR: _rest(502, b'{"message": "Internal server error"}', "InternalServerErrorException"),
    Failure.MALFORMED: _rest(502, b'{"message": "Internal server error"}', "InternalServerErrorException"),
    Failure.TIMEOUT: _rest(504, b'{"message": "Endpoint request timed out"}', "InternalServerErrorException"),
    Failure.THROTTLED: _rest(500, b'{"message": "Internal server error"}', "InternalServerErrorException"),
    Failure.RATE_LIMITED: _rest(429, b'{"message":"Too Many Requests"}', "TooManyRequestsException"),
    Failure.QUOTA_EXCEEDED: _rest(429, b'{"message":"Limit Exceeded"}', "LimitExceededException"),
    Failure.BODY_TOO_LARGE: _rest(413, b'{"message":"Request Too Long"}', "RequestEntityTooLargeException"),
    Failure.EVENT_TOO_LARGE: _rest(413, b'{"message":"Request Too Long"}', "RequestEntityTooLargeException"),
    Failure.HEADERS_TOO_LARGE: _json(431, b'{"message":"Request Header Fields Too Large"}'),
    Failure.UNAUTHORIZED: _rest(401, b'{"message":"Unauthorized"}', "UnauthorizedException"),
    Failure.FORBIDDEN: _rest(
        403,
        b'{"Message":"User is not authorized to access this resource with an explicit deny"}',
        "AccessDeniedException",
    ),
    Failure.IMPLICIT_DENY: _rest(
        403, b'{"Message":"User is not authorized to access this resource"}', "AccessDeniedException"
    ),
    Failure.NOT_SIGNED: _rest(
        403, b'{"message":"Missing Authentication Token"}', "MissingAuthenticationTokenException"
    ),
    Failure.AUTHORIZER_FAILED: _rest(500, b'{"message":null}', "AuthorizerFailureException"),
    Failure.AUTHORIZER_MISCONFIGURED: _rest(500, b'{"message":null}', "AuthorizerConfigurationException"),
    Failure.INVALID_API_KEY: _rest(403, b'{"message":"Forbidden"}', "ForbiddenException"),
    Failure.BAD_PARAMETERS: _rest(400, b'{"message": "Missing required request parameters"}', "BadRequestException"),
    Failure.BAD_BODY: _rest(400, b'{"message": "Invalid request body"}', "BadRequestException"),
    Failure.UNSUPPORTED_MEDIA_TYPE: _rest(
        415, b'{"message": "Unsupported Media Type"}', "UnsupportedMediaTypeException"
    ),
    Failure.BACKEND_UNREACHABLE: _rest(
        504, b'{"message": "Network error communicating with endpoint"}', "InternalServerErrorException"
    ),
    Failure.MISCONFIGURED: _rest(500, b'{"message": "Internal server error"}', "InternalServerErrorException"),
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
    Failure.NOT_SIGNED: _json(403, b'{"Message":"Forbidden"}'),
    Failure.UNAUTHORIZED: _json(403, b'{"Message":"Forbidden"}'),
}

FAILURES: Final[Mapping[ApiKind, Mapping[Failure, Response]]] = {"http": _HTTP, "rest": _REST, "url": _URL}

RESPONSE_TYPES: Final[Mapping[Failure, str]] = {
    Failure.NO_ROUTE: "MISSING_AUTHENTICATION_TOKEN",
    Failure.FUNCTION_ERROR: "DEFAULT_5XX",
    Failure.MALFORMED: "DEFAULT_5XX",
    Failure.TIMEOUT: "INTEGRATION_TIMEOUT",
    Failure.THROTTLED: "DEFAULT_5XX",
    Failure.RATE_LIMITED: "THROTTLED",
    Failure.QUOTA_EXCEEDED: "QUOTA_EXCEEDED",
    Failure.BODY_TOO_LARGE: "REQUEST_TOO_LARGE",
    Failure.EVENT_TOO_LARGE: "REQUEST_TOO_LARGE",
    Failure.HEADERS_TOO_LARGE: "DEFAULT_4XX",
    Failure.UNAUTHORIZED: "UNAUTHORIZED",
    Failure.FORBIDDEN: "ACCESS_DENIED",
    Failure.IMPLICIT_DENY: "ACCESS_DENIED",
    Failure.NOT_SIGNED: "MISSING_AUTHENTICATION_TOKEN",
    Failure.AUTHORIZER_FAILED: "AUTHORIZER_FAILURE",
    Failure.AUTHORIZER_MISCONFIGURED: "AUTHORIZER_CONFIGURATION_ERROR",
    Failure.INVALID_API_KEY: "INVALID_API_KEY",
    Failure.BAD_PARAMETERS: "BAD_REQUEST_PARAMETERS",
    Failure.BAD_BODY: "BAD_REQUEST_BODY",
    Failure.UNSUPPORTED_MEDIA_TYPE: "UNSUPPORTED_MEDIA_TYPE",
    Failure.BACKEND_UNREACHABLE: "INTEGRATION_FAILURE",
    Failure.MISCONFIGURED: "API_CONFIGURATION_ERROR",
}
"""The gateway response of a REST API that each failure is.

docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
"""
