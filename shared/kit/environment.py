"""The execution environment's one event loop, and the resources that are kept between invocations.

Clients belong to the loop they were made on: a loop per invocation (`asyncio.run`) leaves every cached connection dead
or in "another operation is in progress". So there is one loop, made by the first invocation that needs it. It is
asyncio's: uvloop costs another 85 ms of import and measured slower with one round trip at a time; a loop of our own that
took fewer turns saved 25 of the 437 us of CPU that an environment needs for a request, for asyncio's private attributes.
"""

import asyncio
import functools
import gc
import os
from collections.abc import Callable, Coroutine
from typing import Any


class Environment:
    """Not thread-safe: an environment runs one invocation at a time. `reset` ends everything, as a shutdown would."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._kept: dict[Callable[[], Any], Any] = {}

    def run[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, on the environment's loop."""
        loop = self._loop
        if loop is None:
            # Runner.run would also swap signal handlers and copy the context, 20 us each time; its loop is enough.
            self._runner = asyncio.Runner()
            loop = self._loop = self._runner.get_loop()
            asyncio.set_event_loop(loop)  # for libraries that ask for it from outside
            # What init made stays for good: the collector need not walk it again with every full collection.
            gc.freeze()
        return loop.run_until_complete(coroutine)

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
reset = ENVIRONMENT.reset


def resource[T](make: Callable[[], T]) -> Callable[[], T]:
    """Decorator: what the function returns is made by its first call and kept for the life of the environment.

    It is made on the environment's loop if the call is; `reset` awaits its `aclose()`, if it has one, newest first.
    """

    @functools.wraps(make)
    def get() -> T:
        return ENVIRONMENT.keep(make)

    return get


if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    # One snapshot becomes many environments: they must not share sockets, nor a loop's file descriptors.
    # docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
    from snapshot_restore_py import register_before_snapshot

    register_before_snapshot(reset)
