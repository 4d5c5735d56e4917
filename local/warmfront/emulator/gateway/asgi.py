"""Reads requests from ASGI scopes and sends responses."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from warmfront.emulator.gateway.exchange import ANSWER, RAW_NAMES, Head, Request, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_PROTOCOLS: Final = {version: f"HTTP/{version}" for version in ("1.0", "1.1", "2", "3")}


def read_request(scope: Scope, path: str, head: Head, body: bytes, *, raw_names: bool) -> Request:
    """The request of a scope; `raw_names`: header names as the client wrote them, where the server keeps them."""
    client = scope.get("client") or ("127.0.0.1", 0)
    server = scope.get("server") or ("127.0.0.1", 0)
    headers = scope["headers"]
    if raw_names and RAW_NAMES in scope:
        headers = list(zip(scope[RAW_NAMES], [value for _, value in headers], strict=True))
    return Request(
        scope["method"], path, scope["query_string"].decode("latin-1"), headers, head, body,
        client[0], server[1] or 0, scope["scheme"], _PROTOCOLS[scope["http_version"]],
    )  # fmt: skip


async def read_body(receive: Receive, limit_bytes: int) -> bytes | None:
    """The whole body, or None as soon as it is over the limit."""
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            return None
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def respond(response: Response, ids: tuple[tuple[bytes, bytes], ...], scope: Scope, send: Send) -> None:
    """Send a response with its ids and length, in one call where the server takes it so."""
    status, headers, body = response
    if status in (204, 304):
        headers, body = [*headers, *ids], b""
    else:
        headers = [*headers, *ids, (b"content-length", b"%d" % len(body))]
        answer: Callable[..., bool] | None = scope.get(ANSWER)
        if answer is not None and answer(scope, status, headers, body):
            return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def end_lifespan(receive: Receive, send: Send) -> None:
    """Answer a server's lifespan messages, for which the gateway has nothing to do."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
