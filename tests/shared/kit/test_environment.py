"""The environment: one loop for all invocations, what is kept is made once, and a reset leaves nothing."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_a_loop_that_somebody_stops_goes_on_until_the_invocation_has_ended() -> None:
    environment = Environment()
    closed: list[str] = []

    async def stops() -> str:
        environment.keep(lambda: Thing("pool", closed))
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.001)
        return "whole"

    assert environment.run(stops()) == "whole"
    environment.reset()
    assert closed == ["pool"]


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


def test_an_invocation_takes_two_turns_of_the_loop_for_one_wait_and_not_four() -> None:
    environment = Environment()

    async def wait_once() -> None:
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        loop.call_soon(answered.set_result, None)
        await answered

    loop = environment.run(this_loop())
    turns = counted(loop)
    environment.run(wait_once())
    ours = len(turns)
    loop.run_until_complete(wait_once())
    assert (ours, len(turns) - ours) == (2, 4)
    environment.reset()


def counted(loop: asyncio.AbstractEventLoop) -> list[float | None]:
    """Grows by the time-out of each look at the sockets."""
    turns: list[float | None] = []
    selector = loop._selector  # type: ignore[attr-defined]
    select = selector.select
    selector.select = lambda timeout: turns.append(timeout) or select(timeout)  # type: ignore[func-returns-value]
    return turns


def test_an_invocation_that_waits_for_a_socket_looks_at_the_sockets_once() -> None:
    environment = Environment()
    mine, theirs = socket.socketpair()

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(sock=mine)

    async def ask() -> bytes:
        theirs.send(b"an answer")
        return await reader.read(100)

    async def hang_up() -> None:
        writer.close()
        await writer.wait_closed()

    with theirs:
        reader, writer = environment.run(connect())
        turns = counted(environment.run(this_loop()))
        assert [environment.run(ask()) for _ in range(3)] == [b"an answer"] * 3
        assert turns == [None] * 3
        environment.run(hang_up())
    environment.reset()


def test_a_timer_ends_a_wait_for_a_socket_and_one_that_was_called_off_does_not() -> None:
    environment = Environment()
    mine, theirs = socket.socketpair()

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(sock=mine)

    async def ask(within_s: float) -> str:
        asyncio.get_running_loop().call_later(0.001, theirs.send, b"too soon").cancel()
        try:
            async with asyncio.timeout(within_s):
                return (await reader.read(100)).decode()
        except TimeoutError:
            return "timed out"

    async def hang_up() -> None:
        writer.close()
        await writer.wait_closed()

    with theirs:
        reader, writer = environment.run(connect())
        assert environment.run(ask(0.02)) == "timed out"
        theirs.send(b"in time")
        assert environment.run(ask(60)) == "in time"
        environment.run(hang_up())
    environment.reset()


def test_a_task_that_never_waits_keeps_nobody_from_a_socket() -> None:
    environment = Environment()
    mine, theirs = socket.socketpair()

    async def busy() -> None:
        while True:  # noqa: ASYNC110 - to be busy is what it is for
            await asyncio.sleep(0)

    async def served() -> bytes:
        reader, writer = await asyncio.open_connection(sock=mine)
        spinning = asyncio.create_task(busy())
        asyncio.get_running_loop().call_later(0.001, theirs.send, b"heard")
        answer = await reader.read(100)
        spinning.cancel()
        writer.close()
        return answer

    with theirs:
        assert environment.run(served()) == b"heard"
    environment.reset()


def test_timers_that_were_called_off_do_not_pile_up() -> None:
    environment = Environment()
    mine, theirs = socket.socketpair()

    async def echo() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(sock=mine)

    async def ask() -> None:
        async with asyncio.timeout(1200):
            theirs.send(b"!")
            await reader.read(1)

    async def hang_up() -> None:
        writer.close()
        await writer.wait_closed()

    loop = environment.run(this_loop())
    loop.call_later(600, print)  # stays, and is the first to come
    with theirs:
        reader, writer = environment.run(echo())
        for _ in range(300):
            environment.run(ask())
        called_off = [each for each in loop._scheduled if each.cancelled()]  # type: ignore[attr-defined]
        assert len(called_off) <= 110
        environment.run(hang_up())
    environment.reset()


STEPS = st.lists(st.sampled_from(("yield", "sleep", "ask", "wake", "wait", "fail")), max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=5))
def test_whatever_tasks_do_ends_as_on_the_loop_that_asyncio_has(programs: list[list[str]]) -> None:
    environment = Environment()
    with asyncio.Runner() as runner:
        assert environment.run(outcomes_of(programs)) == runner.run(outcomes_of(programs))
    environment.reset()


async def outcomes_of(programs: list[list[str]]) -> list[object]:
    """What became of tasks that yield, sleep, ask over a socket, wake each other, wait to be woken for a moment, fail."""
    mine, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=mine)
    _, echo_writer = await asyncio.open_connection(sock=theirs)
    woken = asyncio.Event()
    turn = asyncio.Lock()

    async def run(program: list[str]) -> list[str]:
        done = []
        for step in program:
            if step == "yield":
                await asyncio.sleep(0)
            elif step == "sleep":
                await asyncio.sleep(0.0005)
            elif step == "ask":
                async with turn:
                    echo_writer.write(b"?")
                    done.append((await reader.readexactly(1)).decode())
            elif step == "wake":
                woken.set()
            elif step == "wait" and any("wake" in each for each in programs if "fail" not in each):
                await woken.wait() if program.count("wake") == 0 else None
            elif step == "fail":
                raise ValueError("its own trouble")
            done.append(step)
        return done

    ended = await asyncio.gather(*(run(each) for each in programs if "wait" not in each), return_exceptions=True)
    woken.set()
    ended += await asyncio.gather(*(run(each) for each in programs if "wait" in each), return_exceptions=True)
    for each in (writer, echo_writer):
        each.close()
        await each.wait_closed()
    return [str(each) if isinstance(each, Exception) else each for each in ended]


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
