"""Invokes one function repeatedly over one kept connection, and times each invocation."""

import json
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import quote

from warmfront.bench.load.samples import Target
from warmfront.bench.run.emulator_process import EmulatorError

TIMEOUT_S = 900.0  # Lambda's own limit


@dataclass(frozen=True, slots=True)
class Call:
    """Times of one invocation at its caller (CLOCK_MONOTONIC nanoseconds), and what is wrong with the response, if anything."""

    sent_ns: int
    first_byte_ns: int
    problem: str | None

    @property
    def latency_ms(self) -> float:
        return (self.first_byte_ns - self.sent_ns) / 1e6


class Caller:
    """Sends one function the same event. The request is rendered once, so that the times include only the socket."""

    def __init__(self, target: Target, function: str, event: bytes) -> None:
        head = (
            f"POST /2015-03-31/functions/{quote(function)}/invocations HTTP/1.1\r\nHost: {target.authority}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(event)}\r\n\r\n"
        )
        self._request = head.encode() + event
        self._function = function
        self._socket = socket.create_connection((target.host, target.port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self) -> Call:
        sent = time.monotonic_ns()
        self._socket.sendall(self._request)
        data = self._socket.recv(65536)
        first = time.monotonic_ns()
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        status, headers = _head(head)
        length = int(headers.get("content-length", "0"))
        while len(body) < length:
            body += self._more()
        return Call(sent, first, _problem(status, headers, body))

    def _more(self) -> bytes:
        chunk = self._socket.recv(65536)
        if not chunk:
            raise EmulatorError(f"the emulator hung up while {self._function} was invoked")
        return chunk

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


def _problem(status: int, headers: dict[str, str], body: bytes) -> str | None:
    """The start of a response that is a failure, else None: failures must not be measured. An HTTP status of 400 and above in
    the function's response is a failure too."""
    text = body[:500].decode(errors="replace")
    if status >= 300 or "x-amz-function-error" in headers:
        return text
    try:
        answer = json.loads(body or b"null")
    except ValueError:
        return None
    code = answer.get("statusCode") if isinstance(answer, dict) else None
    return text if isinstance(code, int) and code >= 400 else None
