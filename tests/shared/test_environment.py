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
