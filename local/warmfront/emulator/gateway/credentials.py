"""Where authorizers find a caller's credentials in a request, and how they refuse. Knows neither tokens nor functions."""

from warmfront.emulator.gateway.dialects import Failure
from warmfront.emulator.gateway.exchange import Call, parse_query


class DeniedError(Exception):
    """The request stops here; the client sees `failure`, the log `reason`."""

    def __init__(self, failure: Failure, reason: str, challenge: str | None = None) -> None:
        super().__init__(reason)
        self.failure = failure
        self.challenge = challenge
        """The WWW-Authenticate header of the answer."""


def identity_value(call: Call, source: str) -> str | None:
    """The value that an identity source such as $request.header.Authorization names; None when absent or empty."""
    kind, _, name = source.partition(".") if not source.startswith("$request.") else source.rpartition(".")
    if kind == "$request.header":
        lower = name.lower()
        if lower == "cookie":
            return "; ".join(call.request.head.cookies or ()) or None
        return call.request.head.fields.get(lower) or None
    if kind == "$request.querystring":
        return next((value for key, value in parse_query(call.request.query) if key == name), None) or None
    if kind == "$stageVariables":
        return (call.context.stage_variables or {}).get(name)
    if kind == "$context":
        return _context_value(call, name)
    return None


def _context_value(call: Call, name: str) -> str | None:
    known = {
        "httpMethod": call.request.method,
        "http.method": call.request.method,
        "identity.sourceIp": call.request.source_ip,
        "path": call.request.path,
        "routeKey": call.route.key,
        "resourcePath": call.route.path,
        "stage": call.context.stage,
        "apiId": call.context.api_id,
        "accountId": call.context.account_id,
    }
    return known.get(name)
