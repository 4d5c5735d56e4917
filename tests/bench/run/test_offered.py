"""Offered rates without a process: a simulated server of known capacity has the knee it was given."""

import heapq
import math
import random
from array import array
from itertools import pairwise

import pytest
from warmfront.bench.load.samples import Recording
from warmfront.bench.run.offered import Climb, Offered, climb, model_of, predictions
from warmfront.bench.sizing.queueing import SizingError

SERVERS, SERVICE_S = 2, 0.010
CAPACITY = SERVERS / SERVICE_S
WINDOW_S = 20.0


def simulated(rate: float, *, window_s: float = WINDOW_S, seed: int = 1) -> Offered:
    """Poisson arrivals at two servers of exponential service."""
    draw = random.Random(f"{seed} {rate}")
    free_at, at, rows = [0.0] * SERVERS, 0.0, []
    while (at := at + draw.expovariate(rate)) < window_s:
        start = max(at, free_at[0])
        end = start + draw.expovariate(1 / SERVICE_S)
        heapq.heapreplace(free_at, end)
        rows.append((at, start, end))
    ns = [array("q", (int(1e9 * row[column]) for row in rows)) for column in range(3)]
    empty = [array("q", [0] * len(rows)) for _ in range(4)]
    return Offered(Recording.from_columns([*ns, *empty], 0, array("q")), window_s, {"postgres": 0.001 * len(rows)})


def test_the_knee_of_a_known_server_is_found() -> None:
    found = climb(simulated, 0.8 * CAPACITY)
    assert 0.85 * CAPACITY < found.knee_rate < 1.1 * CAPACITY
    rates = [own.rate for own in found.stretches]
    assert rates == sorted(rates)


def test_a_guess_that_is_far_too_high_is_halved_until_a_rate_is_held() -> None:
    found = climb(simulated, 8 * CAPACITY, steps=(1.0,))
    assert 0.5 * CAPACITY < found.knee_rate < 1.1 * CAPACITY


def test_a_rate_that_failed_once_is_tried_again() -> None:
    asked: list[float] = []

    def measure(rate: float) -> Offered:
        asked.append(rate)
        return simulated(3 * CAPACITY if len(asked) == 1 else rate)

    assert climb(measure, CAPACITY, steps=(0.5, 0.6), refinements=0).knee_rate == 0.6 * CAPACITY
    assert asked[0] == asked[1]


def limited(stretches: int) -> Climb:
    """With time for so many stretches."""
    left = stretches

    def measure(rate: float) -> Offered:
        nonlocal left
        left -= 1
        return simulated(rate)

    return climb(measure, CAPACITY, has_time_left=lambda: left > 0)


def test_a_climb_that_runs_out_of_time_ends_with_the_highest_rate_it_has_seen_held() -> None:
    found = limited(3)
    assert len(found.stretches) == 3
    assert found.out_of_time
    assert found.knee_rate == 0.5 * CAPACITY
    assert not limited(100).out_of_time
    assert limited(100).knee_rate == climb(simulated, CAPACITY).knee_rate


def test_a_climb_without_time_goes_on_until_some_rate_is_held() -> None:
    found = climb(simulated, 8 * CAPACITY, steps=(1.0,), has_time_left=lambda: False)
    assert found.knee_rate == pytest.approx(CAPACITY, rel=0.5)
    assert found.out_of_time


def test_concurrency_is_rate_times_time_in_service() -> None:
    found = simulated(0.5 * CAPACITY)
    mean, peak = found.concurrency
    assert mean == pytest.approx(0.5 * SERVERS, rel=0.1)
    assert peak == SERVERS
    assert found.point().environments == SERVERS


def test_what_is_answered_after_the_window_was_not_answered_in_it() -> None:
    found = simulated(2 * CAPACITY)
    assert not found.held
    assert found.point().throughput == pytest.approx(CAPACITY, rel=0.1)


def test_lateness_is_beside_the_latency_that_holds_it() -> None:
    assert simulated(0.5 * CAPACITY).late_share == 0.0
    ns = [array("q", [0] * 100), array("q", [0] * 100), array("q", [20_000_000] * 100)]
    empty = [array("q", [0] * 100) for _ in range(4)]
    late = array("q", [0] * 98 + [1_000_000] * 2)
    assert Offered(Recording.from_columns([*ns, *empty], 0, late), 1.0).late_share == pytest.approx(0.05)


def test_the_predicted_curve_lies_on_the_simulated_points() -> None:
    found = climb(simulated, CAPACITY, steps=(0.15, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2))
    by_name = {own.formula: own for own in predictions(found, SERVERS)}
    assert set(by_name) == {"M/M/c", "G/G/c", "USL"}
    assert by_name["M/M/c"].error is not None
    assert by_name["M/M/c"].error < 0.25
    assert all(math.isfinite(value) for own in by_name.values() for value in own.values)
    assert all(low <= high * 1.001 for low, high in pairwise(by_name["M/M/c"].values))
    assert max(by_name["USL"].values) == pytest.approx(CAPACITY, rel=0.15)


def test_nothing_can_be_modelled_from_a_handful_of_requests() -> None:
    found = climb(lambda rate: simulated(rate, window_s=0.01), CAPACITY, steps=(0.2,), refinements=0)
    with pytest.raises(SizingError, match="longer --window"):
        model_of(found, SERVERS)
    assert predictions(found, SERVERS) == ()
