"""One line for each request, as an API's access log has it. Knows no headers and no query strings: no secret can get into it."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

from local.lambda_service.logs import LogSink
from local.lambda_service.trace_header import root
from local.observe.books import Answered

NAME = "access"
FLUSH_S = 0.05


class AccessLog:
    """Lines are made and written together, a moment after their requests."""

    def __init__(self, sink: LogSink, *, as_objects: bool, clock: Callable[[], float] = time.time) -> None:
        """`as_objects`: each line is a JSON object with API Gateway's names for its fields."""
        self._sink = sink
        self._line = _object if as_objects else _text
        self._clock = clock
        self._waiting: list[tuple[float, Answered, int]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, answered: Answered, size_bytes: int) -> None:
        self._waiting.append((self._clock(), answered, size_bytes))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._sink.write(NAME, "".join(self._line(*each) for each in waiting).encode())


def _text(_: float, answered: Answered, size_bytes: int) -> str:
    to = f" -> {answered.function}" if answered.function else ""
    trace = f" {root(answered.trace_header)}" if answered.trace_header else ""
    return (
        f"{NAME}: {answered.method} {_printable(answered.path)} {answered.status}{to} {_latency_ms(answered):.2f} ms"
        f" {size_bytes} B {answered.request_id}{trace}\n"
    )


def _object(at_s: float, answered: Answered, size_bytes: int) -> str:
    """The names of docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging-variables.html."""
    fields = {
        "requestTime": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds"),
        "requestId": answered.request_id,
        "httpMethod": answered.method,
        "path": answered.path,
        "routeKey": answered.route,
        "status": answered.status,
        "responseLatency": round(_latency_ms(answered), 2),
        "responseLength": size_bytes,
        "function": answered.function,
        "api": answered.api,
        "xrayTraceId": root(answered.trace_header),
    }
    return json.dumps({name: value for name, value in fields.items() if value != ""}, separators=(",", ":")) + "\n"


def _latency_ms(answered: Answered) -> float:
    return (answered.ended_ns - answered.began_ns) / 1e6


def _printable(path: str) -> str:
    """A path may hold anything; a line must stay one line."""
    return path if path.isprintable() else path.encode("unicode_escape").decode()
