"""Background tasks that end with their owner."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class TaskSet:
    """Keeps tasks alive while they run: asyncio itself holds them weakly."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn[T](self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task on the running loop."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Ask every task to end."""
        for task in list(self._tasks):
            task.cancel()

    async def wait(self) -> None:
        """Wait until every task that runs now has ended, however it ends."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
