"""The execution environment's one event loop and what it keeps between invocations. Knows nothing of what is kept.

Clients belong to the loop they were made on: a loop per invocation (`asyncio.run`) leaves every cached connection dead
or in "another operation is in progress". So there is one loop, made by the first invocation that needs it, and it is
asyncio's own: with one round trip at a time uvloop measured slower per call and costs another 85 ms of import.
"""

import asyncio
import gc
import os
import sys
from asyncio import selector_events
from collections.abc import Callable, Coroutine
from threading import get_ident
from time import monotonic
from typing import Any, cast

# A read's buffer: asyncio's 256 kB are mapped, cut to size and unmapped for every answer of the database, three system
# calls and a page fault a query; a buffer below malloc's own threshold for that (128 kB) is not.
READ_BUFFER_BYTES = 64 * 1024

ROUNDS = 2  # who hears from a socket, and whom that wakes
TIMERS_MAX = 50  # asyncio's own turn clears away those that were called off
WAIT_MAX_S = 3600.0


class InvocationLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, with a shorter way through one coroutine than `run_until_complete`.

    That one turns the loop once before the coroutine begins and once after it has ended, and arms itself anew each time:
    of the CPU of a request for one row, one part in twenty. What begins with an underscore here is for subclasses, as
    this one is, and no public interface: tests/shared/kit/test_environment.py holds us to it.
    """

    def serve[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result. It begins at once, after what the one before left to be done, as a socket to be closed."""
        self._check_running()  # type: ignore[attr-defined]
        self._thread_id = get_ident()
        asyncio._set_running_loop(self)
        try:
            if self._ready:  # type: ignore[attr-defined]
                self._run_once()  # type: ignore[attr-defined]
            task = asyncio.Task(coroutine, loop=self, eager_start=True)
            while not task.done():
                self._turn()
        finally:
            self._thread_id = None  # type: ignore[assignment]
            self._stopping = False  # the loop ends with its invocation, and whoever stops it before is not heard
            asyncio._set_running_loop(None)
        return task.result()

    def _turn(self) -> None:
        """`_run_once`, shorter where a wait for a socket is all there is: whom the answer wakes runs in the same turn.

        Any other turn is asyncio's own: something is ready already, a timer is due or called off, there are many timers.
        """
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        wait_s = None
        if timers:
            first = timers[0]
            wait_s = 0.0 if first._cancelled or len(timers) > TIMERS_MAX else first._when - monotonic()  # type: ignore[attr-defined]
        if self._ready or self._debug or (wait_s is not None and not 0.0 < wait_s < WAIT_MAX_S):  # type: ignore[attr-defined]
            self._run_once()  # type: ignore[attr-defined]
            return
        events = self._selector.select(wait_s)  # type: ignore[attr-defined]
        self._process_events(events)  # type: ignore[attr-defined]
        for _ in range(ROUNDS):
            for _ in range(len(self._ready)):  # type: ignore[attr-defined]
                handle = self._ready.popleft()  # type: ignore[attr-defined]
                if not handle._cancelled:
                    handle._run()


class Environment:
    """Not thread-safe: an environment runs one invocation at a time. `reset` ends everything, as a shutdown would."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._loop: InvocationLoop | None = None
        self._kept: dict[Callable[[], Any], Any] = {}

    def run[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, on the environment's loop."""
        loop = self._loop
        if loop is None:
            # Runner.run would also swap signal handlers and copy the context, 20 us a time; its loop is enough.
            self._runner = asyncio.Runner(loop_factory=InvocationLoop)
            loop = self._loop = cast(InvocationLoop, self._runner.get_loop())
            asyncio.set_event_loop(loop)  # for libraries that ask for it from outside
            sys.set_asyncgen_hooks(loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook)  # type: ignore[attr-defined]
            # What init made stays for good: the collector need not walk it again with every full collection.
            gc.freeze()
            selector_events._SelectorTransport.max_size = READ_BUFFER_BYTES  # type: ignore[attr-defined]
        return loop.serve(coroutine)

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
        asyncio.set_event_loop(None)


ENVIRONMENT = Environment()
run = ENVIRONMENT.run
keep = ENVIRONMENT.keep
reset = ENVIRONMENT.reset

if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    # One snapshot becomes many environments: they must not share sockets, nor a loop's file descriptors.
    # docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
    from snapshot_restore_py import register_before_snapshot

    register_before_snapshot(reset)
