"""Refuses requests to the emulator's own paths from pages of other origins, and under host names that are not the emulator's.

A web page that somebody visits can send requests to this machine, and by DNS rebinding read the answers under a name of its
own. Such a request carries that name as its Host; ours carry an address or `localhost`, which no page can have as its name.
"""

import ipaddress
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from warmfront.emulator.lambda_service.api.invoke_api import VERSION_PATH

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PREFIXES: Final = ("/_warmfront", VERSION_PATH)
"""The emulator's own surface, and the Lambda API, which no AWS SDK calls with an Origin."""
METRICS: Final = "/_warmfront/metrics"


class SameOriginOnly:
    """ASGI middleware. `hosts`: names that are ours besides addresses and localhost; `metrics_hosts`: those of a scrape's requests."""

    def __init__(self, app: App, hosts: Collection[str] = (), metrics_hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(name.lower() for name in hosts)
        self._metrics_hosts = self._hosts.union(name.lower() for name in metrics_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIXES):
            hosts = self._metrics_hosts if scope["path"] == METRICS else self._hosts
            reason = refusal(dict(scope["headers"]), scope["scheme"], hosts)
            if reason is not None:
                await _refuse(reason, send)
                return
        await self._app(scope, receive, send)


def refusal(headers: dict[bytes, bytes], scheme: str, hosts: Collection[str] = ()) -> str | None:
    """Why a request is refused; None: it may pass."""
    host = headers.get(b"host", b"").decode("latin-1")
    if not _is_ours(host, hosts):
        return f"Host {host!r} is not this emulator's: open it by its address, as http://127.0.0.1:3000"
    origin = headers.get(b"origin")
    if origin is not None and origin.decode("latin-1").lower() != f"{scheme}://{host}".lower():
        return f"a page of {origin.decode('latin-1')} may not use the emulator's own paths"
    # Browsers say so of requests without an Origin too, such as a picture's; a link that somebody followed may pass.
    site, mode = headers.get(b"sec-fetch-site", b"none"), headers.get(b"sec-fetch-mode")
    if site not in (b"none", b"same-origin") and mode != b"navigate":
        return "a page of another origin may not use the emulator's own paths"
    return None


def _is_ours(host: str, hosts: Collection[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost") or name in hosts:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(reason: str, send: Send) -> None:
    body = json.dumps({"message": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers.append((b"x-amzn-errortype", b"AccessDeniedException"))  # what AWS SDKs raise
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
