"""Reads the frames in which Lambda's runtime hands over log messages, so that a message of several lines stays one event.

The official client writes them where _LAMBDA_TELEMETRY_LOG_FD names a descriptor (awslambdaric/bootstrap.py, FramedTelemetryLogSink):
type 0xa55a00.., length and microseconds, big-endian, then the text. Here they share the pipe with what handlers print, which keeps
the order of both.
"""

INNER_BREAK = b"\x1e"
"""Stands for a line break inside an event until the event is written somewhere: a newline ends an event."""

_MARK = b"\xa5\x5a\x00"
_HEAD_BYTES = 16
_MESSAGE_BYTES_MAX = 1 << 24
"""A longer one is no frame but what a handler has printed."""


def with_line_breaks(log: bytes) -> bytes:
    """Log text as people and CloudWatch have it."""
    return log.replace(INNER_BREAK, b"\n") if INNER_BREAK in log else log


class FrameReader:
    """Turns the output of one process into events that end with a newline each."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def read(self, chunk: bytes) -> bytes:
        """The events in `chunk` and in what was left of the chunks before; an incomplete frame is held back."""
        if self._rest:
            chunk, self._rest = self._rest + chunk, b""
        if _MARK not in chunk and not chunk.endswith((_MARK[:1], _MARK[:2])):
            return chunk
        parts = []
        begin = 0
        while (mark := chunk.find(_MARK, begin)) >= 0:
            parts.append(chunk[begin:mark])
            length = int.from_bytes(chunk[mark + 4 : mark + 8], "big")
            end = mark + _HEAD_BYTES + length
            if len(chunk) >= mark + 8 and length > _MESSAGE_BYTES_MAX:
                parts.append(_MARK)
                begin = mark + len(_MARK)
            elif len(chunk) < mark + _HEAD_BYTES or len(chunk) < end:
                self._rest = chunk[mark:]
                return b"".join(parts)
            else:
                parts.append(chunk[mark + _HEAD_BYTES : end].rstrip(b"\n").replace(b"\n", INNER_BREAK) + b"\n")
                begin = end
        tail = chunk[begin:]
        held = next((count for count in (2, 1) if tail.endswith(_MARK[:count])), 0)
        self._rest = tail[len(tail) - held :] if held else b""
        parts.append(tail[: len(tail) - held])
        return b"".join(parts)

    def rest(self) -> bytes:
        """What was held back, when nothing follows any more."""
        held, self._rest = self._rest, b""
        return held
