"""Environments are started as many as are wanted; a block is judged by the machine's pulse, and by nothing else."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from warmfront.bench.load.samples import Plan
from warmfront.bench.run.blocks import RAMP, Meter, Site

ANY: Any = SimpleNamespace(function="F")


class Emulator:
    """What of a control surface is asked. `stays`: environments outlive their first requests."""

    def __init__(self, *, stays: bool, starts: bool = True) -> None:
        self.stays, self.starts = stays, starts
        self.alive: list[int] = []
        self.asked: list[int] = []

    def state(self) -> Any:
        return SimpleNamespace(functions={"F": SimpleNamespace(pids=tuple(self.alive))})

    def start(self, _function: str, count: int) -> dict[str, int]:
        self.asked.append(count)
        if self.starts and self.stays:
            self.alive += range(count)
        return {"started": count if self.starts else 0}


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    made: list[Plan] = []
    monkeypatch.setattr(Meter, "untimed", lambda _self, _site, _workload, _variant, plan: made.append(plan))
    return made


def grow(emulator: Emulator, count: int) -> None:
    site = Site(ANY, ANY, cast(Any, emulator))
    Meter(ANY, 0.0).environments(site, ANY, ANY, count, Plan(workers=1, requests=1, seed="ramp"))


def test_every_environment_is_started_and_asked_with_its_like(plans: list[Plan]) -> None:
    emulator = Emulator(stays=True)
    emulator.alive = [1]
    grow(emulator, 2 * RAMP + 3)
    assert len(emulator.alive) == 2 * RAMP + 3
    assert emulator.asked == [RAMP, RAMP, 2] == [plan.workers for plan in plans]
    grow(emulator, 3)
    assert len(emulator.asked) == 3, "there were enough"


def test_environments_that_end_with_their_first_request_are_not_started_for_ever(plans: list[Plan]) -> None:
    emulator = Emulator(stays=False)
    grow(emulator, 50)
    assert emulator.alive == []
    assert 50 // RAMP <= len(plans) <= 50


def test_a_function_that_does_not_start_is_not_asked(plans: list[Plan]) -> None:
    emulator = Emulator(stays=True, starts=False)
    grow(emulator, 50)
    assert (emulator.asked, plans) == ([RAMP], [])
