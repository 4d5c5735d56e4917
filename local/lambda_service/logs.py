"""Where log text goes: the terminal or a file, off the hot path. Knows no HTTP and no processes."""

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

LogListener = Callable[[str, bytes], None]
"""Called with (function name, chunk of complete log text) for every chunk; must be quick."""

TAIL_BYTES = 4096
"""X-Amz-Log-Result carries the last 4 KB (docs.aws.amazon.com/lambda/latest/api/API_Invoke.html)."""


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
