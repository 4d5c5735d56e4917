"""Converts HTTP requests to events of payload format 1.0, and handlers' results to HTTP responses. Pure functions.

docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from warmfront.emulator.gateway.exchange import (
    HOP_BY_HOP,
    RESPONSE_OWNED,
    Call,
    Request,
    Response,
    encode_body,
    is_text,
    parse_query,
)
from warmfront.emulator.gateway.payload import (
    JSON_TYPE,
    TEXT_TYPE,
    MalformedResultError,
    decode_body,
    encode_header,
    http_api_path,
)
from warmfront.emulator.template import api_id

# An HTTP API writes these with capitals and leaves the others as the client sent them (capture in
# milliHQ/terraform-aws-next-js pull request 31).
_CAPITALS: Final = {
    "content-length": "Content-Length",
    "host": "Host",
    "user-agent": "User-Agent",
    "x-amzn-trace-id": "X-Amzn-Trace-Id",
    "x-forwarded-for": "X-Forwarded-For",
    "x-forwarded-port": "X-Forwarded-Port",
    "x-forwarded-proto": "X-Forwarded-Proto",
}
# docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html
_REMAPPED: Final = frozenset(
    (
        "authorization",
        "connection",
        "content-length",
        "date",
        "host",
        "max-forwards",
        "server",
        "user-agent",
        "www-authenticate",
    )
)
_RESULT_KEYS: Final = frozenset(("statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"))
_IDENTITY: Final[Mapping[str, None]] = dict.fromkeys(
    (
        "accessKey",
        "accountId",
        "caller",
        "cognitoAuthenticationProvider",
        "cognitoAuthenticationType",
        "cognitoIdentityId",
        "cognitoIdentityPoolId",
        "principalOrgId",
        "user",
        "userArn",
    )
)
_decode: Final = msgspec.json.Decoder().decode


def build_http_event(call: Call) -> dict[str, object]:
    """The event of an HTTP API's route with PayloadFormatVersion 1.0."""
    path = http_api_path(call)
    event = _event(call, path, binary=None)
    context = _request_context(call, path)
    context["resourceId"] = call.route.key
    context["requestId"] = call.request_id
    return {"version": "1.0", **event, "requestContext": context}


def build_rest_event(call: Call, *, binary_media_types: Sequence[str] = ()) -> dict[str, object]:
    """The event of a REST API. `path` is below the stage; `requestContext.path` is as the client sent it."""
    event = _event(call, call.path, binary=binary_media_types)
    context = _request_context(call, call.request.path)
    context["resourceId"] = call.context.api_id[:6]
    context["requestId"] = call.request_uuid
    context["deploymentId"] = call.context.api_id[-6:]
    return {**event, "requestContext": context}


def _event(call: Call, path: str, *, binary: Sequence[str] | None) -> dict[str, object]:
    """What the events of both kinds of API share; absent parts are null. `binary` None: the HTTP API's rule."""
    request = call.request
    many = _headers(call)
    headers = {name: values[-1] for name, values in many.items()}
    query: dict[str, list[str]] = {}
    for name, value in parse_query(request.query):
        query.setdefault(name, []).append(value)
    body, base64 = _body(request, binary)
    return {
        "resource": call.route.path,
        "path": path,
        "httpMethod": request.method,
        "headers": headers,
        "multiValueHeaders": many,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": call.path_parameters,
        "stageVariables": call.context.stage_variables,
        "body": body,
        "isBase64Encoded": base64,
    }


def _body(request: Request, binary: Sequence[str] | None) -> tuple[str | None, bool]:
    if not request.body:
        return None, False
    content_type = request.head.fields.get("content-type", "")
    if binary is None:
        return encode_body(request.body, text=is_text(content_type))
    if media_type_matches(content_type, binary):
        return encode_body(request.body, text=False)
    return request.body.decode("utf-8", "replace"), False


def media_type_matches(value: str, media_types: Sequence[str]) -> bool:
    """Whether a REST API treats this type as binary; `*/*` in its list takes everything."""
    kind = value.partition(",")[0].partition(";")[0].strip().lower()
    return any(entry == "*/*" or entry.lower() == kind for entry in media_types)


def _headers(call: Call) -> dict[str, list[str]]:
    """All values per header, names written as the client wrote them."""
    request = call.request
    many: dict[str, list[str]] = {}
    written: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name = raw_name.decode("latin-1")
        lower = name.lower()
        if lower in HOP_BY_HOP:
            continue
        name = written.setdefault(lower, _CAPITALS.get(name, name))
        many.setdefault(name, []).append(raw_value.decode("latin-1"))
    forwarded = many.get("X-Forwarded-For")
    source = request.source_ip
    many["X-Forwarded-For"] = [f"{forwarded[-1]}, {source}" if forwarded else source]
    many["X-Forwarded-Port"] = [str(request.port)]
    many["X-Forwarded-Proto"] = [request.scheme]
    many["X-Amzn-Trace-Id"] = [call.trace_id]
    return many


def _request_context(call: Call, path: str) -> dict[str, object]:
    request, context = call.request, call.context
    fields = request.head.fields
    host = fields.get("host", "")
    identity: dict[str, object] = {
        **_IDENTITY,
        "sourceIp": request.source_ip,
        "userAgent": fields.get("user-agent", ""),
    }
    if call.api_key is not None:
        identity["apiKey"], identity["apiKeyId"] = call.api_key.value, api_id(call.api_key.name)
    result: dict[str, object] = {
        "accountId": context.account_id,
        "apiId": context.api_id,
        "domainName": host,
        "domainPrefix": host.partition(".")[0].partition(":")[0],
        "extendedRequestId": call.request_id,
        "httpMethod": request.method,
        "identity": identity,
        "path": path,
        "protocol": request.protocol,
        "requestTime": call.time_text,
        "requestTimeEpoch": call.time_ms,
        "resourcePath": call.route.path,
        "stage": context.stage,
    }
    if call.authorizer is not None:
        result["authorizer"] = call.authorizer
    return result


def parse_http_result(payload: bytes) -> Response:
    """An HTTP API's answer to a format 1.0 result: statusCode is a must, nothing is inferred."""
    result = _object(payload)
    if "statusCode" not in result:
        raise MalformedResultError("format 1.0 wants an object with statusCode")
    headers = _single(result.get("headers"), numbers=True)
    many = _multiple(result.get("multiValueHeaders"))
    content = decode_body(_text_body(result), base64=result.get("isBase64Encoded") is True)
    return _respond(result, headers, many, content, remap=False, default_type=TEXT_TYPE)


def parse_rest_result(payload: bytes, *, accept: str, binary_media_types: Sequence[str] = ()) -> Response:
    """A REST API's answer; an unknown key or a wrong type is a 502 (recorded on AWS by LocalStack's snapshots).

    The body is decoded only if the client accepts one of the API's binary media types.
    """
    result = _object(payload)
    unknown = result.keys() - _RESULT_KEYS
    if unknown:
        raise MalformedResultError(f"a REST API knows no key {', '.join(sorted(unknown))}")
    headers = _single(result.get("headers"), numbers=False)
    many = _multiple(result.get("multiValueHeaders"))
    binary = result.get("isBase64Encoded") is True and media_type_matches(accept, binary_media_types)
    content = decode_body(_text_body(result), base64=binary)
    return _respond(result, headers, many, content, remap=True, default_type=JSON_TYPE)


def _object(payload: bytes) -> dict[str, Any]:
    try:
        result: Any = _decode(payload)
    except msgspec.DecodeError as error:
        raise MalformedResultError(f"the result is not JSON: {error}") from None
    if not isinstance(result, dict):
        raise MalformedResultError("the result is not an object with statusCode and body")
    return result


def _text_body(result: Mapping[str, Any]) -> str | None:
    body = result.get("body")
    if body is None or isinstance(body, str):
        return body
    raise MalformedResultError(f"body is {type(body).__name__}, not a string; encode it with json.dumps")


def _single(value: object, *, numbers: bool) -> dict[str, str | None]:
    """Single headers; None unsets a header the gateway would add (aws/aws-sam-cli issue 1218)."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedResultError("headers is not an object")
    headers: dict[str, str | None] = {}
    for name, entry in value.items():
        if entry is None or isinstance(entry, str):
            headers[name] = entry
        elif isinstance(entry, bool):
            headers[name] = "true" if entry else "false"
        elif numbers and isinstance(entry, int | float):
            headers[name] = str(entry)
        else:
            raise MalformedResultError(f"header {name} is not a string")
    return headers


def _multiple(value: object) -> dict[str, list[str]]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(entry, list) for entry in value.values()):
        raise MalformedResultError("multiValueHeaders is not an object of lists")
    many: dict[str, list[str]] = {}
    for name, entries in value.items():
        if not all(isinstance(entry, str | bool) for entry in entries):
            raise MalformedResultError(f"multiValueHeaders {name} has a value that is not a string")
        many[name] = [entry if isinstance(entry, str) else str(entry).lower() for entry in entries]
    return many


def _respond(
    result: Mapping[str, Any],
    headers: Mapping[str, str | None],
    many: Mapping[str, list[str]],
    content: bytes,
    *,
    remap: bool,
    default_type: tuple[bytes, bytes],
) -> Response:
    status = _status(result.get("statusCode", 200))
    sent: list[tuple[bytes, bytes]] = []
    names = {name.lower() for name in many} | {name.lower() for name in headers}
    repeated = {name.lower() for name in many}
    pairs = [(name, value) for name, values in many.items() for value in values]
    # A name in both is merged: the list is sent, the single value only if the list lacks it.
    pairs += [
        (name, value)
        for name, value in headers.items()
        if value is not None and not (name.lower() in repeated and value in _values(many, name))
    ]
    for name, value in pairs:
        lower = name.lower()
        if remap and lower in _REMAPPED:
            lower = f"x-amzn-remapped-{lower}"
        elif lower in RESPONSE_OWNED:
            continue
        sent.append(encode_header(lower, value))
    if "content-type" not in names:
        sent.append(default_type)
    return Response(status, sent, content)


def _values(many: Mapping[str, list[str]], name: str) -> list[str]:
    return [value for key, values in many.items() if key.lower() == name.lower() for value in values]


def _status(value: object) -> int:
    try:
        status = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else 0
    except ValueError:
        status = 0
    if not 200 <= status <= 599:
        raise MalformedResultError(f"statusCode is {value!r}, not a number between 200 and 599")
    return status
