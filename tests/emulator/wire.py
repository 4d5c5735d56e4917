"""HTTP byte for byte: requests as a test writes them, answers as they came."""

import contextlib
import http.client
import socket

from tests.emulator.harness import PATIENCE_S

Answer = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers and body."""


def request_bytes(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    """A request as it stands on the wire: nothing added, nothing tidied."""
    head = [f"{method} {target} HTTP/1.1".encode()]
    head += [f"{name}: {value}".encode("latin-1") for name, value in headers]
    return b"\r\n".join([*head, b"", body])


class Exchange:
    """One request on a connection of its own: sent at once, answered when asked for."""

    def __init__(self, port: int, method: str, target: str, headers: list[tuple[str, str]], body: bytes = b"") -> None:
        self._method = method
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before its end: the answer says so
            self._socket.sendall(request_bytes(method, target, headers, body))

    def answer(self) -> Answer:
        with self._socket:
            response = http.client.HTTPResponse(self._socket, method=self._method)
            response.begin()
            body = response.read()
            return response.status, response.getheaders(), body
