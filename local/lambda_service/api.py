"""The Lambda Invoke API that boto3 and the aws CLI speak, as Starlette routes. Knows the service, not its processes.

docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

import base64
import json
from collections.abc import Awaitable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.lambda_service.service import LambdaService, new_trace_id
from local.lambda_service.types import ServiceError, Throttled

VERSION_PATH = "/2015-03-31"
REQUEST_LIMIT_BYTES = 6 * 1024 * 1024


def invoke_routes(service: LambdaService) -> list[Route]:
    """Routes of the Invoke API under its dated path."""

    async def invoke(request: Request) -> Response:
        return await _answer(_invoke(service, request))

    return [Route(VERSION_PATH + "/functions/{name:path}/invocations", invoke, methods=["POST"])]


async def _answer(call: Awaitable[Response]) -> Response:
    try:
        return await call
    except ServiceError as error:
        return _error(error)


def _error(error: ServiceError) -> Response:
    body: dict[str, str] = {"Type": "User", "message": str(error)}
    if isinstance(error, Throttled):
        body = {"Reason": error.reason, **body}
    elif error.http_status == 404:
        body = {"Type": "User", "Message": str(error)}
    return Response(
        json.dumps(body),
        status_code=error.http_status,
        media_type="application/json",
        headers={"x-amzn-errortype": error.code},
    )


class InvalidRequestContent(ServiceError):
    http_status = 400
    code = "InvalidRequestContentException"


class RequestTooLarge(ServiceError):
    http_status = 413
    code = "RequestTooLargeException"


async def _invoke(service: LambdaService, request: Request) -> Response:
    name, qualifier = split_name(request.path_params["name"])
    qualifier = request.query_params.get("Qualifier", qualifier)
    function = service.find(name)
    event = await request.body() or b"{}"
    if len(event) > REQUEST_LIMIT_BYTES:
        raise RequestTooLarge(
            f"Request must be smaller than {REQUEST_LIMIT_BYTES} bytes for the InvokeFunction operation"
        )
    _require_json(event)
    kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
    if kind == "DryRun":
        return Response(status_code=204)
    result = await service.invoke(
        name,
        event,
        trace_id=request.headers.get("x-amzn-trace-id") or new_trace_id(sampled=function.config.tracing),
        client_context=_client_context(request),
        qualifier=qualifier,
        tail=request.headers.get("x-amz-log-type") == "Tail",
    )
    headers = {"x-amz-executed-version": result.executed_version, "x-amzn-requestid": result.request_id}
    if result.function_error is not None:
        headers["x-amz-function-error"] = result.function_error
    if result.log_tail is not None:
        headers["x-amz-log-result"] = base64.b64encode(result.log_tail).decode()
    return Response(result.payload, media_type="application/json", headers=headers)


def _require_json(event: bytes) -> None:
    try:
        json.loads(event)
    except ValueError as error:
        raise InvalidRequestContent(f"Could not parse request body into json: {error}") from error


def _client_context(request: Request) -> str | None:
    encoded = request.headers.get("x-amz-client-context")
    if encoded is None:
        return None
    try:
        text = base64.b64decode(encoded).decode()
        return json.dumps(json.loads(text), separators=(",", ":"))
    except ValueError as error:
        raise InvalidRequestContent(f"Client context must be a valid Base64-encoded JSON object: {error}") from error


def split_name(name: str) -> tuple[str, str | None]:
    """Function name and qualifier of a name, a partial ARN (`123456789012:function:f:live`) or a full ARN."""
    parts = name.split(":")
    if "function" in parts:
        parts = parts[parts.index("function") + 1 :]
    return parts[0], parts[1] if len(parts) > 1 else None
