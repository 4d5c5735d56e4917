"""What CloudWatch would hold: platform lines as Lambda words them and the functions' own output. Knows no HTTP and no processes.

Line formats were recorded on AWS: fields are separated by tabs and a REPORT line ends with a tab.
"""

import asyncio
import math
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

LogListener = Callable[[str, bytes], None]
"""Called with (function name, chunk of complete log text) for every chunk; must be quick."""

TAIL_BYTES = 4096
"""X-Amz-Log-Result carries the last 4 KB (docs.aws.amazon.com/lambda/latest/api/API_Invoke.html)."""


def start_line(request_id: str, version: str) -> bytes:
    return f"START RequestId: {request_id} Version: {version}\n".encode()


def end_line(request_id: str) -> bytes:
    return f"END RequestId: {request_id}\n".encode()


def init_start_line(runtime: str) -> bytes:
    """`runtime` such as `python3.13`; the version suffix and ARN of AWS's own build have no local value."""
    family, _, version = runtime.partition("3.")
    return f"INIT_START Runtime Version: {family}:3.{version}.warmfront\tRuntime Version ARN: \n".encode()


def report_line(
    request_id: str,
    *,
    duration_ms: float,
    memory_mb: int,
    memory_used_mb: int,
    init_ms: float | None = None,
    restore_ms: float | None = None,
    status: str | None = None,
    error_type: str | None = None,
) -> bytes:
    """REPORT of one invocation; since 2025-08-01 the init of an on-demand start is billed with it (AWS compute blog)."""
    billed_ms = math.ceil(duration_ms + (init_ms or 0.0))
    line = (
        f"REPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {billed_ms} ms\t"
        f"Memory Size: {memory_mb} MB\tMax Memory Used: {memory_used_mb} MB\t"
    )
    if init_ms is not None:
        line += f"Init Duration: {init_ms:.2f} ms\t"
    if restore_ms is not None:
        line += f"Restore Duration: {restore_ms:.2f} ms\tBilled Restore Duration: {math.ceil(restore_ms)} ms\t"
    if status is not None:
        line += f"Status: {status}" if error_type is None else f"Status: {status}\tError Type: {error_type}"
    return (line + "\n").encode()


def init_report_line(*, init_ms: float, phase: str, status: str, error_type: str | None = None) -> bytes:
    """INIT_REPORT of an init that failed or ran out of time; `phase` is `init` or `invoke` (a retried init)."""
    tail = f"\tError Type: {error_type}" if error_type else ""
    return f"INIT_REPORT Init Duration: {init_ms:.2f} ms\tPhase: {phase}\tStatus: {status}{tail}\n".encode()


def timeout_line(request_id: str, timeout_s: float) -> bytes:
    """What a timed-out invocation logs before its END."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    return f"{now}Z {request_id} Task timed out after {timeout_s:.2f} seconds\n".encode()


_HANG_UP = re.compile(rb"\[ERROR\] \[\d+\] LAMBDA_RUNTIME Failed to get next invocation[^\n]*\n")


def without_hang_up(chunk: bytes) -> bytes:
    """Output of an environment at its end, less what the runtime client says of being hung up on: on Lambda nobody reads it."""
    return _HANG_UP.sub(b"", chunk)


class LogSink:
    """Where log text goes: one buffered stream, written off the hot path by a timer of `flush_s`."""

    def __init__(self, stream: IO[bytes] | None, *, flush_s: float = 0.05) -> None:
        self._stream = stream
        self._flush_s = flush_s
        self._buffer: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self.listeners: list[LogListener] = []

    @classmethod
    def to_file(cls, path: Path) -> "LogSink":
        return cls(path.open("ab", buffering=0), flush_s=0.25)

    @classmethod
    def to_terminal(cls) -> "LogSink":
        return cls(sys.stdout.buffer)

    def write(self, function: str, chunk: bytes) -> None:
        """Take one chunk; it is written within the flush interval, in order."""
        for listener in self.listeners:
            listener(function, chunk)
        if self._stream is None:
            return
        self._buffer.append(chunk)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush_s, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stream is not None and self._buffer:
            chunk = b"".join(self._buffer)
            self._buffer.clear()
            self._stream.write(chunk)
            self._stream.flush()
