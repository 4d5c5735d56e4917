"""Writes one access log line for each request, as API Gateway does.

It must not be given headers or query strings: so no secret can get into the log.
"""

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from warmfront.emulator.lambda_service.logs.sinks import LogSink
from warmfront.emulator.lambda_service.trace_header import root
from warmfront.emulator.observe.recorder import Answered, Row

NAME = "access"
_TWO_DIGITS = [f"{number:02d}" for number in range(100)]


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
        self._as_objects = as_objects
        self._epoch_ns = epoch_ns

    def write(self, answers: Iterable[Row]) -> None:
        """Rows of Answered."""
        text = _objects(answers, self._epoch_ns()) if self._as_objects else _lines(answers)
        self._sink.write(NAME, text.encode())


def _lines(answers: Iterable[Row]) -> str:
    """One loop and one format for all of them, and milliseconds put together of whole numbers: that costs less than a call for each."""
    return "".join(
        [
            f"{NAME}: {method} {path if path.isprintable() else _escaped(path)} {status}{f' -> {function}' if function else ''}"
            f" {(hundredths := (ended_ns - began_ns) // 10_000) // 100}.{_TWO_DIGITS[hundredths % 100]} ms {size_bytes} B"
            f" {request_id}{f' {root(trace_header)}' if trace_header else ''}\n"
            for ended_ns, began_ns, _, _, function, method, path, status, size_bytes, request_id, trace_header in answers
        ]
    )


def _escaped(path: str) -> str:
    """A path may hold anything; a line must stay one line."""
    return path.encode("unicode_escape").decode()


def _objects(answers: Iterable[Row], epoch_ns: int) -> str:
    return "".join([_object(Answered._make(each), epoch_ns) for each in answers])


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
        "responseLatency": round((answered.ended_ns - answered.began_ns) / 1e6, 2),
        "responseLength": answered.size_bytes,
        "function": answered.function,
        "api": answered.api,
        "xrayTraceId": root(answered.trace_header),
    }
    return json.dumps({name: value for name, value in fields.items() if value != ""}, separators=(",", ":")) + "\n"
