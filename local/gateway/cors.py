"""Cross-origin answers of HTTP APIs, function URLs and REST APIs. Pure: headers in, headers out.

docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html: a configured API answers preflights
itself, adds its headers to every answer of an integration and drops the integration's own.
"""

from typing import Final

from local.gateway.exchange import Response
from local.template import ApiKind, CorsConfig

# HTTP APIs answer 204, function URLs 200; not confirmed by AWS's documentation.
PREFLIGHT_STATUS: Final = {"http": 204, "url": 200, "rest": 200}


class Cors:
    """One API's CORS configuration, its header values joined once."""

    __slots__ = ("_any_origin", "_config", "_fixed", "_kind", "_origins", "_preflight")

    def __init__(self, config: CorsConfig, kind: ApiKind) -> None:
        self._config = config
        self._kind = kind
        self._any_origin = "*" in config.allow_origins
        self._origins = frozenset(origin.lower() for origin in config.allow_origins)
        self._fixed: list[tuple[bytes, bytes]] = []
        if config.allow_credentials:
            self._fixed.append((b"access-control-allow-credentials", b"true"))
        self._preflight = [
            (name, ",".join(values).encode())
            for name, values in (
                (b"access-control-allow-methods", config.allow_methods),
                (b"access-control-allow-headers", config.allow_headers),
            )
            if values
        ]
        if config.max_age_s is not None:
            self._preflight.append((b"access-control-max-age", str(config.max_age_s).encode()))

    def preflight(self, origin: str) -> Response:
        """The answer to OPTIONS; without CORS headers when the origin is not allowed."""
        status = PREFLIGHT_STATUS[self._kind]
        allowed = self._origin_header(origin)
        if allowed is None:
            return Response(status, [], b"")
        return Response(status, [allowed, *self._fixed, *self._preflight], b"")

    def apply(self, headers: list[tuple[bytes, bytes]], origin: str) -> list[tuple[bytes, bytes]]:
        """An integration's headers with ours in place of its own."""
        kept = [entry for entry in headers if not entry[0].startswith(b"access-control-")]
        allowed = self._origin_header(origin) if origin else None
        if allowed is None:
            return kept
        kept.append(allowed)
        kept += self._fixed
        if self._config.expose_headers:
            kept.append((b"access-control-expose-headers", ",".join(self._config.expose_headers).encode()))
        return kept

    def _origin_header(self, origin: str) -> tuple[bytes, bytes] | None:
        if self._any_origin and not self._config.allow_credentials:
            return (b"access-control-allow-origin", b"*")
        lower = origin.lower()
        if self._any_origin or lower in self._origins or f"{lower.partition('://')[0]}://*" in self._origins:
            return (b"access-control-allow-origin", origin.encode("latin-1", "replace"))
        return None
