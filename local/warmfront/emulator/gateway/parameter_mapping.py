"""Maps parameters of HTTP APIs: changes requests before an integration gets them, and its responses.

docs.aws.amazon.com/apigateway/latest/developerguide/http-api-parameter-mapping.html
"""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_plus, urlsplit, urlunsplit

from warmfront.emulator.gateway.exchange import Call, Response, parse_query, read_head
from warmfront.emulator.gateway.variables import context_value, header_value, query_value
from warmfront.emulator.template import ParameterMapping

_VARIABLE: Final = re.compile(r"\$\{?([A-Za-z][A-Za-z0-9_.\-]*)\}?")


@dataclass(slots=True)
class Outgoing:
    """A request on its way to an HTTP backend."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    query: list[tuple[str, str]]
    body: bytes

    def set_header(self, name: str, value: str) -> None:
        self.headers = [pair for pair in self.headers if pair[0].lower() != name.lower()] + [(name, value)]

    def set_query(self, name: str, value: str) -> None:
        self.query = [pair for pair in self.query if pair[0] != name] + [(name, value)]

    def target(self) -> str:
        """The URL with its query string."""
        own = self.url.partition("?")[2]
        added = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in self.query)
        query = "&".join(part for part in (own, added) if part)
        return self.url.partition("?")[0] + (f"?{query}" if query else "")


def map_request(mapping: ParameterMapping, outgoing: Outgoing, call: Call) -> None:
    """Change a request as its integration's request parameters say."""
    for key, expression in mapping.request.items():
        action, _, place = key.partition(":")
        kind, _, name = place.partition(".")
        value = _value(expression, call, None)
        if kind == "path" and action == "overwrite":
            parts = urlsplit(outgoing.url)
            outgoing.url = urlunsplit(parts._replace(path="/" + value.lstrip("/")))
        elif kind == "header":
            outgoing.headers = _changed(outgoing.headers, action, name, value)
        elif kind == "querystring":
            outgoing.query = _changed(outgoing.query, action, name, value)


def mapping_request(mapping: ParameterMapping) -> Callable[[Call], Awaitable[Call]]:
    """The step that changes a request before its function gets it as an event."""

    async def mapped(call: Call) -> Call:
        request = call.request
        path = request.path
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        outgoing = Outgoing(request.method, path, headers, parse_query(request.query), request.body)
        map_request(mapping, outgoing, call)
        raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in outgoing.headers]
        changed = request._replace(
            path=outgoing.url,
            query=outgoing.target().partition("?")[2]
            if outgoing.query != parse_query(request.query)
            else request.query,
            headers=raw,
            head=read_head([(name.lower(), value) for name, value in raw]),
        )
        return call._replace(request=changed, path_overwritten="overwrite:path" in mapping.request)

    return mapped


def map_response(mapping: ParameterMapping, response: Response, call: Call) -> Response:
    """Change a response as its integration's response parameters for this status say."""
    changes = mapping.response.get(response.status)
    if not changes:
        return response
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
    status = response.status
    for key, expression in changes.items():
        action, _, place = key.partition(":")
        value = _value(expression, call, response)
        if place == "statuscode" and value.isdigit():
            status = int(value)
        elif place.startswith("header."):
            headers = _changed(headers, action, place.removeprefix("header."), value)
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
    return Response(status, encoded, response.body)


def _changed(pairs: list[tuple[str, str]], action: str, name: str, value: str) -> list[tuple[str, str]]:
    if action == "append":
        return [*pairs, (name, value)]
    others = [pair for pair in pairs if pair[0].lower() != name.lower()]
    return others if action == "remove" else [*others, (name, value)]


def _value(expression: str, call: Call, response: Response | None) -> str:
    """A value with its $request, $response, $context and $stageVariables filled in; unknown ones are empty."""

    def filled(match: re.Match[str]) -> str:
        found = _variable(match[1], call, response)
        return "" if found is None else found

    return _VARIABLE.sub(filled, expression.strip("'"))


def _variable(name: str, call: Call, response: Response | None) -> str | None:
    root, _, rest = name.partition(".")
    kind, _, key = rest.partition(".")
    if root == "context":
        return context_value(call, rest)
    if root == "stageVariables":
        return (call.context.stage_variables or {}).get(rest)
    if root == "response" and response is not None:
        if kind == "header":
            wanted = key.lower().encode()
            return ",".join(value.decode("latin-1") for header, value in response.headers if header == wanted) or None
        return _of_body(response.body, key) if kind == "body" else None
    if root != "request":
        return None
    if kind == "header":
        return header_value(call, key)
    if kind == "querystring":
        return query_value(call, key)
    if kind == "path":
        return (call.path_parameters or {}).get(key) if key else call.path
    return _of_body(call.request.body, key) if kind == "body" else None


def _of_body(body: bytes, path: str) -> str | None:
    try:
        found = json.loads(body)
        for key in filter(None, path.split(".")):
            found = found[int(key)] if isinstance(found, list) else found[key]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return found if isinstance(found, str) else json.dumps(found)
