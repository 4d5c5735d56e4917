"""Answers CORS preflights, and writes the CORS headers of HTTP APIs and function URLs.

docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html: a configured API answers preflights
itself, adds its headers to every response of an integration and drops the integration's own. A REST API gets OPTIONS
methods from SAM and nothing else: its handlers write their own headers.
"""

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Final

from warmfront.emulator.gateway.exchange import Response
from warmfront.emulator.template import ApiKind, CorsConfig

# HTTP APIs answer 204, function URLs and SAM's OPTIONS methods 200; AWS documents neither.
PREFLIGHT_STATUS: Final = {"http": 204, "url": 200, "rest": 200}
_REST_PREFLIGHT_BODY: Final = b"{}\n"
_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

_NAME: Final = itemgetter(0)

Headers = list[tuple[bytes, bytes]]


class Cors:
    """One API's CORS configuration, its header values joined once."""

    __slots__ = ("_any_origin", "_config", "_fixed", "_kind", "_origins", "_preflight")

    def __init__(self, config: CorsConfig, kind: ApiKind) -> None:
        self._config = config
        self._kind = kind
        self._any_origin = "*" in config.allow_origins
        self._origins = frozenset(origin.lower() for origin in config.allow_origins)
        self._fixed = [(b"access-control-allow-credentials", b"true")] if config.allow_credentials else []
        self._preflight = [
            *_joined(b"access-control-allow-methods", config.allow_methods),
            *_joined(b"access-control-allow-headers", config.allow_headers),
        ]
        if config.max_age_s is not None:
            self._preflight.append((b"access-control-max-age", b"%d" % config.max_age_s))

    def options(self, fields: Mapping[str, str], *, route_method: str | None) -> Response | None:
        """The response of an HTTP API or function URL to OPTIONS, or None where it belongs to a route.

        `route_method` is the method of the route that would take the request.
        """
        if "origin" in fields and "access-control-request-method" in fields:
            return self._answer(fields["origin"])
        return Response(PREFLIGHT_STATUS[self._kind], [], b"") if route_method is None else None

    def _answer(self, origin: str) -> Response:
        """Without CORS headers when the origin is not allowed: the browser then refuses."""
        allowed = self._origin_header(origin)
        headers = [allowed, *self._fixed, *self._preflight] if allowed is not None else []
        return Response(PREFLIGHT_STATUS[self._kind], headers, b"")

    def rest_options(self, methods: Iterable[str]) -> Response:
        """The response of the OPTIONS method that SAM adds to a REST API's path, which has these methods."""
        found = set(methods)
        allowed = _METHODS if "ANY" in found else tuple(sorted(found | {"OPTIONS"}))
        headers: Headers = [(b"content-type", b"application/json")]
        headers += _joined(b"access-control-allow-origin", self._config.allow_origins[:1])
        headers += self._fixed + self._preflight
        if not self._config.allow_methods:
            headers += _joined(b"access-control-allow-methods", allowed)
        return Response(PREFLIGHT_STATUS["rest"], headers, _REST_PREFLIGHT_BODY)

    def apply(self, response: Response, origin: str) -> Response:
        """An integration's response with the API's headers in place of its own."""
        if self._kind == "rest":
            return response
        names = b" ".join(map(_NAME, response.headers))
        if not origin and b"access-control-" not in names:
            return response
        kept = [entry for entry in response.headers if not entry[0].startswith(b"access-control-")]
        allowed = self._origin_header(origin) if origin else None
        if allowed is not None:
            kept.append(allowed)
            kept += self._fixed
            kept += _joined(b"access-control-expose-headers", self._config.expose_headers)
        return Response(response.status, kept, response.body)

    def _origin_header(self, origin: str) -> tuple[bytes, bytes] | None:
        if self._any_origin and not self._config.allow_credentials:
            return (b"access-control-allow-origin", b"*")
        lower = origin.lower()
        if self._any_origin or lower in self._origins or f"{lower.partition('://')[0]}://*" in self._origins:
            return (b"access-control-allow-origin", origin.encode("latin-1", "replace"))
        return None


def _joined(name: bytes, values: tuple[str, ...]) -> Headers:
    return [(name, ",".join(values).encode("latin-1", "replace"))] if values else []
