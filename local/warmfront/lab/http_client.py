"""A small HTTP/1.1 client that returns whole responses, for probes and histories. Load comes from the bench's generator."""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


class NoAnswer(Exception):
    """No complete response arrived, so the outcome of the request is unknown."""


class Client:
    """One connection to one server, opened when needed and again after it broke. One request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float = 10.0,
    ) -> Reply:
        """Send a request and return its response, whatever its status. Raises NoAnswer if none arrives in time."""
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                status, found, answer = await self._exchange(method, path, headers or {}, body)
        except asyncio.CancelledError:
            self._abandon()  # its response may still arrive, and must not be taken for the next request's
            raise
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            await self.close()
            raise NoAnswer(
                f"{method} {path}: {type(error).__name__} after {time.monotonic() - began_s:.2f} s"
            ) from error
        if found.get("connection", "").lower() == "close":
            await self.close()
        return Reply(status, found, answer, time.monotonic() - began_s)

    async def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if self._streams is None or self._streams[0].at_eof():
            await self.close()
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        sent = {"Host": f"{self._host}:{self._port}", "Content-Length": str(len(body)), **headers}
        if body:
            sent.setdefault("Content-Type", "application/json")
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        return int(first.split()[1]), found, await reader.readexactly(int(found.get("content-length", "0")))

    def _abandon(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()

    async def close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()
