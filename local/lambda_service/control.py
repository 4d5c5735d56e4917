"""The emulator's own surface under /_warmfront/: state for the bench, forced cold starts. Knows the service, not HTTP APIs."""

import json
import secrets
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.lambda_service.service import LambdaService
from local.lambda_service.types import FunctionNotFound

PREFIX = "/_warmfront"
TOKEN_HEADER = "x-warmfront-token"


def control_routes(service: LambdaService, *, token: str, describe: Callable[[], Mapping[str, object]]) -> list[Route]:
    """Routes of the control surface. `describe` gives what the emulator says of itself (pid, backing services)."""

    async def state(request: Request) -> Response:  # noqa: ARG001
        return _json({**describe(), "functions": service.state()})

    async def inits(request: Request) -> Response:
        try:
            return _json({"inits": list(service.find(request.path_params["name"]).fleet.inits)})
        except FunctionNotFound as error:
            return _json({"message": str(error)}, status=404)

    async def retire(request: Request) -> Response:
        if not secrets.compare_digest(request.headers.get(TOKEN_HEADER, ""), token):
            return _json(
                {"message": f"header {TOKEN_HEADER} is missing or wrong; `warmfront serve` prints the token"},
                status=403,
            )
        try:
            return _json({"retired": await service.find(request.path_params["name"]).retire()})
        except FunctionNotFound as error:
            return _json({"message": str(error)}, status=404)

    return [
        Route(PREFIX + "/state", state, methods=["GET"]),
        Route(PREFIX + "/functions/{name}/inits", inits, methods=["GET"]),
        Route(PREFIX + "/functions/{name}/retire", retire, methods=["POST"]),
    ]


def _json(body: object, *, status: int = 200) -> Response:
    return Response(json.dumps(body), status_code=status, media_type="application/json")
