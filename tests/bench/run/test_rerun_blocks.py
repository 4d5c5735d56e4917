"""Blocks in which the machine stalled are measured again: by its pulse alone, as often as is sensible, and kept."""

from contextlib import ExitStack
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from warmfront.bench.load.samples import Plan
from warmfront.bench.run.budget import budget_of
from warmfront.bench.run.options import BenchOptions
from warmfront.bench.run.progress import Progress
from warmfront.bench.run.session import Session, _Entry
from warmfront.results import Block

ANY: Any = SimpleNamespace()
PLAN = Plan(workers=1, requests=1, seed="product 3")


class Meter:
    """Measures blocks that are all alike but for how long the machine stalled in them."""

    def __init__(self, *stalled: float | None) -> None:
        self.stalled = list(stalled)
        self.plans: list[Plan] = []

    def block(self, _site: Any, workload: Any, variant: Any, plan: Plan, *, index: int, **_: int) -> Block:
        self.plans.append(plan)
        order = len(self.plans) - 1
        return Block(workload.name, variant.name, index, order, 0.0, 0.1, 1, 0, (1000,), stalled=self.stalled[order])


@pytest.fixture
def session() -> Session:
    return Session(BenchOptions(), ANY, Progress(StringIO()), ExitStack(), budget_of(None))


def entry(variant: str = "pooled") -> _Entry:
    return _Entry(ANY, cast(Any, SimpleNamespace(name="product")), cast(Any, SimpleNamespace(name=variant)), [])


def measured(session: Session, meter: Meter, *, variant: str = "pooled", count: int = 30) -> Block:
    own = entry(variant)
    block = session._calm_block(cast(Any, meter), own, PLAN, 3, count)
    assert own.blocks == [], "what counts is what is returned"
    return block


def test_the_first_calm_block_counts_and_the_others_are_kept(session: Session) -> None:
    meter = Meter(0.4, 0.2, 0.05)
    assert measured(session, meter).order == 2
    assert [block.order for block in session.measured.rerun] == [0, 1]
    assert {block.index for block in session.measured.rerun} == {3}


def test_what_is_asked_again_is_asked_with_values_of_its_own(session: Session) -> None:
    """Else a second order would carry the first one's idempotency key, and be no order."""
    meter = Meter(0.4, 0.4, 0.0)
    measured(session, meter)
    assert len({plan.seed for plan in meter.plans}) == 3
    assert len({(plan.workers, plan.requests) for plan in meter.plans}) == 1


@pytest.mark.parametrize("stalled", [0.0, 0.1, None])
def test_a_calm_block_and_one_of_which_nothing_is_known_are_measured_once(
    session: Session, stalled: float | None
) -> None:
    meter = Meter(stalled)
    measured(session, meter)
    assert len(meter.plans) == 1
    assert session.measured.rerun == []


def test_half_as_many_again_is_the_most_and_each_variant_has_its_own(session: Session) -> None:
    meter = Meter(*[0.9] * 20)
    assert measured(session, meter, count=6).stalled == 0.9
    assert len(session.measured.rerun) == 3
    measured(session, meter, count=6)
    assert len(session.measured.rerun) == 3, "what is left stalled is a matter for the checks"
    measured(session, meter, variant="naive", count=6)
    assert len(session.measured.rerun) == 6
