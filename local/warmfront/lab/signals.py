"""SIGTERM and SIGINT as a cancellation, so that whoever broke something mends it. Knows nothing of what is ended."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def cancelled_by_signals() -> Iterator[list[int]]:
    """The task inside is cancelled by the first of them; what came is in the list. Further ones do not disturb its end."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    came: list[int] = []

    def cancel(number: int) -> None:
        if not came:
            task.cancel()
        came.append(number)

    for each in SIGNALS:
        loop.add_signal_handler(each, cancel, each)
    try:
        yield came
    finally:
        for each in SIGNALS:
            loop.remove_signal_handler(each)
