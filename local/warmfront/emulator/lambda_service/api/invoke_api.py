"""The Lambda API that boto3 and the aws CLI speak, as Starlette routes: Invoke and what lists functions.

docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

import base64
import json
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warmfront.emulator.lambda_service.api import descriptions
from warmfront.emulator.lambda_service.api.names import split_name
from warmfront.emulator.lambda_service.service import LambdaService, new_trace_id
from warmfront.emulator.lambda_service.types import (
    InvalidParameterValue,
    InvalidRequestContent,
    InvocationResult,
    RequestTooLarge,
    ServiceError,
    Throttled,
)

VERSION_PATH = "/2015-03-31"
REQUEST_LIMIT_BYTES = 6 * 1024 * 1024
ASYNC_REQUEST_LIMIT_BYTES = 1024 * 1024
"""Of an Event invocation, since 2025 (docs: lambda/latest/dg/gettingstarted-limits.html)."""
CLIENT_CONTEXT_LIMIT = 3583
RETRY_AFTER_S = 1

Endpoint = Callable[[Request], Awaitable[Response]]


def invoke_routes(service: LambdaService) -> list[Route]:
    """Routes of the API under its dated path; what is not emulated says so."""

    async def invoke(request: Request) -> Response:
        return await _invoke(service, request)

    async def list_functions(request: Request) -> Response:  # noqa: ARG001
        return _json(descriptions.list_functions(service))

    async def get_function(request: Request) -> Response:
        return _json(descriptions.get_function(service, *_function_of(request)))

    async def get_configuration(request: Request) -> Response:
        return _json(descriptions.get_configuration(service, *_function_of(request)))

    async def unknown(request: Request) -> Response:
        raise NotEmulated(
            f"{request.method} {request.url.path} is not emulated: Invoke, ListFunctions and GetFunction are"
        )

    functions = VERSION_PATH + "/functions"
    return [
        Route(functions + "/{name:path}/invocations", _answering(invoke), methods=["POST"]),
        Route(functions, _answering(list_functions), methods=["GET"]),
        Route(functions + "/", _answering(list_functions), methods=["GET"]),
        Route(functions + "/{name:path}/configuration", _answering(get_configuration), methods=["GET"]),
        Route(functions + "/{name}", _answering(get_function), methods=["GET"]),
        Route(VERSION_PATH + "/{rest:path}", _answering(unknown), methods=["GET", "POST", "PUT", "DELETE", "PATCH"]),
    ]


class NotEmulated(ServiceError):
    http_status = 501
    code = "NotImplementedException"


def _answering(endpoint: Endpoint) -> Endpoint:
    """Refusals become the API's exceptions."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ServiceError as error:
            return _error(error)

    return answer


def _error(error: ServiceError) -> Response:
    headers = {"x-amzn-errortype": error.code}
    if isinstance(error, Throttled):
        headers["retry-after"] = str(RETRY_AFTER_S)
        return _json({"Reason": error.reason, "Type": "User", "message": str(error)}, error.http_status, headers)
    kind = "User" if error.http_status < 500 else "Service"
    key = "Message" if error.http_status in (404, 502) else "message"
    return _json({"Type": kind, key: str(error)}, error.http_status, headers)


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status_code=status, media_type="application/json", headers=headers)


def _function_of(request: Request) -> tuple[str, str | None]:
    name, qualifier = split_name(request.path_params["name"])
    given = request.query_params.get("Qualifier")
    if given is not None and qualifier is not None and given != qualifier:
        raise InvalidParameterValue(
            "The derived qualifier from the function name does not match the specified qualifier."
        )
    return name, given or qualifier


async def _invoke(service: LambdaService, request: Request) -> Response:
    name, qualifier = _function_of(request)
    config = service.config(name, qualifier)
    kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
    if kind not in ("RequestResponse", "Event", "DryRun"):
        raise InvalidParameterValue(f"{kind} is not a valid invocation type: RequestResponse, Event and DryRun are")
    event = await _read_event(request, ASYNC_REQUEST_LIMIT_BYTES if kind == "Event" else REQUEST_LIMIT_BYTES)
    client_context = _client_context(request)
    if kind == "DryRun":
        service.find(config.logical_id)
        return Response(status_code=204)
    if kind == "Event":
        request_id = service.submit(config.logical_id, event, qualifier=qualifier)
        return Response(status_code=202, headers={"x-amzn-requestid": request_id})
    trace_id = request.headers.get("x-amzn-trace-id") or new_trace_id(sampled=config.tracing)
    result = await service.invoke(
        config.logical_id,
        event,
        trace_id=trace_id,
        client_context=client_context,
        qualifier=qualifier,
        tail=request.headers.get("x-amz-log-type") == "Tail",
    )
    return _answer(result, trace_id)


def _answer(result: InvocationResult, trace_id: str) -> Response:
    headers = {
        "x-amz-executed-version": result.executed_version,
        "x-amzn-requestid": result.request_id,
        "x-amzn-trace-id": trace_id,
    }
    if result.function_error is not None:
        headers["x-amz-function-error"] = result.function_error
    if result.log_tail is not None:
        headers["x-amz-log-result"] = base64.b64encode(result.log_tail).decode()
    return Response(result.payload, media_type="application/json", headers=headers)


async def _read_event(request: Request, limit_bytes: int) -> bytes:
    """The body, at most `limit_bytes` of it, as JSON; nothing sent is an empty object."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise RequestTooLarge(f"Request must be smaller than {limit_bytes} bytes for the InvokeFunction operation")
        chunks.append(chunk)
    event = b"".join(chunks) or b"{}"
    try:
        json.loads(event)
    except ValueError as error:
        raise InvalidRequestContent(f"Could not parse request body into json: {error}") from error
    return event


def _client_context(request: Request) -> str | None:
    encoded = request.headers.get("x-amz-client-context")
    if encoded is None:
        return None
    if len(encoded) > CLIENT_CONTEXT_LIMIT:
        raise InvalidRequestContent(f"Client context must be smaller than {CLIENT_CONTEXT_LIMIT + 1} bytes")
    try:
        return json.dumps(json.loads(base64.b64decode(encoded, validate=True)), separators=(",", ":"))
    except ValueError as error:
        raise InvalidRequestContent(f"Client context must be a valid Base64-encoded JSON object: {error}") from error
