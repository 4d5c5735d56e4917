"""A fleet of real processes that votes in a real Redis: who reaches the dependency when its circuit is about to close.

Each process is an environment with several callers at once; the dependency is a socket that counts who comes.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from warmfront.backing.redis import Redis

from tests.kit.fleet_process import BREAKER, OPEN_S, VOTES

ROOT = Path(__file__).parents[2]
PROCESSES, CALLERS = 5, 10
PATIENCE_S = 30.0
LEASE_S = BREAKER.call_timeout_s + 2 * VOTES.budget_s


@dataclass
class Dependency:
    """Answers `down`, or holds everybody who comes until it is let go on."""

    down: bool = True
    port: int = 0
    reached: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.down:
            self.reached += 1
            await self.let_go.wait()
        writer.write(b"down\n" if self.down else b"up\n")
        writer.close()


@asynccontextmanager
async def dependency() -> AsyncIterator[Dependency]:
    made = Dependency()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.let_go.set()
        server.close()


class Environment:
    """One process of the fleet, told over its standard input what to do: it answers with a line of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, url: str, port: int, *, name: str, shared: bool) -> "Environment":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.kit.fleet_process", url, str(port), name, str(int(shared))),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def ask(self, callers: int) -> list[str]:
        """So many callers at once; what became of each: up, down or rejected."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{callers}\n".encode())
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
        assert line, "the environment has ended"
        return list(json.loads(line))

    def kill(self) -> None:
        if self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)

    async def ended(self) -> None:
        self.kill()
        await self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


@asynccontextmanager
async def opened_fleet(url: str, target: Dependency, *, shared: bool) -> AsyncIterator[list[Environment]]:
    """Every environment has failed often enough to open its circuit, and their interval is just over."""
    fleet = await asyncio.gather(
        *(Environment.start(url, target.port, name=f"e{n}", shared=shared) for n in range(PROCESSES))
    )
    try:
        await asyncio.gather(*(environment.ask(BREAKER.calls_min) for environment in fleet))
        target.down = False
        await asyncio.sleep(OPEN_S * 1.2)
        yield list(fleet)
    finally:
        await asyncio.gather(*(environment.ended() for environment in fleet))


@pytest.fixture(scope="module")
def votes() -> Iterator[Redis]:
    with Redis.start({}) as server:
        yield server


async def fifty_at_half_open(url: str, *, shared: bool) -> tuple[int, list[str]]:
    """How many reached the dependency before any of them had an answer; and what all of them were told."""
    async with dependency() as target, opened_fleet(url, target, shared=shared) as fleet:
        asked = [asyncio.create_task(environment.ask(CALLERS)) for environment in fleet]
        # Whoever is rejected answers at once; a process with a probe waits for the dependency.
        waiting = 1 if shared else PROCESSES
        async with asyncio.timeout(PATIENCE_S):
            while sum(each.done() for each in asked) < PROCESSES - waiting or target.reached < waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        reached = target.reached
        target.let_go.set()
        return reached, [told for each in asked for told in await each]


@pytest.mark.slow
def test_of_fifty_callers_in_five_processes_at_half_open_one_reaches_the_dependency(votes: Redis) -> None:
    reached, told = asyncio.run(fifty_at_half_open(votes.url(), shared=True))
    assert reached == 1
    assert sorted(told) == ["rejected"] * (PROCESSES * CALLERS - 1) + ["up"]


@pytest.mark.stress
def test_without_votes_one_of_each_process_is_seen_to_reach_it(votes: Redis) -> None:
    """The control: an environment's own breaker knows of no other."""
    reached, told = asyncio.run(fifty_at_half_open(votes.url(1), shared=False))
    assert (reached, told.count("up")) == (PROCESSES, PROCESSES)


@pytest.mark.stress
def test_the_fleet_recovers_within_lease_and_interval_from_a_probe_that_was_killed(votes: Redis) -> None:
    async def killed_and_recovered() -> tuple[int, float]:
        async with dependency() as target, opened_fleet(votes.url(2), target, shared=True) as fleet:
            probing = asyncio.create_task(fleet[0].ask(1))
            async with asyncio.timeout(PATIENCE_S):
                while not target.reached:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            fleet[0].kill()
            killed_s = time.monotonic()
            probing.cancel()
            rejections, others = 0, fleet[1:]
            target.let_go.set()
            while (told := [each for one in await asyncio.gather(*(e.ask(1) for e in others)) for each in one]) and (
                "up" not in told
            ):
                rejections += told.count("rejected")
                await asyncio.sleep(0.05)
            return rejections, time.monotonic() - killed_s

    rejections, recovered_s = asyncio.run(killed_and_recovered())
    assert rejections > 0, "nobody was kept out: the killed process held no lease"
    # Its own clock and a busy machine's: half a second beyond what the protocol allows.
    assert recovered_s <= LEASE_S + OPEN_S + 0.5
