"""A bound on a whole run, by a clock that the test turns."""

import math

from warmfront.bench.run.budget import Budget, budget_of
from warmfront.bench.run.options import BenchOptions
from warmfront.bench.run.rates import ROUNDS_MIN, Pace, Rates


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_share_is_of_what_is_left_after_what_is_kept() -> None:
    clock = Clock()
    budget = budget_of(240.0, clock)
    clock.now_s += 30
    share = budget.share(2, keep_s=50)
    assert share.left_s == 80
    clock.now_s += 20  # the first took less than its share: the second has the rest
    assert budget.share(1, keep_s=50).left_s == 140
    clock.now_s += 200
    assert not budget.has_time_left()
    assert budget.share(1, keep_s=50).left_s == 0


def test_without_a_bound_there_is_always_time() -> None:
    assert budget_of(None).has_time_left()
    assert budget_of(None).share(3, keep_s=60).left_s == math.inf


def rates(window_s: float) -> Rates:
    pace = Pace(workers=50, window_s=window_s, seed=1, timeout_s=30.0)
    return Rates(None, None, None, pace, lambda *_: None)  # type: ignore[arg-type]  # nothing is offered here


def test_equal_load_takes_as_many_rounds_as_there_is_time_for_and_never_one_alone() -> None:
    own = rates(BenchOptions(sweep=True, window_s=3.0).equal_window_s)
    enough_s = own.equal_load_s(2, 6)
    clock = Clock()
    assert own.rounds_within(Budget(math.inf, clock), 2, 6) == 6
    assert own.rounds_within(budget_of(enough_s, clock), 2, 6) == 6
    assert own.rounds_within(budget_of(enough_s - 1, clock), 2, 6) == 5
    assert own.rounds_within(budget_of(1.0, clock), 2, 6) == ROUNDS_MIN
    assert own.rounds_within(budget_of(1.0, clock), 2, 1) == 1
