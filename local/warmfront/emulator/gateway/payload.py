"""Converts HTTP requests to events of payload format 2.0, and handlers' results to HTTP responses. Pure functions.

docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

import binascii
import functools
import re
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from warmfront.emulator.gateway.exchange import (
    RESPONSE_OWNED,
    Call,
    Response,
    encode_body,
    header_text,
    is_text,
    parse_query,
)

JSON_TYPE: Final = (b"content-type", b"application/json")
TEXT_TYPE: Final = (b"content-type", b"text/plain;charset=UTF-8")
"""What an HTTP API says of a body whose handler named no type (awslabs/aws-lambda-go-api-proxy issue 116)."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BROKEN_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class MalformedResultError(Exception):
    """The handler's result is not what the format allows; says which part of it."""


def build_event(call: Call) -> dict[str, object]:
    """The event that an HTTP API sends for a route of payload format 2.0. Empty parts are absent, never null."""
    return _event(call, http_api_path(call), _headers(call))


def build_url_event(call: Call) -> dict[str, object]:
    """The event of a function URL: the path as the client sent it, and cookies both in `cookies` and in their header.

    Live observations of both: aws/aws-lambda-web-adapter issue 121, aws/aws-lambda-rust-runtime pull request 586,
    middleapi/standard-server pull request 93.
    """
    headers = _headers(call)
    if call.request.head.cookies is not None:
        headers["cookie"] = "; ".join(call.request.head.cookies)
    return _event(call, call.request.path, headers)


def http_api_path(call: Call) -> str:
    """The path as an HTTP API's events have it: decoded, cut at a decoded `?`, and below the stage's name.

    A path that parameter mapping gave is the whole path, without the stage's name.
    Live captures: fastify/aws-lambda-fastify issue 169, aws-powertools/powertools-lambda-python issues 621 and 1098,
    logandk/serverless-wsgi issue 191, dougmoscrop/serverless-http pull request 143 (format 1.0), hotsock/voker pull
    request 8 (the question mark).
    """
    path, stage = call.request.path, call.context.stage
    if stage != "$default" and path == call.path and not call.path_overwritten:  # the client left the stage out
        path = f"/{stage}{path}"
    return unquote(path).partition("?")[0] if "%" in path else path


def _event(call: Call, path: str, headers: dict[str, str]) -> dict[str, object]:
    request, context = call.request, call.context
    cookies = request.head.cookies
    host = headers.get("host", "")
    event: dict[str, object] = {
        "version": "2.0",
        "routeKey": call.route.key,
        "rawPath": path,
        "rawQueryString": request.query,
    }
    if cookies is not None:
        event["cookies"] = cookies
    event["headers"] = headers
    if request.query:
        event["queryStringParameters"] = _query_parameters(request.query)
    request_context: dict[str, object] = {
        "accountId": context.account_id,
        "apiId": context.api_id,
        "domainName": host,
        "domainPrefix": host.partition(".")[0].partition(":")[0],
        "http": {
            "method": request.method,
            "path": path,
            "protocol": request.protocol,
            "sourceIp": request.source_ip,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": call.request_id,
        "routeKey": call.route.key,
        "stage": context.stage,
        "time": call.time_text,
        "timeEpoch": call.time_ms,
    }
    if call.authorizer is not None:
        request_context["authorizer"] = call.authorizer
    event["requestContext"] = request_context
    if call.path_parameters is not None:
        event["pathParameters"] = call.path_parameters
    if context.stage_variables is not None:
        event["stageVariables"] = context.stage_variables
    if request.body:
        event["body"], event["isBase64Encoded"] = encode_body(
            request.body, text=is_text(headers.get("content-type", ""))
        )
    else:
        event["isBase64Encoded"] = False
    return event


def _headers(call: Call) -> dict[str, str]:
    """The client's headers and what the gateway itself adds."""
    request = call.request
    headers = request.head.fields.copy()
    forwarded = headers.get("x-forwarded-for")
    headers["x-forwarded-for"] = f"{forwarded}, {request.source_ip}" if forwarded else request.source_ip
    headers["x-forwarded-port"] = str(request.port)
    headers["x-forwarded-proto"] = request.scheme
    headers["x-amzn-trace-id"] = call.trace_id
    if "content-length" not in headers:
        headers["content-length"] = str(len(request.body))
    return headers


def _query_parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_query(query):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


class _Result(msgspec.Struct, gc=False):
    """The shape nearly every handler returns; anything else takes the general path."""

    statusCode: int  # noqa: N815 - the format's own names
    headers: dict[str, str] = {}
    body: str | None = None
    isBase64Encoded: bool = False  # noqa: N815
    cookies: list[str] | None = None


_decode_common: Final = msgspec.json.Decoder(_Result).decode
_decode_any: Final = msgspec.json.Decoder().decode


def parse_result(payload: bytes, *, default_type: tuple[bytes, bytes] = TEXT_TYPE) -> Response:
    """The HTTP response of a handler's result. Raises MalformedResultError, which the client sees as a 500."""
    try:
        result = _decode_common(payload)
    except msgspec.DecodeError:  # a ValidationError is one too
        return _parse_unusual(payload, default_type)
    return _respond(
        result.statusCode, result.headers, result.cookies, result.body, result.isBase64Encoded, default_type
    )


def _parse_unusual(payload: bytes, default_type: tuple[bytes, bytes]) -> Response:
    try:
        result: Any = _decode_any(payload)
    except msgspec.DecodeError as error:
        raise MalformedResultError(f"the result is not JSON: {error}") from None
    if not isinstance(result, dict) or "statusCode" not in result:
        return _infer(payload, result)
    return _respond(
        _status(result["statusCode"]),
        _header_texts(result.get("headers")),
        _cookie_texts(result.get("cookies")),
        _body_text(result.get("body")),
        _flag(result.get("isBase64Encoded")),
        default_type,
    )


def _infer(payload: bytes, result: object) -> Response:
    """A result without statusCode is the body of a 200 in JSON; a bare string loses its quotes."""
    body = result.encode("utf-8", "surrogatepass") if isinstance(result, str) else payload
    return Response(200, [JSON_TYPE], body)


def _status(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedResultError(f"statusCode is {value!r}, not a number")
    return value


def _header_texts(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedResultError("headers is not an object")
    headers = {}
    for name, entry in value.items():
        if entry is None:
            continue
        text = header_text(entry)
        if text is None:
            raise MalformedResultError(f"header {name} is not a string")
        headers[str(name)] = text
    return headers


def _cookie_texts(value: object) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise MalformedResultError("cookies is not a list of strings")
    return value


def _body_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise MalformedResultError(f"body is {type(value).__name__}, not a string; encode it with json.dumps")


def _flag(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise MalformedResultError(f"isBase64Encoded is {value!r}, not true or false")


def _respond(
    status: int,
    headers: dict[str, str],
    cookies: list[str] | None,
    body: str | None,
    base64: bool,
    default_type: tuple[bytes, bytes],
) -> Response:
    if not 200 <= status <= 599:
        raise MalformedResultError(f"statusCode is {status}, not between 200 and 599")
    content = decode_body(body, base64=base64)
    sent = [*filter(None, map(wire_header, headers, headers.values()))]
    if "Content-Type" not in headers and not any(header[0] == b"content-type" for header in sent):
        sent.append(default_type)
    if cookies:
        sent += [encode_header("set-cookie", cookie) for cookie in cookies]
    return Response(status, sent, content)


@functools.lru_cache(maxsize=4096)
def wire_header(name: str, value: str) -> tuple[bytes, bytes] | None:
    """A handler's header as it is sent, None where the gateway writes it itself. Handlers repeat theirs, hence the cache."""
    lower = name.lower()
    return None if lower in RESPONSE_OWNED else encode_header(lower, value)


def decode_body(body: str | None, *, base64: bool) -> bytes:
    if not body:
        return b""
    if not base64:
        return body.encode("utf-8", "surrogatepass")
    try:
        return binascii.a2b_base64(body)
    except (binascii.Error, ValueError):
        raise MalformedResultError("isBase64Encoded is true, but body is not base64") from None


def encode_header(name: str, value: str) -> tuple[bytes, bytes]:
    """A header on the wire; refuses what would break the response apart."""
    if _BROKEN_VALUE.search(value):
        raise MalformedResultError(f"header {name} has a control character in its value")
    try:
        return _wire_name(name), value.encode("latin-1")
    except UnicodeEncodeError:
        return _wire_name(name), value.encode()


@functools.lru_cache(maxsize=1024)
def _wire_name(name: str) -> bytes:
    if not _TOKEN.fullmatch(name):
        raise MalformedResultError(f"{name!r} is no header name")
    return name.encode("ascii")
