"""Serves what was observed over HTTP: metrics for Prometheus; snapshot, invocations and traces as JSON."""

import functools
import json
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warmfront.emulator.observe.observatory import Observatory

PREFIX = "/_warmfront"
_LIMIT, _LIMIT_MAX = 50, 1000


def observe_routes(observatory: Observatory) -> list[Route]:
    scrape = functools.cache(functools.partial(_scraper, observatory))

    async def metrics(request: Request) -> Response:
        return scrape()(request.headers.get("accept", ""))

    async def snapshot(request: Request) -> Response:  # noqa: ARG001
        return _json(observatory.snapshot())

    async def invocations(request: Request) -> Response:
        function = request.query_params.get("function")
        return _listed(request, "invocations", lambda limit: observatory.invocations(function, limit))

    async def traces(request: Request) -> Response:
        return _listed(request, "traces", observatory.traces)

    async def invocation(request: Request) -> Response:
        return _found(observatory.invocation(request.path_params["id"]), "invocation")

    async def trace(request: Request) -> Response:
        return _found(observatory.trace(request.path_params["id"]), "trace")

    return [
        Route(PREFIX + "/metrics", metrics, methods=["GET"]),
        Route(PREFIX + "/snapshot", snapshot, methods=["GET"]),
        Route(PREFIX + "/invocations", invocations, methods=["GET"]),
        Route(PREFIX + "/invocations/{id}", invocation, methods=["GET"]),
        Route(PREFIX + "/traces", traces, methods=["GET"]),
        Route(PREFIX + "/traces/{id}", trace, methods=["GET"]),
    ]


def _scraper(observatory: Observatory) -> Callable[[str], Response]:
    """Answers scrapes in the form that an Accept header asks for."""
    # With the modules of email and an HTTP server, which a start without a scrape does not need.
    from prometheus_client.exposition import choose_encoder

    from warmfront.emulator.observe.metrics import registry_of

    registry = registry_of(observatory)

    def scrape(accept: str) -> Response:
        encode, content_type = choose_encoder(accept)
        return Response(encode(registry), media_type=content_type)

    return scrape


def _listed(request: Request, name: str, read: Callable[[int], object]) -> Response:
    given = request.query_params.get("limit", str(_LIMIT))
    if not given.isdecimal() or not 0 < int(given) <= _LIMIT_MAX:
        return _json({"message": f"limit must be a whole number from 1 to {_LIMIT_MAX}, not {given!r}"}, status=400)
    return _json({name: read(int(given))})


def _found(about: dict[str, object] | None, what: str) -> Response:
    if about is None:
        return _json({"message": f"no such {what}, or it is so long ago that it was forgotten"}, status=404)
    return _json(about)


def _json(body: object, *, status: int = 200) -> Response:
    return Response(json.dumps(body, default=str), status_code=status, media_type="application/json")
