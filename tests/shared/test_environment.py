"""The environment: one loop for all invocations, what is kept is made once, and a reset leaves nothing."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from shared.environment import Environment

ROOT = Path(__file__).parents[2]


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


def test_a_loop_that_somebody_else_stops_is_an_error_that_says_so() -> None:
    environment = Environment()

    async def stops() -> None:
        loop = asyncio.get_running_loop()
        loop.stop()
        await asyncio.sleep(0.001)

    with pytest.raises(RuntimeError, match="stopped before"):
        environment.run(stops())
    environment.reset()


def test_an_invocation_takes_three_turns_of_the_loop_for_one_wait_and_not_four() -> None:
    environment = Environment()

    async def wait_once() -> None:
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        loop.call_soon(answered.set_result, None)
        await answered

    loop = environment.run(this_loop())
    turns: list[float | None] = []
    selector = loop._selector  # type: ignore[attr-defined]
    select = selector.select
    selector.select = lambda timeout: turns.append(timeout) or select(timeout)  # type: ignore[func-returns-value]
    environment.run(wait_once())
    ours = len(turns)
    loop.run_until_complete(wait_once())
    assert (ours, len(turns) - ours) == (3, 4)
    environment.reset()


def test_under_snapstart_the_loop_is_dropped_before_the_snapshot() -> None:
    script = """
import asyncio
from shared import environment
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
