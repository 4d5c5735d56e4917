"""Passes requests on to HTTP backends: HTTP proxy integrations of HTTP APIs and REST APIs.

docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-http.html
docs.aws.amazon.com/apigateway/latest/developerguide/setup-http-integrations.html
"""

import asyncio
import http.client
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, urlsplit

from warmfront.emulator.gateway.dialects import Failure, RefusedError
from warmfront.emulator.gateway.exchange import HOP_BY_HOP, RESPONSE_OWNED, Call, Response, parse_query
from warmfront.emulator.gateway.parameter_mapping import Outgoing, map_request
from warmfront.emulator.gateway.variables import parameter_value
from warmfront.emulator.template import HttpIntegration, ParameterMapping

_NOT_PASSED: Final = HOP_BY_HOP | {"host", "content-length", "x-amzn-trace-id"}


class HttpBackend:
    """The integration of one route."""

    def __init__(
        self, config: HttpIntegration, mapping: ParameterMapping | None, *, encoded_paths: bool, limit_s: float
    ) -> None:
        """`encoded_paths`: path parameters are percent-encoded already, as a REST API's are."""
        self._encoded_paths = encoded_paths
        self._config = config
        self._mapping = mapping
        self._limit_s = limit_s

    async def __call__(self, call: Call) -> Response:
        """The backend's response. Raises RefusedError where it cannot be reached or takes too long."""
        outgoing = self._outgoing(call)
        try:
            async with asyncio.timeout(self._limit_s):
                return await asyncio.to_thread(_send, outgoing, self._limit_s)
        except TimeoutError:
            raise RefusedError(Failure.TIMEOUT, f"{self._config.uri} after {self._limit_s} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise RefusedError(Failure.BACKEND_UNREACHABLE, f"{self._config.uri}: {error!r}") from None

    def _outgoing(self, call: Call) -> Outgoing:
        config, request = self._config, call.request
        url = config.uri
        for name, value in (call.path_parameters or {}).items():
            text = value if self._encoded_paths else quote(value, safe="/:@!$&'()*+,;=~")
            url = url.replace(f"{{{name}}}", text).replace(f"{{{name}+}}", text)
        url = _with_stage_variables(url, call)
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.headers]
        outgoing = Outgoing(
            request.method if config.method == "ANY" else config.method,
            url,
            [(name, value) for name, value in headers if name.lower() not in _NOT_PASSED],
            parse_query(request.query),
            request.body,
        )
        for name, expression in config.parameters.items():
            given = parameter_value(expression, call)
            if given is None:
                continue
            kind, _, key = name.rpartition(".")
            if kind.endswith("header"):
                outgoing.set_header(key, given)
            elif kind.endswith("querystring"):
                outgoing.set_query(key, given)
            elif kind.endswith("path"):
                outgoing.url = outgoing.url.replace(
                    f"{{{key}}}", given if self._encoded_paths else quote(given, safe="")
                )
        if self._mapping is not None:
            map_request(self._mapping, outgoing, call)
        return outgoing


def _with_stage_variables(url: str, call: Call) -> str:
    for name, value in (call.context.stage_variables or {}).items():
        url = url.replace(f"${{stageVariables.{name}}}", value)
    return url


def _send(outgoing: Outgoing, limit_s: float) -> Response:
    target = urlsplit(outgoing.target())
    connect: Callable[..., http.client.HTTPConnection] = (
        http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    )
    connection = connect(target.netloc, timeout=limit_s)
    try:
        path = target.path or "/"
        connection.putrequest(
            outgoing.method, f"{path}?{target.query}" if target.query else path, skip_accept_encoding=True
        )
        for name, value in outgoing.headers:
            connection.putheader(name, value)
        if outgoing.body or outgoing.method in ("POST", "PUT", "PATCH"):
            connection.putheader("content-length", str(len(outgoing.body)))
        connection.endheaders(outgoing.body or None)
        answer = connection.getresponse()
        body = answer.read()
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in answer.getheaders()
            if name.lower() not in RESPONSE_OWNED and name.lower() != "date"
        ]
        return Response(answer.status, headers, body)
    finally:
        connection.close()
