"""Environments killed at random under load: one answer per request, no more at once than allowed, nothing left behind."""

import asyncio
import contextlib
import os
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from warmfront.emulator.lambda_service.types import InvocationResult, Throttled

from tests.emulator.harness import Harness, descriptors, function, running


@dataclass
class Tally:
    """What came back."""

    ok: int = 0
    died: int = 0
    throttled: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)
    """When each handler that came through began and ended."""

    @property
    def answers(self) -> int:
        return self.ok + self.died + self.throttled

    def overlap(self) -> int:
        """Most handlers that ran at once."""
        steps = sorted([(start, 1) for start, _ in self.spans] + [(end, -1) for _, end in self.spans])
        most = now = 0
        for _, step in steps:
            now += step
            most = max(most, now)
        return most


async def load(harness: Harness, *, requests: int, callers: int, kills: int, seed: int) -> Tally:
    tally = Tally()
    left = iter(range(requests))
    chance = random.Random(seed)
    function = harness.function("span")

    async def call() -> None:
        for _ in left:
            try:
                outcome = await harness.invoke_async("span", 0.002)
            except Throttled:
                tally.throttled += 1
                await asyncio.sleep(0.005)
                continue
            count(tally, outcome.result, outcome.payload)

    async def kill() -> None:
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0, 2 * requests / kills * 0.0008))
            if pids := [each.pid for each in function.environments.values() if each.pid is not None]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(pids), signal.SIGKILL)

    killer = asyncio.ensure_future(kill())
    await asyncio.gather(*(call() for _ in range(callers)))
    killer.cancel()
    return tally


def count(tally: Tally, result: InvocationResult, payload: Any) -> None:
    if result.status == "ok":
        tally.ok += 1
        tally.spans.append((payload["start_ns"], payload["end_ns"]))
    else:
        assert payload["errorType"] == "Runtime.ExitError", payload
        assert payload["errorMessage"].endswith("signal: killed")
        tally.died += 1


def hold(tmp_path: Path, *, requests: int, callers: int, limit: int, kills: int) -> Tally:
    with running(tmp_path / "before", function("span", "spans.handler")) as harness:
        harness.invoke("span", 0)
    before = descriptors()
    span = function("span", "spans.handler", reserved_concurrency=limit, timeout_s=30)
    with running(tmp_path, span) as harness:
        tally = harness.run(load(harness, requests=requests, callers=callers, kills=kills, seed=requests), within_s=300)
        harness.settled("span")
        target = harness.function("span")
        assert len(target.environments) <= limit, "never more environments than invocations at once"
        scaling = target._scaling
        assert (scaling.in_flight, scaling.waiting, scaling.returning) == (0, 0, 0)
        assert target.counters.invocations == tally.ok + tally.died
    assert descriptors() == before
    assert tally.answers == requests
    assert tally.overlap() <= limit
    assert tally.died > 0, "nothing was hit: the test shows nothing"
    return tally


def test_with_environments_killed_at_random_every_request_has_one_answer(tmp_path: Path) -> None:
    tally = hold(tmp_path, requests=1_500, callers=24, limit=16, kills=60)
    assert tally.throttled > 0


@pytest.mark.stress
def test_ten_thousand_requests_at_two_hundred(tmp_path: Path) -> None:
    tally = hold(tmp_path, requests=10_000, callers=200, limit=200, kills=400)
    assert tally.throttled == 0
