"""The breaker against its oracle, under any order of admissions, outcomes, losses and time."""

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from shared.kit.breaker import BreakerSettings, CircuitBreaker, Permit
from shared.kit.circuit import CircuitOpen, Dropped, Event, Mode, Outcome, Rejected, State, Transition
from tests.machines.breaker_oracle import Oracle, Ticket

type Pair = tuple[Permit, Ticket]

GRAIN_S = 1 / 64  # every duration is a multiple, so that sums of floats are exact and the oracle may demand equality

ALLOWED = {
    (State.CLOSED, State.OPEN),
    (State.OPEN, State.HALF_OPEN),
    (State.HALF_OPEN, State.CLOSED),
    (State.HALF_OPEN, State.OPEN),
}


def grains(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low, high).map(lambda n: n * GRAIN_S)


@st.composite
def breaker_settings(draw: st.DrawFn) -> BreakerSettings:
    call_timeout_s = draw(grains(1, 256))
    open_base_s = draw(grains(1, 128))
    return BreakerSettings(
        call_timeout_s=call_timeout_s,
        slow_s=draw(grains(1, int(call_timeout_s / GRAIN_S))),
        window_s=draw(st.integers(1, 10)),
        calls_min=draw(st.integers(3, 5)),
        failure_rate=draw(st.sampled_from([0.01, 0.5, 0.55, 1.0])),
        slow_rate=draw(st.sampled_from([0.01, 0.5, 0.8, 1.0])),
        open_base_s=open_base_s,
        open_max_s=open_base_s * draw(st.sampled_from([1, 2, 3, 8])),
        probes_to_close=draw(st.integers(1, 3)),
        mode=draw(st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.OBSERVE])),
    )


class BreakerMachine(RuleBasedStateMachine):
    permits: Bundle[Pair] = Bundle("permits")

    @initialize(settings=breaker_settings(), start_s=grains(0, 640), jitter=st.integers(0, 8).map(lambda n: n / 8))
    def build(self, settings: BreakerSettings, start_s: float, jitter: float) -> None:
        self.now_s = start_s
        self.events: list[Event] = []
        self.oracle = Oracle(settings, jitter)
        self.breaker = CircuitBreaker(
            "machine",
            settings,
            clock=lambda: self.now_s,
            rng=lambda: self.oracle.jitter,
            on_event=self.events.append,
        )

    @rule(target=permits)
    def acquire(self) -> "Pair | MultipleResults[Pair]":
        return self._acquire() or multiple()

    @rule(count=st.integers(2, 6))
    def fail_in_a_row(self, count: int) -> None:
        """What opens a circuit; single rules get there too seldom."""
        for _ in range(count):
            if pair := self._acquire():
                self._settle(pair, Outcome.FAILURE)

    @rule(pair=consumes(permits), outcome=st.sampled_from(Outcome))
    def settle(self, pair: Pair, outcome: Outcome) -> None:
        self._settle(pair, outcome)

    @rule(pair=consumes(permits))
    def lose(self, pair: Pair) -> None:
        """Nobody settles it any more."""

    @rule(dt_s=st.one_of(grains(1, 16), grains(1, 1280)))
    def tick(self, dt_s: float) -> None:
        self.now_s += dt_s

    @rule(grains_off=st.integers(-1, 0), jitter=st.integers(0, 8))
    def tick_to_the_end_of_the_interval(self, grains_off: int, jitter: int) -> None:
        self.oracle.jitter = jitter / 8
        end_s = self.now_s + self.oracle.retry_after_s(self.now_s) + grains_off * GRAIN_S
        self.now_s = max(self.now_s, end_s)

    @rule(pair=permits, grains_off=st.integers(-1, 0), boundary=st.sampled_from(["slow", "lease", "forgotten"]))
    def tick_to_a_boundary_of(self, pair: Pair, grains_off: int, boundary: str) -> None:
        s = self.oracle.settings
        after_s = {"slow": s.slow_s, "lease": self.oracle.lease_s(), "forgotten": s.slow_s + s.window_s}[boundary]
        self.now_s = max(self.now_s, pair[1].admitted_at_s + after_s + grains_off * GRAIN_S)

    @rule()
    def read_the_state(self) -> None:
        self.oracle.let_time_pass(self.now_s)
        assert self.breaker.state is self.oracle.state

    @invariant()
    def snapshot_agrees_with_the_oracle(self) -> None:
        self.oracle.let_time_pass(self.now_s)
        snapshot = self.breaker.snapshot()
        s = self.oracle.settings
        lost = [t for t in self.oracle.in_flight() if self.now_s - t.admitted_at_s >= s.slow_s + s.window_s]
        probe = self.oracle.live_probe(self.now_s)
        assert (snapshot.state, snapshot.era) == (self.oracle.state, self.oracle.era)
        assert (snapshot.calls, snapshot.failures, snapshot.slow) == self.oracle.counts(self.now_s)
        assert snapshot.in_flight <= len(self.oracle.in_flight())
        assert snapshot.in_flight >= len(self.oracle.in_flight()) - len(lost)
        assert snapshot.probe_in_flight == (probe is not None)
        assert snapshot.probes_succeeded == self.oracle.probes_succeeded
        assert snapshot.retry_after_s == self.oracle.retry_after_s(self.now_s)
        if snapshot.state is not State.CLOSED:
            assert snapshot.open_interval_s == self.oracle.interval_s()

    @invariant()
    def transitions_are_those_of_the_chart(self) -> None:
        transitions = [e for e in self.events if isinstance(e, Transition)]
        state, era, open_until_s = State.CLOSED, 0, 0.0
        for t in transitions:
            assert t.from_state is state
            assert (t.from_state, t.to_state) in ALLOWED
            assert t.era == era + 1
            if t.to_state is State.HALF_OPEN:
                assert t.at_s >= open_until_s
            if t.to_state is State.OPEN:
                assert 0 <= t.open_for_s <= self.oracle.settings.open_max_s
            state, era, open_until_s = t.to_state, t.era, t.at_s + t.open_for_s

    def _acquire(self) -> Pair | None:
        expected = self.oracle.acquire(self.now_s)
        try:
            permit = self.breaker.acquire()
        except CircuitOpen as error:
            rejection = error
        else:
            return self._admitted(permit, expected)
        assert (rejection.retry_after_s, rejection.state) == (expected, self.oracle.state)
        return None

    def _admitted(self, permit: Permit, expected: Ticket | float) -> Pair:
        assert isinstance(expected, Ticket)
        assert permit.is_probe == (expected.lease_end_s is not None)
        if permit.is_probe:
            assert self.now_s + permit.timeout_s(float("inf")) == expected.lease_end_s
        return permit, expected

    def _settle(self, pair: Pair, outcome: Outcome) -> None:
        permit, ticket = pair
        self.oracle.let_time_pass(self.now_s)
        late = ticket.era not in (self.oracle.era, -1)
        self.breaker.snapshot()  # whatever time alone does is done now, so that the rest is the settle's doing
        before = len(self.events)
        self.oracle.settle(ticket, outcome, self.now_s)
        permit.settle(outcome)
        caused = self.events[before:]
        if late:
            assert [type(e) for e in caused] == [Dropped]
        if outcome is Outcome.SUCCESS:
            opened = [e for e in caused if isinstance(e, Transition) and e.to_state is State.OPEN]
            assert not opened or self.now_s - ticket.admitted_at_s >= self.oracle.settings.slow_s
        if outcome in (Outcome.ABANDONED, Outcome.IGNORED):
            assert not [e for e in caused if isinstance(e, Transition) and e.to_state is State.CLOSED]

    def teardown(self) -> None:
        """A dependency that is well again is in use again: after one lease, one interval and probes_to_close probes."""
        if not hasattr(self, "breaker") or self.breaker.settings.mode is not Mode.ENFORCE:
            return
        s = self.breaker.settings
        latest_s = self.now_s + s.call_timeout_s + s.open_max_s
        probes = 0
        while self.breaker.state is not State.CLOSED:
            self.now_s += self.breaker.snapshot().retry_after_s
            if self.breaker.snapshot().retry_after_s == 0:
                probes += 1
                self.breaker.acquire().settle(Outcome.SUCCESS)
            assert self.now_s <= latest_s
            assert probes <= s.probes_to_close
        assert not self.breaker.snapshot().on_event_errors
        rejected = [e for e in self.events if isinstance(e, Rejected)]
        assert all(e.enforced for e in rejected)


BreakerMachine.TestCase.settings = hypothesis_settings(max_examples=200, stateful_step_count=50, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase
