"""Serves the dashboard's page, its stream of events and its buttons, as Starlette routes."""

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from warmfront.emulator.gateway.exchange import encode_json
from warmfront.emulator.lambda_service.functions import injected_faults
from warmfront.emulator.lambda_service.functions.function import Function
from warmfront.emulator.lambda_service.service import LambdaService, new_trace_id
from warmfront.emulator.lambda_service.types import FunctionNotFound, InvocationResult, ServiceError
from warmfront.emulator.observe.dashboard_samples import samples
from warmfront.emulator.observe.observatory import Observatory

PREFIX: Final = "/_warmfront"
TOKEN_HEADER: Final = "x-warmfront-token"
EVENT_LIMIT_BYTES: Final = 6 * 1024 * 1024
FIRST: Final = {"failed": 30, "cold": 10, "warm": 30}
"""Invocations of each sort that are sent to a page when it opens; the page keeps as many."""
LOOK_BACK: Final = 1000
_STATIC: Final = Path(__file__).parent / "static"
_FILES: Final = {
    "index.html": "text/html; charset=utf-8",
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_PAGE_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
_DATA_HEADERS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}

Endpoint = Callable[[Request], Awaitable[Response]]


def dashboard_routes(
    observatory: Observatory, service: LambdaService, *, token: str, describe: Callable[[], Mapping[str, object]]
) -> list[Route]:
    """`describe` gives what the emulator says of itself, as for the control surface; writes need the token."""
    buttons = _Buttons(service)
    event_samples = samples(service.template)

    async def page(request: Request) -> Response:
        if request.url.path == PREFIX:
            return RedirectResponse(f"{PREFIX}/", 308)  # the page's links are relative; a browser keeps the #token
        return _file("index.html")

    async def static(request: Request) -> Response:
        return _file(request.path_params["name"])

    async def about(request: Request) -> Response:  # noqa: ARG001
        functions = {
            name: {
                "runtime": config.runtime,
                "handler": config.handler,
                "samples": [*event_samples.get(name, []), {"name": "Empty event", "event": {}}],
            }
            for name, config in service.template.functions.items()
        }
        told = {
            "template": str(service.template.path.name),
            "functions": functions,
            "faults": injected_faults.describe_kinds(),
        }
        return _json({"backing": {}, **describe(), **told})

    async def events(request: Request) -> Response:  # noqa: ARG001
        return StreamingResponse(_feed(observatory, service), media_type="text/event-stream", headers=_DATA_HEADERS)

    def button(press: Endpoint) -> Endpoint:
        return for_bearers(press, token)

    function = PREFIX + "/functions/{name}"
    return [
        Route(PREFIX, page, methods=["GET"]),
        Route(PREFIX + "/", page, methods=["GET"]),
        Route(PREFIX + "/static/{name}", static, methods=["GET"]),
        Route(PREFIX + "/about", about, methods=["GET"]),
        Route(PREFIX + "/events", events, methods=["GET"]),
        Route(function + "/invoke", button(buttons.invoke), methods=["POST"]),
        Route(function + "/fault", button(buttons.inject), methods=["PUT"]),
        Route(function + "/fault", button(buttons.clear), methods=["DELETE"]),
    ]


async def _feed(observatory: Observatory, service: LambdaService) -> AsyncIterator[bytes]:
    """The current state, then a message for each tick. A slow reader loses ticks and delays no other reader."""
    with observatory.subscribe() as ticks:
        snapshot = {"snapshot": observatory.snapshot(), "invocations": _first(observatory), "missed": 0}
        yield _message(snapshot, service)
        async for tick in ticks:
            yield _message(tick, service)


def _first(observatory: Observatory) -> list[dict[str, Any]]:
    """The latest of each sort: among many warm ones the few others would not be seen."""
    left = dict(FIRST)
    chosen = []
    for invocation in observatory.invocations(limit=LOOK_BACK):
        sort = "failed" if invocation["failed"] else "cold" if invocation["cold"] else "warm"
        if left[sort]:
            left[sort] -= 1
            chosen.append(invocation)
    return chosen


def _message(tick: Mapping[str, Any], service: LambdaService) -> bytes:
    injected = [
        {"function": name, **injected_faults.describe(function.fault)}
        for name, function in service.functions.items()
        if function.fault is not None
    ]
    return b"data: " + encode_json({**tick, "faults": injected}) + b"\n\n"


class _Buttons:
    """What the page's buttons do to a function."""

    def __init__(self, service: LambdaService) -> None:
        self._service = service

    def _function(self, request: Request) -> Function:
        return self._service.find(request.path_params["name"])

    async def invoke(self, request: Request) -> Response:
        function = self._function(request)
        event = await _body(request)
        try:
            json.loads(event)
        except ValueError as error:
            return _json({"message": f"the event is not JSON: {error}"}, status=400)
        name, tracing = function.config.logical_id, function.config.tracing
        try:
            result = await self._service.invoke(name, event, trace_id=new_trace_id(sampled=tracing))
        except ServiceError as error:
            status = "throttled" if error.http_status == 429 else "error"
            return _json({"status": status, "error_type": error.code, "request_id": None, "payload": str(error)})
        return _json(_told(result))

    async def inject(self, request: Request) -> Response:
        function = self._function(request)
        try:
            wanted = json.loads(await _body(request))
            if not isinstance(wanted, dict):
                raise injected_faults.FaultError('want an object such as {"kind": "throttle", "seconds": 30}')
            seconds, amount = (_number(wanted, name) for name in ("seconds", "amount"))
            fault = injected_faults.inject(function, str(wanted.get("kind")), seconds=seconds, amount=amount)
        except ValueError as error:
            return _json({"message": f"the fault is not JSON: {error}"}, status=400)
        except injected_faults.FaultError as error:
            return _json({"message": str(error)}, status=400)
        return _json({"function": function.config.logical_id, **injected_faults.describe(fault)})

    async def clear(self, request: Request) -> Response:
        return _json({"cleared": injected_faults.clear(self._function(request))})


def _number(wanted: Mapping[str, Any], name: str) -> float | None:
    value = wanted.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise injected_faults.FaultError(f"{name} must be a number, not {value!r}")
    return float(value)


def _told(result: InvocationResult) -> dict[str, object]:
    try:
        payload = json.loads(result.payload)
    except ValueError:
        payload = result.payload.decode(errors="replace")
    return {
        "status": result.status,
        "error_type": result.error_type,
        "request_id": result.request_id,
        "payload": payload,
    }


def for_bearers(press: Endpoint, token: str) -> Endpoint:
    """Writes need the token; what they find wrong becomes an answer."""

    async def guarded(request: Request) -> Response:
        given = request.headers.get(TOKEN_HEADER, "")
        if not secrets.compare_digest(given.encode(), token.encode()):
            message = f"header {TOKEN_HEADER} is missing or wrong; `warmfront serve` prints the token"
            return _json({"message": message}, status=403)
        try:
            return await press(request)
        except FunctionNotFound as error:
            return _json({"message": str(error)}, status=404)
        except ServiceError as error:
            return _json({"message": str(error)}, status=409)
        except _TooLargeError:
            return _json({"message": f"more than {EVENT_LIMIT_BYTES} bytes"}, status=413)

    return guarded


class _TooLargeError(Exception):
    pass


async def _body(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > EVENT_LIMIT_BYTES:
            raise _TooLargeError
        chunks.append(chunk)
    return b"".join(chunks)


def _file(name: str) -> Response:
    media_type = _FILES.get(name)
    if media_type is None:
        return _json({"message": f"no file {name!r}"}, status=404)
    return Response((_STATIC / name).read_bytes(), headers=_PAGE_HEADERS, media_type=media_type)


def _json(body: object, *, status: int = 200) -> Response:
    return Response(json.dumps(body), status_code=status, media_type="application/json", headers=_DATA_HEADERS)
