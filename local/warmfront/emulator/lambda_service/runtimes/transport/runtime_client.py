"""The transport under the official runtime client: the four functions of its native module, over one socket, in fewer system calls.

Staged in the native module's place, so it may import nothing of the emulator's and as little as it can of Python's: what it imports is in
every cold start. `awslambdaric` itself runs unchanged. It knows the Runtime API's wire and no handler. The difference to the native module:
an answer goes out in one write with the request for the next event, which therefore arrives in one read with the receipt.
"""

import os
import time
from _socket import AF_INET, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, socket

CHUNK = 65_536
TOGETHER = 32_768
"""Bytes of an answer up to which the request for the next event goes with it. A larger one may be refused: its receipt is waited for."""

_connection: socket | None = None
_rest = b""
_receipts = 0
_receipt = b""
_asked = False
_user_agent = ""
_next = b""


def initialize_client(user_agent: str) -> None:
    global _user_agent, _next
    _user_agent = user_agent
    _next = f"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: runtime\r\nUser-Agent: {user_agent}\r\n\r\n".encode()


def next() -> tuple[bytes, dict[str, object]]:
    """The next event and its headers, as soon as there is one. Raises RuntimeError when the Runtime API hangs up or refuses."""
    global _asked, _receipts
    try:
        if not _asked:
            _send(_next)
        _asked = False
        while _receipts:
            _receipts -= 1
            _read()
        status, headers, body = _read()
    except OSError:
        raise RuntimeError("Failed to get next") from None
    if status != 200:
        raise RuntimeError("Failed to get next")
    told: dict[str, object] = dict(headers)
    del told["Content-Length"]
    told["Lambda-Runtime-Deadline-Ms"] = int(headers["Lambda-Runtime-Deadline-Ms"])
    return body, told


def post_invocation_result(
    request_id: str, content: bytes, content_type: str = "application/json", invocation_id: str | None = None
) -> None:
    """Hand in an invocation's answer. Raises RuntimeError when it is refused, as one over 6 MB is."""
    _post(f"{request_id}/response", content, f"Content-Type: {content_type}\r\n", invocation_id)


def post_error(request_id: str, content: str, xray_cause: str, invocation_id: str | None = None) -> None:
    """Hand in an invocation's failure. Raises RuntimeError when it is refused."""
    headers = "Content-Type: application/json\r\n"
    if xray_cause:
        headers += f"lambda-runtime-function-xray-error-cause: {xray_cause}\r\n"
    _post(f"{request_id}/error", content.encode(), headers, invocation_id)


def _post(path: str, content: bytes, headers: str, invocation_id: str | None) -> None:
    global _asked, _receipts
    if invocation_id:
        headers += f"Lambda-Runtime-Invocation-Id: {invocation_id}\r\n"
    head = (
        f"POST /2018-06-01/runtime/invocation/{path} HTTP/1.1\r\nHost: runtime\r\n{headers}"
        f"User-Agent: {_user_agent}\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode("utf-8", "surrogateescape")
    try:
        if len(content) <= TOGETHER:
            _send(head + content + _next)
            _receipts, _asked = _receipts + 1, True
            return
        _send(head)
        _send(content)
        status, _, why = _read()
    except OSError:
        raise RuntimeError("Failed to post invocation response") from None
    if status >= 300:
        said = f"Failed to post handler success response. Http response code: {status}. {why.decode(errors='replace')}"
        os.write(1, f"[ERROR] [{time.time_ns() // 1_000_000}] LAMBDA_RUNTIME {said}\n".encode())
        raise RuntimeError("Failed to post invocation response")


def _connect() -> socket:
    global _connection, _rest, _receipts
    host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].rpartition(":")
    connection = socket(AF_INET, SOCK_STREAM)
    connection.settimeout(None)  # whatever default a handler has set
    connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    connection.connect((host, int(port)))
    _connection, _rest, _receipts = connection, b"", 0
    return connection


def _send(data: bytes) -> None:
    """All of it; over a new connection if a handler has closed the old one."""
    if _connection is not None:
        try:
            _connection.sendall(data)
            return
        except OSError:
            pass
    _connect().sendall(data)


def _read() -> tuple[int, dict[str, str], bytes]:
    """One HTTP answer: status, headers, body. A receipt, being the same each time, is parsed the first time only."""
    global _rest, _receipt
    connection = _connection
    if connection is None:
        raise OSError("not connected")
    data = _rest or _received(connection)
    if _receipt and data.startswith(_receipt):
        _rest = data[len(_receipt) :]
        return 202, {}, b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _received(connection)
    lines = data[:end].decode("latin-1").split("\r\n")
    headers = dict([line.split(": ", 1) for line in lines[1:]])
    begin = end + 4
    stop = begin + int(headers["Content-Length"])
    if len(data) < stop:
        parts = [data]
        missing = stop - len(data)
        while missing > 0:
            part = _received(connection)
            parts.append(part)
            missing -= len(part)
        data = b"".join(parts)
    _rest = data[stop:]
    status = int(lines[0][9:12])
    if status == 202:
        _receipt = data[:stop]
    return status, headers, data[begin:stop]


def _received(connection: socket) -> bytes:
    chunk = connection.recv(CHUNK)
    if not chunk:
        raise OSError("the Runtime API hung up")
    return chunk
