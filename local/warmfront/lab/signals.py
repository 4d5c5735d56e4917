"""Turns SIGTERM and SIGINT into a cancellation, so that faults are cleared before the process ends."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def cancelled_by_signals() -> Iterator[list[int]]:
    """Cancel the current task at the first signal. Further signals are ignored while it ends.

    Yields:
        A list of the signals that arrived.
    """
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
