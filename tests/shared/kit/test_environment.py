"""The environment: one loop for all invocations, what is kept is made once, and a reset leaves nothing."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.kit.environment import Environment

ROOT = Path(__file__).parents[3]


async def this_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


class Thing:
    closed: list[str]

    def __init__(self, name: str, closed: list[str]) -> None:
        self.name, self.closed = name, closed

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed.append(self.name)


def test_every_invocation_runs_on_the_same_loop() -> None:
    environment = Environment()
    assert environment.run(this_loop()) is environment.run(this_loop())
    environment.reset()


def test_what_is_kept_is_made_by_the_first_who_asks() -> None:
    environment = Environment()
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    assert environment.keep(make) is environment.keep(make)
    assert len(made) == 1


def test_a_reset_closes_what_was_kept_newest_first_and_the_loop() -> None:
    environment = Environment()
    closed: list[str] = []
    makers = [lambda name=name: Thing(name, closed) for name in ("pool", "cache")]
    loop = environment.run(this_loop())
    first = [environment.keep(make) for make in makers]
    environment.reset()
    assert closed == ["cache", "pool"]
    assert loop.is_closed()
    assert [environment.keep(make) for make in makers] != first
    assert environment.run(this_loop()) is not loop
    environment.reset()


def test_a_reset_of_an_environment_that_never_ran_is_nothing() -> None:
    Environment().reset()


def test_an_error_in_one_invocation_leaves_the_loop_to_the_next() -> None:
    environment = Environment()

    async def fail() -> None:
        raise ValueError("this invocation's own trouble")

    with pytest.raises(ValueError, match="own trouble"):
        environment.run(fail())
    assert environment.run(this_loop()).is_running() is False
    environment.reset()


def test_an_invocation_that_never_waits_has_its_result_too() -> None:
    environment = Environment()

    async def at_once() -> int:
        return 7

    assert [environment.run(at_once()) for _ in range(3)] == [7, 7, 7]
    environment.reset()


def test_an_exit_in_an_invocation_ends_the_process_and_not_only_the_task() -> None:
    environment = Environment()

    async def leave() -> None:
        await asyncio.sleep(0)
        sys.exit(3)

    with pytest.raises(SystemExit) as caught:
        environment.run(leave())
    assert caught.value.code == 3
    assert environment.run(this_loop()).is_running() is False
    environment.reset()


def test_what_an_invocation_leaves_running_goes_on_in_the_next() -> None:
    environment = Environment()
    kept: list[asyncio.Task[None]] = []
    went_on: list[str] = []

    async def later() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        went_on.append("later")

    async def leave_it() -> None:
        kept.append(asyncio.create_task(later()))

    async def wait_for_it() -> None:
        await kept[0]

    environment.run(leave_it())
    assert went_on == []
    environment.run(wait_for_it())
    assert went_on == ["later"]
    environment.reset()


def test_an_invocation_that_was_left_behind_does_not_end_the_next_one() -> None:
    environment = Environment()
    held: list[asyncio.Future[None]] = []

    async def hangs() -> None:
        loop = asyncio.get_running_loop()
        held.append(loop.create_future())
        loop.call_soon(sys.exit, 3)  # as a signal handler would
        await held[0]

    async def outlives_it() -> str:
        held[0].set_result(None)
        for _ in range(5):
            await asyncio.sleep(0)
        return "whole"

    with pytest.raises(SystemExit):
        environment.run(hangs())
    assert environment.run(outlives_it()) == "whole"
    environment.reset()


def test_a_connection_that_an_invocation_drops_is_closed_though_the_next_one_waits_for_nothing() -> None:
    environment = Environment()
    mine, theirs = socket.socketpair()

    async def connect() -> asyncio.Transport:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=mine)
        return transport

    async def drop() -> None:
        transport.abort()

    with theirs:
        theirs.setblocking(False)
        transport = environment.run(connect())
        environment.run(drop())
        environment.run(this_loop())
        assert theirs.recv(1) == b""  # else BlockingIOError: still open
    environment.reset()


def test_an_invocation_within_an_invocation_is_refused() -> None:
    environment = Environment()

    async def within() -> None:
        inner = this_loop()
        try:
            environment.run(inner)
        finally:
            inner.close()

    with pytest.raises(RuntimeError, match="already running"):
        environment.run(within())
    assert environment.run(this_loop()).is_running() is False
    environment.reset()


def test_the_current_task_is_the_invocations_own_from_its_first_step() -> None:
    environment = Environment()

    async def limited() -> None:
        task = asyncio.current_task()
        async with asyncio.timeout(0):  # needs a task, and ends it
            assert asyncio.current_task() is task is not None
            await asyncio.sleep(1)

    with pytest.raises(TimeoutError):
        environment.run(limited())
    environment.reset()


def test_the_loop_is_found_from_outside_an_invocation() -> None:
    """As Powertools' batch processor looks for it."""
    environment = Environment()
    loop = environment.run(this_loop())
    assert asyncio.get_event_loop() is loop
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    environment.reset()


def test_an_asynchronous_generator_left_half_way_is_closed_on_the_loop() -> None:
    environment = Environment()
    ended: list[object] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            ended.append(asyncio.get_running_loop())

    async def leaves_it() -> None:
        async for _ in numbers():
            return

    async def turns() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    loop = environment.run(this_loop())
    environment.run(leaves_it())
    environment.run(turns())
    assert ended == [loop]
    environment.reset()


def test_under_snapstart_the_loop_is_dropped_before_the_snapshot() -> None:
    script = """
import asyncio
from shared.kit import environment
from snapshot_restore_py import get_before_snapshot
async def loop(): return asyncio.get_running_loop()
before = environment.run(loop())
for hook, args, kwargs in get_before_snapshot(): hook(*args, **kwargs)
assert before.is_closed()
assert environment.run(loop()) is not before
environment.reset()
"""
    environ = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "error", "-c", script], env=environ, check=True)
