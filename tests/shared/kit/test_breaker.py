"""The breaker's rules one by one; the Hypothesis machine in tests/machines tries their combinations."""

import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from shared.kit.breaker import EVENTS_MAX, BreakerSettings, CircuitBreaker, Permit
from shared.kit.circuit import (
    CircuitOpen,
    Dropped,
    Event,
    Mode,
    Outcome,
    Rejected,
    SettledTwice,
    Snapshot,
    State,
    Transition,
)
from shared.kit.clock import FreezeSafeClock

SETTINGS = BreakerSettings(slow_s=1.0, call_timeout_s=2.0)


class FakeClock:
    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> CircuitBreaker:
    return build(clock)


def build(
    clock: Callable[[], float],
    settings: BreakerSettings = SETTINGS,
    *,
    jitter: float = 1.0,
    on_event: Callable[[Event], None] | None = None,
) -> CircuitBreaker:
    return CircuitBreaker("quotes", settings, clock=clock, rng=lambda: jitter, on_event=on_event)


def settle_all(breaker: CircuitBreaker, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        breaker.acquire().settle(outcome)


def open_it(breaker: CircuitBreaker) -> None:
    settle_all(breaker, *[Outcome.FAILURE] * breaker.settings.calls_min)
    assert state(breaker) is State.OPEN


def half_open(breaker: CircuitBreaker, clock: FakeClock) -> Permit:
    """The first probe of a circuit that has just been opened."""
    open_it(breaker)
    clock.advance(breaker.snapshot().retry_after_s)
    return breaker.acquire()


def state(breaker: CircuitBreaker) -> State:
    """Not the property: mypy would take a second look at it for the first one's answer."""
    return breaker.state


def rejection(breaker: CircuitBreaker) -> CircuitOpen:
    with pytest.raises(CircuitOpen) as caught:
        breaker.acquire()
    return caught.value


def test_a_new_circuit_is_closed_and_knows_nothing(breaker: CircuitBreaker) -> None:
    assert breaker.snapshot() == Snapshot("quotes", State.CLOSED, 0, 0, 0, 0, 0, False, 0, 1.0, 0.0, 0)


# When it opens


def test_too_few_calls_never_open_the_circuit(breaker: CircuitBreaker) -> None:
    settle_all(breaker, *[Outcome.FAILURE] * 4)
    assert state(breaker) is State.CLOSED


def test_the_failure_that_completes_the_minimum_opens_the_circuit(breaker: CircuitBreaker) -> None:
    settle_all(breaker, *[Outcome.FAILURE] * 5)
    assert state(breaker) is State.OPEN


def test_the_failure_rate_opens_the_circuit_when_it_is_reached_exactly(breaker: CircuitBreaker) -> None:
    settle_all(breaker, *[Outcome.SUCCESS] * 5, *[Outcome.FAILURE] * 4)
    assert state(breaker) is State.CLOSED
    settle_all(breaker, Outcome.FAILURE)
    assert state(breaker) is State.OPEN


def test_a_rate_that_floats_cannot_hold_is_still_reached_exactly(clock: FakeClock) -> None:
    breaker = build(clock, SETTINGS._replace(failure_rate=0.55))
    settle_all(breaker, *[Outcome.SUCCESS] * 9, *[Outcome.FAILURE] * 11)  # 0.55 * 20 is 11.000000000000002
    assert state(breaker) is State.OPEN


def test_the_slow_rate_opens_the_circuit_when_it_is_reached_exactly(breaker: CircuitBreaker) -> None:
    settle_all(breaker, Outcome.SUCCESS, *[Outcome.SLOW] * 3)
    assert state(breaker) is State.CLOSED
    settle_all(breaker, Outcome.SLOW)
    assert state(breaker) is State.OPEN


def test_a_success_that_took_too_long_is_slow(breaker: CircuitBreaker, clock: FakeClock) -> None:
    permits = [breaker.acquire() for _ in range(2)]
    clock.advance(0.999)
    permits[0].settle(Outcome.SUCCESS)
    assert breaker.snapshot().slow == 0
    clock.advance(0.001)
    permits[1].settle(Outcome.SUCCESS)
    assert (breaker.snapshot().calls, breaker.snapshot().slow) == (2, 1)


def test_a_failure_that_took_too_long_is_both(breaker: CircuitBreaker, clock: FakeClock) -> None:
    permit = breaker.acquire()
    clock.advance(1)
    permit.settle(Outcome.FAILURE)
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.slow) == (1, 1, 1)


def test_a_success_never_opens_the_circuit(clock: FakeClock) -> None:
    breaker = build(clock, SETTINGS._replace(calls_min=6))
    settle_all(breaker, *[Outcome.FAILURE] * 5, *[Outcome.SUCCESS] * 3)
    assert state(breaker) is State.CLOSED  # 5 of 8 are above the rate, but the last news was good
    settle_all(breaker, Outcome.FAILURE)
    assert state(breaker) is State.OPEN


@pytest.mark.parametrize("outcome", [Outcome.IGNORED, Outcome.ABANDONED])
def test_what_says_nothing_about_health_counts_nothing(breaker: CircuitBreaker, outcome: Outcome) -> None:
    settle_all(breaker, *[outcome] * 20)
    assert breaker.snapshot().calls == 0
    assert breaker.snapshot().in_flight == 0


def test_a_caller_that_gave_up_after_the_slow_threshold_is_evidence(breaker: CircuitBreaker, clock: FakeClock) -> None:
    permits = [breaker.acquire() for _ in range(5)]
    clock.advance(1)
    for permit in permits:
        permit.settle(Outcome.ABANDONED)
    assert state(breaker) is State.OPEN


def test_an_ignored_answer_counts_nothing_even_when_slow(breaker: CircuitBreaker, clock: FakeClock) -> None:
    permit = breaker.acquire()
    clock.advance(1.5)
    permit.settle(Outcome.IGNORED)
    assert breaker.snapshot().calls == 0


def test_calls_that_hang_in_flight_are_evidence_before_they_end(breaker: CircuitBreaker, clock: FakeClock) -> None:
    for _ in range(4):
        breaker.acquire()
    clock.advance(0.999)
    settle_all(breaker, Outcome.SLOW)
    assert state(breaker) is State.CLOSED
    clock.advance(0.001)
    settle_all(breaker, Outcome.SLOW)
    assert state(breaker) is State.OPEN  # 2 settled and 4 overdue, all slow
    opened = breaker.drain_events()[0]
    assert isinstance(opened, Transition)
    assert (opened.reason, opened.calls, opened.failures, opened.slow) == ("slow_rate", 6, 0, 6)


def test_a_permit_that_nobody_settles_ages_out_like_any_evidence(breaker: CircuitBreaker, clock: FakeClock) -> None:
    for _ in range(4):
        breaker.acquire()
    clock.advance(10.999)
    assert breaker.snapshot().in_flight == 4
    settle_all(breaker, Outcome.SUCCESS)
    clock.advance(0.001)
    settle_all(breaker, Outcome.SLOW)
    assert state(breaker) is State.CLOSED
    assert breaker.snapshot().in_flight == 0


def test_a_call_in_flight_leaves_the_window_at_its_own_moment(breaker: CircuitBreaker, clock: FakeClock) -> None:
    clock.advance(0.5)
    for _ in range(2):
        breaker.acquire()
    clock.advance(10.75)
    assert breaker.snapshot().in_flight == 2
    clock.advance(0.25)  # within the same second, and both turned slow a whole window ago
    settle_all(breaker, *[Outcome.SLOW] * 3)
    assert state(breaker) is State.CLOSED


def test_the_window_forgets_whole_seconds_after_ten(breaker: CircuitBreaker, clock: FakeClock) -> None:
    settle_all(breaker, *[Outcome.FAILURE] * 2)
    clock.advance(1)
    settle_all(breaker, Outcome.FAILURE, Outcome.SLOW, Outcome.SUCCESS, Outcome.SUCCESS)
    clock.advance(8.99)
    assert breaker.snapshot()[3:6] == (6, 3, 1)
    clock.advance(0.01)
    assert breaker.snapshot()[3:6] == (4, 1, 1)
    clock.advance(1)
    assert breaker.snapshot()[3:6] == (0, 0, 0)


def test_a_settle_alone_moves_the_window(breaker: CircuitBreaker, clock: FakeClock) -> None:
    settle_all(breaker, *[Outcome.FAILURE] * 4)
    clock.advance(10)
    settle_all(breaker, Outcome.FAILURE)
    assert state(breaker) is State.CLOSED


def test_a_clock_that_reads_earlier_in_another_thread_harms_nothing(breaker: CircuitBreaker, clock: FakeClock) -> None:
    settle_all(breaker, Outcome.FAILURE)
    clock.advance(-3)
    settle_all(breaker, Outcome.FAILURE)
    assert breaker.snapshot().calls == 2
    clock.advance(3)
    assert breaker.snapshot().calls == 2
    clock.advance(10)
    assert breaker.snapshot().calls == 0


# While it is open


def test_an_open_circuit_rejects_and_says_when_to_come_back(breaker: CircuitBreaker, clock: FakeClock) -> None:
    open_it(breaker)
    clock.advance(0.25)
    error = rejection(breaker)
    assert (error.name, error.retry_after_s, error.state) == ("quotes", 0.75, State.OPEN)
    assert str(error) == "circuit 'quotes' is open; retry in 0.8 s"


def test_each_rejection_is_a_new_exception(breaker: CircuitBreaker) -> None:
    open_it(breaker)
    errors = [rejection(breaker) for _ in range(50)]
    assert len({id(error) for error in errors}) == 50
    assert len({len(traceback.extract_tb(error.__traceback__)) for error in errors}) == 1  # none longer than the first


def test_the_interval_must_have_passed_before_a_probe(breaker: CircuitBreaker, clock: FakeClock) -> None:
    open_it(breaker)
    clock.advance(0.999)
    rejection(breaker)
    clock.advance(0.001)
    assert breaker.snapshot().retry_after_s == 0
    assert breaker.acquire().is_probe
    assert state(breaker) is State.HALF_OPEN


def test_a_circuit_asked_long_after_its_interval_reports_no_negative_wait(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    open_it(breaker)
    clock.advance(3600)
    assert breaker.snapshot().retry_after_s == 0


@pytest.mark.parametrize("jitter", [0.0, 0.25, 1.0])
def test_the_open_interval_is_fully_jittered(clock: FakeClock, jitter: float) -> None:
    breaker = build(clock, jitter=jitter)
    open_it(breaker)
    assert breaker.snapshot().retry_after_s == jitter * 1.0
    assert breaker.snapshot().open_interval_s == 1.0


def test_environments_that_open_together_do_not_probe_together(clock: FakeClock) -> None:
    waits = set()
    for _ in range(100):
        breaker = CircuitBreaker("quotes", SETTINGS, clock=clock)  # the real random source
        open_it(breaker)
        waits.add(breaker.snapshot().retry_after_s)
    assert len(waits) == 100
    assert 0 <= min(waits) < 0.2
    assert 0.8 < max(waits) < 1


def test_the_interval_doubles_with_each_failed_round_up_to_its_cap(clock: FakeClock) -> None:
    breaker = build(clock)
    open_it(breaker)
    intervals = []
    for _ in range(7):
        intervals.append(breaker.snapshot().retry_after_s)
        clock.advance(intervals[-1])
        settle_all(breaker, Outcome.FAILURE)
    assert intervals == [1, 2, 4, 8, 16, 30, 30]


def test_a_circuit_that_closed_starts_again_with_the_base_interval(breaker: CircuitBreaker, clock: FakeClock) -> None:
    half_open(breaker, clock).settle(Outcome.FAILURE)
    clock.advance(2)
    settle_all(breaker, Outcome.SUCCESS, Outcome.SUCCESS)
    open_it(breaker)
    assert breaker.snapshot().retry_after_s == 1


# Probes


def test_one_probe_at_a_time(breaker: CircuitBreaker, clock: FakeClock) -> None:
    probe = half_open(breaker, clock)
    clock.advance(0.25)
    error = rejection(breaker)
    assert (error.state, error.retry_after_s) == (State.HALF_OPEN, 0.75)  # what is left of the lease
    probe.settle(Outcome.SUCCESS)
    assert breaker.snapshot().retry_after_s == 0
    assert breaker.acquire().is_probe


def test_two_successful_probes_close_the_circuit(breaker: CircuitBreaker, clock: FakeClock) -> None:
    half_open(breaker, clock).settle(Outcome.SUCCESS)
    assert (breaker.state, breaker.snapshot().probes_succeeded) == (State.HALF_OPEN, 1)
    settle_all(breaker, Outcome.SUCCESS)
    assert state(breaker) is State.CLOSED
    assert not breaker.acquire().is_probe


def test_a_closed_circuit_has_forgotten_why_it_was_open(breaker: CircuitBreaker, clock: FakeClock) -> None:
    half_open(breaker, clock).settle(Outcome.SUCCESS)
    settle_all(breaker, Outcome.SUCCESS, *[Outcome.FAILURE] * 4)
    assert state(breaker) is State.CLOSED


@pytest.mark.parametrize(("outcome", "reason"), [(Outcome.FAILURE, "probe_failed"), (Outcome.SLOW, "probe_slow")])
def test_a_bad_probe_opens_for_twice_as_long(
    breaker: CircuitBreaker, clock: FakeClock, outcome: Outcome, reason: str
) -> None:
    half_open(breaker, clock).settle(Outcome.SUCCESS)
    settle_all(breaker, outcome)
    opened = breaker.drain_events()[-1]
    assert isinstance(opened, Transition)
    assert (opened.to_state, opened.reason, opened.open_for_s) == (State.OPEN, reason, 2)
    assert breaker.snapshot().probes_succeeded == 0


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.ABANDONED])
def test_a_probe_that_took_too_long_is_a_bad_probe(clock: FakeClock, outcome: Outcome) -> None:
    breaker = build(clock, SETTINGS._replace(slow_s=0.5))
    probe = half_open(breaker, clock)
    clock.advance(0.5)
    probe.settle(outcome)
    assert state(breaker) is State.OPEN
    assert breaker.snapshot().open_interval_s == 2


@pytest.mark.parametrize("outcome", [Outcome.ABANDONED, Outcome.IGNORED])
def test_a_probe_that_says_nothing_returns_its_place(
    breaker: CircuitBreaker, clock: FakeClock, outcome: Outcome
) -> None:
    half_open(breaker, clock).settle(Outcome.SUCCESS)
    settle_all(breaker, *[outcome] * 5)
    assert (breaker.state, breaker.snapshot().probes_succeeded) == (State.HALF_OPEN, 1)
    settle_all(breaker, Outcome.SUCCESS)
    assert state(breaker) is State.CLOSED


def test_a_lost_probe_opens_again_when_its_lease_ends(breaker: CircuitBreaker, clock: FakeClock) -> None:
    half_open(breaker, clock)
    clock.advance(0.999)
    assert state(breaker) is State.HALF_OPEN
    clock.advance(0.001)
    assert state(breaker) is State.OPEN
    opened = breaker.drain_events()[-1]
    assert isinstance(opened, Transition)
    assert (opened.reason, opened.open_for_s) == ("lease_expired", 2)
    assert (opened.calls, opened.slow) == (0, 0)  # the window is of calls, and the probe was none
    clock.advance(2)
    settle_all(breaker, Outcome.SUCCESS, Outcome.SUCCESS)
    assert state(breaker) is State.CLOSED


def test_the_back_off_of_a_lost_probe_starts_when_its_lease_ended(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """After a freeze of minutes the first caller must not wait for an interval that nobody could see pass."""
    half_open(breaker, clock)
    clock.advance(1 + 0.5)
    assert rejection(breaker).retry_after_s == 1.5
    clock.advance(600)
    assert breaker.acquire().is_probe


def test_a_lease_is_no_longer_than_the_call_may_take(clock: FakeClock) -> None:
    breaker = build(clock, SETTINGS._replace(open_base_s=5.0))
    probe = half_open(breaker, clock)
    assert (probe.lease_s, probe.limit_s, probe.timeout_s(60)) == (2, 2, 2)


def test_a_lease_is_no_longer_than_the_open_interval(clock: FakeClock) -> None:
    probe = half_open(build(clock, jitter=0.5), clock)
    assert (probe.lease_s, probe.limit_s, probe.timeout_s(60)) == (1, 1, 1)  # the interval before jitter


def test_a_probes_own_late_result_is_dropped(breaker: CircuitBreaker, clock: FakeClock) -> None:
    probe = half_open(breaker, clock)
    clock.advance(1)
    probe.settle(Outcome.SUCCESS)
    assert state(breaker) is State.OPEN
    assert isinstance(breaker.drain_events()[-1], Dropped)


# Results


@pytest.mark.parametrize("outcome", Outcome)
def test_a_result_from_before_the_circuit_opened_changes_nothing(clock: FakeClock, outcome: Outcome) -> None:
    breaker = build(clock, SETTINGS._replace(slow_s=2.0))
    late = [breaker.acquire() for _ in range(3)]
    open_it(breaker)
    late[0].settle(outcome)
    assert state(breaker) is State.OPEN
    clock.advance(1)
    probe = breaker.acquire()
    late[1].settle(outcome)
    assert (breaker.state, breaker.snapshot().probe_in_flight) == (State.HALF_OPEN, True)
    probe.settle(Outcome.SUCCESS)
    settle_all(breaker, Outcome.SUCCESS)
    breaker.drain_events()
    late[2].settle(outcome)
    assert state(breaker) is State.CLOSED
    assert breaker.snapshot().calls == 0
    assert breaker.drain_events() == [Dropped("quotes", 101.0, outcome, permit_era=0, era=3)]


@pytest.mark.parametrize("outcome", Outcome)
def test_a_permit_says_how_it_counted(breaker: CircuitBreaker, clock: FakeClock, outcome: Outcome) -> None:
    quick, slow = breaker.acquire(), breaker.acquire()
    assert quick.outcome is None
    quick.settle(outcome)
    clock.advance(1)
    slow.settle(outcome)
    assert quick.outcome is outcome
    assert slow.outcome is (Outcome.SLOW if outcome in (Outcome.SUCCESS, Outcome.ABANDONED) else outcome)


def test_a_permit_settles_once(breaker: CircuitBreaker) -> None:
    permit = breaker.acquire()
    permit.settle(Outcome.SUCCESS)
    with pytest.raises(SettledTwice, match="'quotes': permit settled a second time, with Outcome"):
        permit.settle(Outcome.FAILURE)
    assert breaker.snapshot().calls == 1


# The deadline


def test_the_time_out_is_the_smaller_of_the_call_s_and_what_is_left(breaker: CircuitBreaker) -> None:
    permit = breaker.acquire()
    assert permit.timeout_s(60) == 2
    assert permit.timeout_s(0.75) == 0.75
    assert permit.timeout_s(-1) == 0


# Modes


def test_a_forced_open_circuit_rejects_for_ever(clock: FakeClock) -> None:
    breaker = build(clock, SETTINGS._replace(mode=Mode.FORCED_OPEN))
    clock.advance(1e6)
    error = rejection(breaker)
    assert (error.state, error.retry_after_s) == (State.FORCED_OPEN, 30)
    assert breaker.drain_events() == [Rejected("quotes", clock(), State.FORCED_OPEN, 30, enforced=True)]


def test_a_disabled_breaker_admits_everything_and_counts_nothing(clock: FakeClock) -> None:
    breaker = build(clock, SETTINGS._replace(mode=Mode.DISABLED))
    settle_all(breaker, *[Outcome.FAILURE] * 50)
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.calls, snapshot.in_flight) == (State.DISABLED, 0, 0)
    assert breaker.acquire().timeout_s(60) == 2
    assert breaker.drain_events() == []


def test_observe_says_what_it_would_have_rejected_and_rejects_nothing(clock: FakeClock) -> None:
    breaker = build(clock, SETTINGS._replace(mode=Mode.OBSERVE))
    open_it(breaker)
    breaker.drain_events()
    clock.advance(0.25)
    settle_all(breaker, Outcome.SUCCESS)
    assert breaker.drain_events() == [Rejected("quotes", 100.25, State.OPEN, 0.75, enforced=False)]


def test_observe_goes_through_all_states_on_real_calls(clock: FakeClock) -> None:
    breaker = build(clock, SETTINGS._replace(mode=Mode.OBSERVE))
    probe = half_open(breaker, clock)
    bystander = breaker.acquire()
    assert (probe.is_probe, bystander.is_probe) == (True, False)
    bystander.settle(Outcome.FAILURE)
    assert state(breaker) is State.HALF_OPEN
    probe.settle(Outcome.SUCCESS)
    settle_all(breaker, Outcome.SUCCESS)
    assert state(breaker) is State.CLOSED


def test_observe_does_not_cut_a_probe_short(clock: FakeClock) -> None:
    probe = half_open(build(clock, SETTINGS._replace(mode=Mode.OBSERVE)), clock)
    assert probe.timeout_s(60) == 2


# Events


def test_every_transition_is_an_event_with_its_figures(clock: FakeClock) -> None:
    events: list[Event] = []
    breaker = build(clock, jitter=0.5, on_event=events.append)
    settle_all(breaker, Outcome.SUCCESS, *[Outcome.FAILURE] * 4)
    rejection(breaker)
    clock.advance(0.5)
    settle_all(breaker, Outcome.SUCCESS, Outcome.SUCCESS)
    closed, opened, half = State.CLOSED, State.OPEN, State.HALF_OPEN
    assert events == [
        Transition("quotes", 100.0, closed, opened, "failure_rate", 1, 0.5, calls=5, failures=4, slow=0),
        Rejected("quotes", 100.0, opened, 0.5, enforced=True),
        Transition("quotes", 100.5, opened, half, "interval_passed", 2, 0.0, calls=0, failures=0, slow=0),
        Transition("quotes", 100.5, half, closed, "probes_succeeded", 3, 0.0, calls=0, failures=0, slow=0),
    ]
    assert breaker.drain_events() == events
    assert breaker.drain_events() == []


def test_the_ring_of_events_is_bounded_and_keeps_the_newest(breaker: CircuitBreaker, clock: FakeClock) -> None:
    open_it(breaker)
    for _ in range(3 * EVENTS_MAX):
        clock.advance(0.001)
        rejection(breaker)
    events = breaker.drain_events()
    assert len(events) == EVENTS_MAX
    assert events[-1].at_s == clock()


def test_a_listener_may_ask_the_breaker(clock: FakeClock) -> None:
    states: list[State] = []
    asking = build(clock, on_event=lambda _: states.append(asking.state))
    half_open(asking, clock)
    clock.advance(1)
    assert state(asking) is State.OPEN
    assert states == [State.OPEN, State.HALF_OPEN, State.OPEN]


def test_a_listener_hears_of_a_lease_that_a_snapshot_found_expired(clock: FakeClock) -> None:
    events: list[Event] = []
    breaker = build(clock, on_event=events.append)
    half_open(breaker, clock)
    clock.advance(1)
    assert breaker.snapshot().state is State.OPEN
    assert [e.reason for e in events if isinstance(e, Transition)][-1] == "lease_expired"


def test_a_listener_that_raises_is_counted_and_not_the_caller_s_error(clock: FakeClock) -> None:
    def raises(_: Event) -> None:
        raise RuntimeError("metrics are down")

    breaker = build(clock, on_event=raises)
    open_it(breaker)
    assert breaker.snapshot().on_event_errors == 1
    rejection(breaker)
    assert breaker.snapshot().on_event_errors == 2


# Settings


def test_the_defaults_are_those_of_the_design() -> None:
    assert BreakerSettings(slow_s=1, call_timeout_s=2) == (1, 2, 10, 5, 0.5, 0.8, 1, 30, 2, Mode.ENFORCE)


@pytest.mark.parametrize(
    ("key", "bad", "rule"),
    [
        ("slow_s", [0, -1, 2.1, float("nan")], "above 0 and at most call_timeout_s"),
        ("call_timeout_s", [0, float("inf"), float("nan")], "above 0 and finite, or a hang is no evidence"),
        ("window_s", [0, 10.0, -1], "whole seconds, at least 1"),
        ("calls_min", [2, 0], "at least 3, or one unlucky call opens the circuit"),
        ("failure_rate", [0, 1.01, float("nan")], "above 0 and at most 1"),
        ("slow_rate", [0, 1.01, float("nan")], "above 0 and at most 1"),
        ("open_base_s", [0, 31, float("nan")], "above 0 and at most open_max_s"),
        ("open_max_s", [0, float("inf"), float("nan")], "above 0 and finite, or the circuit stays open for ever"),
        ("probes_to_close", [0], "at least 1"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name_and_with_its_rule(key: str, bad: list[Any], rule: str) -> None:
    for value in bad:
        with pytest.raises(ValueError, match=f"^circuit 'quotes': {key}={value}: must be {rule}$"):
            CircuitBreaker("quotes", SETTINGS._replace(**{key: value}))


@pytest.mark.parametrize(
    "good",
    [
        {"slow_s": 2.0},
        {"window_s": 1},
        {"calls_min": 3},
        {"failure_rate": 1.0, "slow_rate": 1.0},
        {"failure_rate": 0.001, "slow_rate": 0.001},
        {"open_base_s": 30.0},
        {"slow_s": 0.001, "call_timeout_s": 0.001, "open_base_s": 0.001, "open_max_s": 0.001},
        {"probes_to_close": 1},
    ],
)
def test_the_edge_of_each_setting_is_allowed(good: dict[str, Any], clock: FakeClock) -> None:
    build(clock, SETTINGS._replace(**good)).acquire().settle(Outcome.SUCCESS)


# Freeze


def test_a_freeze_that_only_the_wall_clock_saw_is_not_lost() -> None:
    monotonic, wall = FakeClock(50), FakeClock(1_000_000)
    clock = FreezeSafeClock(monotonic, wall)
    breaker = build(clock, SETTINGS._replace(open_base_s=30.0))
    open_it(breaker)
    wall.advance(29)
    monotonic.advance(0.25)
    assert rejection(breaker).retry_after_s == 1.0
    wall.advance(1)
    monotonic.advance(1)
    assert breaker.acquire().is_probe


def test_a_freeze_that_both_clocks_saw_counts_once() -> None:
    monotonic, wall = FakeClock(50), FakeClock(1_000_000)
    clock = FreezeSafeClock(monotonic, wall)
    monotonic.advance(29)
    wall.advance(29)
    assert clock() == 79


def test_a_jump_of_the_wall_clock_counts_once_and_a_step_back_never() -> None:
    monotonic, wall = FakeClock(50), FakeClock(1_000_000)
    clock = FreezeSafeClock(monotonic, wall)
    wall.advance(10)
    assert [clock(), clock()] == [60, 60]
    wall.advance(-100)
    assert [clock(), clock()] == [60, 60]
    wall.advance(10)
    assert clock() == 70
    monotonic.advance(1)
    wall.advance(1)
    assert clock() == 71


def test_the_clock_ignores_what_discipline_does_to_the_wall_clock() -> None:
    monotonic, wall = FakeClock(50), FakeClock(1_000_000)
    clock = FreezeSafeClock(monotonic, wall)
    wall.advance(0.5)
    assert clock() == 50
    wall.advance(-1.0)
    assert clock() == 50
    wall.advance(1.0)
    assert clock() == 50


def test_the_real_clocks_are_the_default() -> None:
    clock = FreezeSafeClock()
    assert clock() <= clock()


# Cold start


def test_the_import_pulls_in_nothing_heavy() -> None:
    """Every handler pays for it in each cold start. What typing brings is paid for anyway: up to 3.12 that includes re."""
    code = """
import sys, typing
before = set(sys.modules)
sys.path.insert(0, '.')
import shared.kit.breaker
print(*set(sys.modules) - before)
"""
    command = [sys.executable, "-I", "-S", "-c", code]
    added = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "shared.kit.breaker" in added
    assert added.isdisjoint({"asyncio", "dataclasses", "inspect", "re", "logging", "json", "socket"})
