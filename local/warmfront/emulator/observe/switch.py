"""Turns observation off and on while the emulator runs, as a Starlette route.

What it costs can be told within one process only: two processes of the same program differ by more than that.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from warmfront.emulator.gateway.app import GatewayApp
from warmfront.emulator.lambda_service.service import LambdaService
from warmfront.emulator.observe.dashboard import for_bearers
from warmfront.emulator.observe.observatory import Observatory

PATH: Final = "/_warmfront/observe"


class Switch:
    """On at the start. Earlier figures stay; while it is off, nothing is noted and nothing is collected."""

    def __init__(self, observatory: Observatory, service: LambdaService) -> None:
        self.observatory = observatory
        self._service = service
        self._apps: tuple[GatewayApp, ...] = ()
        self.on = True

    def watch(self, apps: Iterable[GatewayApp]) -> None:
        """The gateways, which are made after the routes of the first of them."""
        self._apps = tuple(apps)

    def turn(self, *, on: bool) -> None:
        self.observatory.settle()
        observer = self.observatory if on else None
        self._service.observe(observer)
        for app in self._apps:
            app.observe(observer)
        self.on = on


def switch_routes(switch: Switch, *, token: str) -> list[Route]:
    async def told(request: Request) -> Response:  # noqa: ARG001
        return JSONResponse({"on": switch.on})

    async def turn(request: Request) -> Response:
        on = _wanted(await request.body())
        if not isinstance(on, bool):
            return JSONResponse({"message": 'the body must be {"on": true} or {"on": false}'}, status_code=400)
        switch.turn(on=on)
        return JSONResponse({"on": switch.on})

    return [
        Route(PATH, told, methods=["GET"]),
        Route(PATH, for_bearers(turn, token), methods=["PUT"]),
    ]


def _wanted(body: bytes) -> Any:
    try:
        wanted = json.loads(body)
    except ValueError:
        return None
    return wanted.get("on") if isinstance(wanted, dict) else None
