"""Writes log text to the terminal or a file: as CloudWatch would hold it, in colour for people, or as a JSON object a line.

A stream that is not read, such as a terminal after Ctrl-S, never stops the emulator: a thread writes what a bounded queue holds.
"""

import asyncio
import json
import os
import re
import sys
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from warmfront.emulator.lambda_service.logs.stream_writer import StreamWriter
from warmfront.emulator.lambda_service.runtimes.log_frames import INNER_BREAK, with_line_breaks

LogListener = Callable[[str, bytes], None]
"""Called with (function name, chunk of complete log text) for every chunk; must be quick."""
Renderer = Callable[[str, float, bytes], bytes]
"""(function name, seconds of Unix time, chunk) -> what is written."""

TAIL_BYTES = 4096
"""X-Amz-Log-Result carries the last 4 KB (docs.aws.amazon.com/lambda/latest/api/API_Invoke.html)."""

_HANG_UP = re.compile(rb"\[ERROR\] \[\d+\] LAMBDA_RUNTIME Failed to get next invocation[^\n]*\n")
_NAME_COLOURS = (36, 32, 35, 34, 33, 96, 92, 95)
_DIM, _RED, _YELLOW, _BOLD = 2, 31, 33, 1
_LINE_COLOURS: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"Status: (error|timeout)|Task timed out after|^INIT_REPORT"), _RED),
    (re.compile(r"^(START|END) RequestId|^INIT_START|^XRAY TraceId"), _DIM),
    (re.compile(r"^REPORT RequestId"), _BOLD),
    (re.compile(r"^\[ERROR\]|^\[CRITICAL\]|\"level\": ?\"(ERROR|CRITICAL)\""), _RED),
    (re.compile(r"^\[WARNING\]|\"level\": ?\"WARN"), _YELLOW),
)
_REQUEST = re.compile(r"^START RequestId: (\S+)")


def without_hang_up(chunk: bytes) -> bytes:
    """Output of an environment at its end, less what the runtime client says of being hung up on: on Lambda nobody reads it."""
    return _HANG_UP.sub(b"", chunk)


class LogSink:
    """Where log text goes: one buffered stream, written off the hot path by a timer of `flush_s`."""

    def __init__(self, stream: IO[bytes] | None, *, flush_s: float = 0.05, render: Renderer | None = None) -> None:
        """`render`: None writes the text as CloudWatch would hold it."""
        self._stream = stream
        self._closed = stream is None
        self._writer = StreamWriter(stream) if stream is not None else None
        self._flush_s = flush_s
        self._render = render
        self._buffer: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self.listeners: list[LogListener] = []

    @classmethod
    def to_file(cls, path: Path, render: Renderer | None = None) -> "LogSink":
        return cls(path.open("ab", buffering=0), flush_s=0.25, render=render)

    @classmethod
    def to_terminal(cls, render: Renderer | None = None) -> "LogSink":
        try:
            # Unbuffered, of its own: at the end Python would wait for the lock of a buffer that a stuck thread holds.
            return cls(open(os.dup(sys.stdout.fileno()), "wb", buffering=0), render=render)  # noqa: PTH123
        except OSError:  # standard output is no file, as in tests
            return cls(sys.stdout.buffer, render=render)

    def write(self, function: str, chunk: bytes) -> None:
        """Take one chunk; it is written within the flush interval, in order."""
        for listener in self.listeners:
            listener(function, with_line_breaks(chunk))
        if self._closed:
            return
        render = self._render
        self._buffer.append(with_line_breaks(chunk) if render is None else render(function, time.time(), chunk))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush_s, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._buffer and self._writer is not None:
            chunk = b"".join(self._buffer)
            self._buffer.clear()
            self._writer.put(chunk)

    def close(self) -> None:
        """Write what is left, if somebody reads it; a file of ours is closed."""
        self.flush()
        self._closed = True
        if self._writer is not None:
            self._writer.close()
        if self._stream is not None and self._stream is not sys.stdout.buffer:
            self._stream.close()
        self._stream = None


def for_people(function: str, _: float, chunk: bytes) -> bytes:
    """Each line with its function's name, platform lines dim, failures red."""
    colour = _NAME_COLOURS[zlib.crc32(function.encode()) % len(_NAME_COLOURS)]
    name = f"\x1b[{colour}m{function}\x1b[0m "
    lines = with_line_breaks(chunk).decode(errors="replace").replace("\r", "\n").splitlines()
    return "".join(f"{name}{_coloured(line)}\n" for line in lines).encode()


def _coloured(line: str) -> str:
    colour = next((colour for pattern, colour in _LINE_COLOURS if pattern.search(line)), None)
    return line if colour is None else f"\x1b[{colour}m{line}\x1b[0m"


def as_json(function: str, at_s: float, chunk: bytes) -> bytes:
    """Each event as an object: time, function, the request it belongs to where that is known, and message (parsed where it is JSON)."""
    moment = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    request_id: str | None = None
    made = []
    inner = INNER_BREAK.decode()
    for event in chunk.decode(errors="replace").removesuffix("\n").split("\n"):
        line = event.replace(inner, "\n")
        if match := _REQUEST.match(line):
            request_id = match[1]
        entry: dict[str, object] = {"time": moment, "function": function}
        if request_id is not None:
            entry["requestId"] = request_id
        made.append(json.dumps({**entry, "message": _object_or_text(line)}, ensure_ascii=False) + "\n")
    return "".join(made).encode()


def _object_or_text(line: str) -> object:
    if line.startswith("{"):
        try:
            value: object = json.loads(line)
        except ValueError:
            return line
        return value
    return line
