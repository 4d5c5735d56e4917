"""Makes a sample event for each route of a template, as the gateway would build it, to edit and send on the dashboard."""

import re
from typing import Final

from warmfront.emulator.gateway.endpoints import event_builder
from warmfront.emulator.gateway.exchange import Call, Request, Stamps, api_context, read_head
from warmfront.emulator.template import Api, Route, Template

_PARAMETER: Final = re.compile(r"\{([^}]+)\}")
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def samples(template: Template) -> dict[str, list[dict[str, object]]]:
    """Logical id -> [{"name": "GET /items/{id}", "event": ...}]."""
    found: dict[str, list[dict[str, object]]] = {}
    stamps = Stamps()
    for api in template.apis:
        for route in api.routes:
            event = event_builder(api, route)(_call(api, route, stamps))
            found.setdefault(route.function, []).append({"name": route.key, "event": event})
    return found


def _call(api: Api, route: Route, stamps: Stamps) -> Call:
    method = "GET" if route.method in ("ANY", "") else route.method
    parameters = {name.removesuffix("+"): "1" for name in _PARAMETER.findall(route.path)}
    path = "/" if route.path == "$default" else _PARAMETER.sub("1", route.path)
    headers = [(b"accept", b"*/*"), (b"host", b"127.0.0.1:3000"), (b"user-agent", b"warmfront-dashboard")]
    body = b""
    if method in _WITH_BODY:
        body = b"{}"
        headers += [(b"content-length", b"2"), (b"content-type", b"application/json")]
    request = Request(method, path, "", headers, read_head(headers), body, "127.0.0.1", 3000)
    time_text, time_ms = stamps.now()
    return Call(
        request, api_context(api), route, path, parameters or None, stamps.request_id(), stamps.trace_id(),
        time_text, time_ms, stamps.uuid() if api.kind != "http" else "",
    )  # fmt: skip
