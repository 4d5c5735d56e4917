"""The emulator's own surface under /_warmfront/: state for the bench, forced cold starts. Knows the service, not HTTP APIs."""

import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warmfront.emulator.lambda_service.functions.fleet import describe_init
from warmfront.emulator.lambda_service.functions.function import Function
from warmfront.emulator.lambda_service.service import LambdaService
from warmfront.emulator.lambda_service.types import ServiceError

PREFIX = "/_warmfront"
TOKEN_HEADER = "x-warmfront-token"
COUNT_MAX = 1000
"""Environments that can be started with one request."""

type Handle = Callable[[Request], Awaitable[Response]]


def control_routes(service: LambdaService, *, token: str, describe: Callable[[], Mapping[str, object]]) -> list[Route]:
    """Routes of the control surface. `describe` gives what the emulator says of itself (pid, backing services)."""

    async def state(request: Request) -> Response:  # noqa: ARG001
        return _json({**describe(), "functions": service.state()})

    async def inits(request: Request) -> Response:
        fleet = service.find(request.path_params["name"]).fleet
        return _json({"inits": list(fleet.inits), "snapshot": fleet.describe_snapshot()})

    async def retire(request: Request) -> Response:
        return _json({"retired": await service.find(request.path_params["name"]).retire()})

    async def start(request: Request) -> Response:
        try:
            count = json.loads(await request.body() or b"{}").get("count", 1)
        except (ValueError, AttributeError):
            count = None
        if not isinstance(count, int) or not 0 < count <= COUNT_MAX:
            return _json({"message": f'the body must be {{"count": N}} with N from 1 to {COUNT_MAX}'}, status=400)
        return _json(await start_ahead(service.find(request.path_params["name"]), count))

    def guarded(handle: Handle) -> Handle:
        async def check(request: Request) -> Response:
            if not secrets.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), token.encode()):
                return _json(
                    {"message": f"header {TOKEN_HEADER} is missing or wrong; `warmfront serve` prints the token"},
                    status=403,
                )
            return await handle(request)

        return check

    return [
        Route(PREFIX + "/state", state, methods=["GET"]),
        Route(PREFIX + "/functions/{name}/inits", _found(inits), methods=["GET"]),
        Route(PREFIX + "/functions/{name}/retire", guarded(_found(retire)), methods=["POST"]),
        Route(PREFIX + "/functions/{name}/start", guarded(_found(start)), methods=["POST"]),
    ]


def _found(handle: Handle) -> Handle:
    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except ServiceError as error:
            return _json({"message": str(error)}, status=404)

    return answer


async def start_ahead(function: Function, count: int) -> dict[str, object]:
    """Start environments without invocations, and say how long each took."""
    began_ns = time.monotonic_ns()
    started = await function.start(count)
    ready_ns = max((each.ready_ns for each in started), default=began_ns)
    inits = [{"pid": each.pid, **describe_init(each)} for each in started]
    failed = count - len(started)
    return {"started": len(started), "failed": failed, "began_ns": began_ns, "ready_ns": ready_ns, "inits": inits}


def _json(body: object, *, status: int = 200) -> Response:
    return Response(json.dumps(body), status_code=status, media_type="application/json")
