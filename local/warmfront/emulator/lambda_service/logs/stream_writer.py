"""Writes to a stream in a thread, so that nobody waits for a terminal that does not read."""

import threading
from collections import deque
from typing import IO

QUEUE_BYTES_MAX = 4 << 20
"""So much waits for a stream that is not read; what comes then is dropped and counted."""
CLOSE_S = 1.0
"""How long the end waits for a stream that is not read."""


class StreamWriter:
    """A bounded queue and the thread that empties it. The thread starts with the first chunk."""

    def __init__(self, stream: IO[bytes], *, queue_bytes_max: int = QUEUE_BYTES_MAX) -> None:
        self._stream = stream
        self._queue_bytes_max = queue_bytes_max
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self.dropped_bytes = 0
        """Since the last line that said so."""
        self._closing = False
        self._broken = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, chunk: bytes) -> None:
        """Take one chunk; never waits for the stream."""
        with self._changed:
            if self._broken:
                return
            if self._queued_bytes + len(chunk) > self._queue_bytes_max:
                self.dropped_bytes += len(chunk)
                return
            self._queue.append(chunk)
            self._queued_bytes += len(chunk)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Wait a moment until everything is written."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (chunk := self._next()) is not None:
            try:
                left = memoryview(chunk)
                while left:  # an unbuffered stream may take a part
                    left = left[self._stream.write(left) :]
                self._stream.flush()
            except (BrokenPipeError, ValueError):  # whoever read it has gone, or the stream is closed
                with self._changed:
                    self._broken = True
                    self._queue.clear()
                return
            except OSError:  # such as a full disk, which may have room again
                with self._changed:
                    self.dropped_bytes += len(chunk)

    def _next(self) -> bytes | None:
        """All that waits, after a line about what was dropped meanwhile; None at the end."""
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            chunk = b"".join(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
            dropped, self.dropped_bytes = self.dropped_bytes, 0
        if dropped:
            chunk += b"warmfront: %d bytes of logs were dropped, because nobody read them here\n" % dropped
        return chunk
