"""The execution environment's one event loop and what it keeps between invocations. Knows nothing of what is kept.

Clients belong to the loop they were made on: a loop per invocation (`asyncio.run`) leaves every cached connection dead
or in "another operation is in progress". So there is one loop, made by the first invocation that needs it, and it is
asyncio's own: with one round trip at a time uvloop measured slower per call and costs another 85 ms of import.
"""

import asyncio
import gc
import os
from asyncio import selector_events
from collections.abc import Callable, Coroutine
from typing import Any

# A read's buffer: asyncio's 256 kB are mapped, cut to size and unmapped for every answer of the database, three system
# calls and a page fault a query; a buffer below malloc's own threshold for that (128 kB) is not.
READ_BUFFER_BYTES = 64 * 1024


class _Invocation[T]:
    """One coroutine on its way through the loop."""

    __slots__ = ("_coroutine", "_loop", "_over", "_task")

    def __init__(self, coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._over = False
        self._task: asyncio.Task[T] | None = None

    def run(self) -> T:
        begin = self._loop.call_soon(self._begin)
        try:
            self._loop.run_forever()
        finally:
            begin.cancel()
            self._over = True
        if self._task is None or not self._task.done():
            raise RuntimeError("The event loop was stopped before the invocation had ended.")
        return self._task.result()

    def _begin(self) -> None:
        self._task = asyncio.Task(self._to_the_end(), loop=self._loop, eager_start=True)

    async def _to_the_end(self) -> T:
        try:
            return await self._coroutine
        finally:
            if not self._over:  # else it was left behind, by an exception from elsewhere: the loop is another's now
                self._loop.stop()


class Environment:
    """Not thread-safe: an environment runs one invocation at a time. `reset` ends everything, as a shutdown would."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._kept: dict[Callable[[], Any], Any] = {}

    def run[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, on the environment's loop.

        What loop.run_until_complete does, in three turns of the loop where that takes four: the task begins in the first
        turn, and its last step ends the loop.
        """
        loop = self._loop
        if loop is None:
            # Runner.run would also swap signal handlers and copy the context, 20 us a time; its loop is enough.
            self._runner = asyncio.Runner()
            loop = self._loop = self._runner.get_loop()
            # What init made stays for good: the collector need not walk it again with every full collection.
            gc.freeze()
            selector_events._SelectorTransport.max_size = READ_BUFFER_BYTES  # type: ignore[attr-defined]
        return _Invocation(coroutine, loop).run()

    def keep[T](self, make: Callable[[], T]) -> T:
        """What `make` made the first time it was asked for here."""
        try:
            kept: T = self._kept[make]
        except KeyError:
            kept = self._kept[make] = make()
        return kept

    def reset(self) -> None:
        """Closes what was kept, newest first, then the loop. The next invocation starts from nothing."""
        kept, self._kept = self._kept, {}
        runner, self._runner, self._loop = self._runner, None, None
        if runner is None:
            return
        with runner:
            for thing in reversed(kept.values()):
                if (aclose := getattr(thing, "aclose", None)) is not None:
                    runner.run(aclose())


ENVIRONMENT = Environment()
run = ENVIRONMENT.run
keep = ENVIRONMENT.keep
reset = ENVIRONMENT.reset

if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    # One snapshot becomes many environments: they must not share sockets, nor a loop's file descriptors.
    # docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
    from snapshot_restore_py import register_before_snapshot

    register_before_snapshot(reset)
