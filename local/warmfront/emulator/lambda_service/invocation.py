"""One event on its way through the service, from admission to its answer."""

import asyncio
import random
import time


class Invocation:
    """What is known of one invocation; `future` carries its outcome to the caller."""

    __slots__ = (
        "arn",
        "billed_ahead_ms",
        "client_context",
        "dispatched_ns",
        "environment",
        "event",
        "future",
        "init_ms",
        "live",
        "log",
        "received_ns",
        "request_id",
        "restore_ms",
        "tail",
        "timer",
        "trace_id",
        "version",
    )

    def __init__(
        self,
        event: bytes,
        *,
        request_id: str,
        trace_id: str,
        arn: str,
        version: str,
        client_context: str | None,
        tail: bool,
    ) -> None:
        self.event = event
        self.request_id = request_id
        self.trace_id = trace_id
        self.arn = arn
        self.version = version
        self.client_context = client_context
        self.tail = tail
        self.init_ms: float | None = None
        """Set for an invocation whose environment was started for it: its cold start."""
        self.restore_ms: float | None = None
        self.billed_ahead_ms = 0.0
        """What the init or the restore before it adds to its Billed Duration."""
        self.received_ns = time.monotonic_ns()
        self.dispatched_ns = 0
        self.environment: object | None = None
        """The Environment that has it; not named here, because that module knows this one."""
        self.timer: asyncio.TimerHandle | None = None
        self.log: list[bytes] = []
        self.live = False
        """It runs so long that its log is written as it comes."""
        self.future: asyncio.Future[object] | None = None

    def abandon(self, reason: Exception) -> None:
        """Nobody will answer it any more: its caller gets the reason."""
        if self.timer is not None:
            self.timer.cancel()
        if self.future is not None and not self.future.done():
            self.future.set_exception(reason)


def new_request_id() -> str:
    """A version 4 UUID; not from os.urandom, because nothing secret hangs on it and it is made for every invocation."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
