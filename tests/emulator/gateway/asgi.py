"""Drives an ASGI application with one request, as uvicorn with our protocol would."""

from collections.abc import MutableMapping
from typing import Any

from warmfront.emulator.gateway.asgi import AsgiApp
from warmfront.emulator.gateway.exchange import RAW_NAMES

Answer = tuple[int, list[tuple[str, str]], bytes]


async def ask(
    app: AsgiApp,
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    body: bytes = b"",
    *,
    chunk_bytes: int = 65_536,
) -> Answer:
    path, _, query = target.partition("?")
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "raw_path": path.encode(),
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower(), value) for name, value in raw],
        RAW_NAMES: [name for name, _ in raw],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 3000),
    }
    chunks = [body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)] or [b""]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    answer = b"".join(message.get("body", b"") for message in bodies)
    found = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
    return start["status"], found, b"" if method == "HEAD" else answer
