"""One line for each request, as an API's access log has it. Knows no headers and no query strings: no secret can get into it."""

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from local.lambda_service.logs import LogSink
from local.lambda_service.trace_header import root
from local.observe.books import Answered

NAME = "access"


class AccessLog:
    """Lines of several requests are made and written together."""

    def __init__(
        self,
        sink: LogSink,
        *,
        as_objects: bool,
        epoch_ns: Callable[[], int] = lambda: time.time_ns() - time.monotonic_ns(),
    ) -> None:
        """`as_objects`: each line is a JSON object with API Gateway's names for its fields. `epoch_ns`: Unix time less CLOCK_MONOTONIC."""
        self._sink = sink
        self._line = _object if as_objects else _text
        self._epoch_ns = epoch_ns

    def write(self, answers: Iterable[Answered]) -> None:
        epoch_ns = self._epoch_ns()
        self._sink.write(NAME, "".join([self._line(each, epoch_ns) for each in answers]).encode())


def _text(answered: Answered, _: int) -> str:
    to = f" -> {answered.function}" if answered.function else ""
    trace = f" {root(answered.trace_header)}" if answered.trace_header else ""
    return (
        f"{NAME}: {answered.method} {_printable(answered.path)} {answered.status}{to} {_latency_ms(answered):.2f} ms"
        f" {answered.size_bytes} B {answered.request_id}{trace}\n"
    )


def _object(answered: Answered, epoch_ns: int) -> str:
    """The names of docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging-variables.html."""
    fields = {
        "requestTime": datetime.fromtimestamp((answered.ended_ns + epoch_ns) / 1e9, UTC).isoformat(
            timespec="milliseconds"
        ),
        "requestId": answered.request_id,
        "httpMethod": answered.method,
        "path": answered.path,
        "routeKey": answered.route,
        "status": answered.status,
        "responseLatency": round(_latency_ms(answered), 2),
        "responseLength": answered.size_bytes,
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
