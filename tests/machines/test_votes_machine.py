"""A fleet of voting breakers around the model's store, which open, probe, crash and lose the store, in any order."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase
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
    run_state_machine_as_test,
)

from shared.kit.breaker import BreakerSettings, CircuitBreaker, CircuitOpen, Outcome, State
from shared.kit.breaker_votes import Held, VoteSettings, VotingBreaker
from tests.machines.model_store import ModelStore
from tests.machines.votes_model import FOREVER, Fleet, Rules, after_time

SLOTS = 4
GRAIN_S = 0.125
LONG_S = 1e6
OUTCOMES = st.sampled_from(Outcome)


@dataclass(eq=False)
class Call:
    slot: int
    life: int
    held: Held
    lease_ends_s: float = 0.0
    settled: bool = False


class VotesMachine(RuleBasedStateMachine):
    calls: Bundle[Call] = Bundle("calls")

    leases_expire = fenced = True

    @initialize(
        quorum=st.integers(1, 3),
        base=st.integers(1, 16),
        factor=st.sampled_from([1, 2, 4]),
        probes=st.integers(1, 2),
        jitter=st.sampled_from([0.0, 0.5, 1.0]),
    )
    def build(self, quorum: int, base: int, factor: int, probes: int, jitter: float) -> None:
        self.now_s = 1_000.0
        self.jitter = jitter
        self.settings = BreakerSettings(
            slow_s=1.0,
            call_timeout_s=2.0,
            calls_min=3,
            open_base_s=base * GRAIN_S,
            open_max_s=base * GRAIN_S * factor,
            probes_to_close=probes,
        )
        self.votes = VoteSettings(quorum=quorum, vote_s=4.0)
        self.protocol = Rules(quorum, 4_000, int(base * GRAIN_S * 1000), int(base * GRAIN_S * 1000) * factor, probes)
        self.store = ModelStore(self.clock, leases_expire=self.leases_expire, fenced=self.fenced)
        self.lives = [0] * SLOTS
        self.environments = [self.born(slot) for slot in range(SLOTS)]
        self.leased: list[Call] = []
        self.open_until_seen_s = 0.0  # the last moment at which the fleet was not closed
        self.runner = asyncio.Runner()

    def clock(self) -> float:
        return self.now_s

    def born(self, slot: int) -> VotingBreaker:
        breaker = CircuitBreaker("quotes", self.settings, clock=self.clock, rng=lambda: self.jitter)
        name = f"{slot}.{self.lives[slot]}"
        return VotingBreaker(breaker, self.store, environment_id=name, settings=self.votes, clock=self.clock)

    def run[T](self, coroutine: Coroutine[None, None, T]) -> T:
        """Everything here happens at one moment, and no step may close the fleet but the one that is entitled to."""
        before = self.fleet()
        result = self.runner.run(coroutine)
        if before is not None and self.fleet() is None:
            assert self.may_close == before.generation
            assert self.now_s * 1000 < before.lease_until
        return result

    may_close = -1  # the token of the good news on their way, if there are any

    def fleet(self) -> Fleet | None:
        fleet = after_time(self.store.store.fleet, round(self.now_s * 1000), self.protocol)
        if fleet is not None:
            self.open_until_seen_s = self.now_s
        return fleet

    @rule(target=calls, slot=st.integers(0, SLOTS - 1))
    def acquire(self, slot: int) -> "Call | MultipleResults[Call]":
        return self._acquire(slot) or multiple()

    @rule(slot=st.integers(0, SLOTS - 1), count=st.integers(1, 4))
    def fail_in_a_row(self, slot: int, count: int) -> None:
        for _ in range(count):
            if call := self._acquire(slot):
                self.settle(call, Outcome.FAILURE)

    @rule(slots=st.sets(st.integers(0, SLOTS - 1), min_size=SLOTS - 1))
    def outage(self, slots: set[int]) -> None:
        for slot in slots:
            self.fail_in_a_row(slot, 3)

    @rule(slot=st.integers(0, SLOTS - 1), count=st.integers(1, 4))
    def succeed_in_a_row(self, slot: int, count: int) -> None:
        for _ in range(count):
            if call := self._acquire(slot):
                self.settle(call, Outcome.SUCCESS)

    @rule(target=calls, first=st.integers(0, SLOTS - 1), second=st.integers(0, SLOTS - 1), outcome=OUTCOMES)
    def overtake(self, first: int, second: int, outcome: Outcome) -> "Call | MultipleResults[Call]":
        """A probe outlives its lease, another follows, and then the first comes back: too rare for single rules."""
        taken = []
        for slot in (first, second):
            for _ in range(2):  # the lease's end is the beginning of another interval
                self.tick_to_the_end_of_the_fleet_s_interval()
            taken.append(self._acquire(slot))
        if taken[0]:
            self.settle(taken[0], outcome)
        return taken[1] or multiple()

    @rule(call=consumes(calls), outcome=OUTCOMES)
    def settle(self, call: Call, outcome: Outcome) -> None:
        if call.life != self.lives[call.slot]:
            return  # nobody is left to settle it
        call.settled = True
        held = call.held
        self.may_close = held.token if outcome is Outcome.SUCCESS and held.token else -1
        self.run(self.environments[call.slot].settle(held, outcome, remaining_s=LONG_S))
        self.may_close = -1
        assert held.permit.outcome is not None

    @rule(slot=st.integers(0, SLOTS - 1))
    def crash(self, slot: int) -> None:
        self.lives[slot] += 1
        self.environments[slot] = self.born(slot)

    @rule(trouble=st.sampled_from([None, None, "down", "reply lost"]))
    def change_the_store_s_trouble(self, trouble: str | None) -> None:
        self.store.trouble = trouble

    @rule()
    def lose_the_store_s_memory(self) -> None:
        self.store.lose_everything()
        self.leased.clear()  # it cannot know of them any more

    @rule(grains=st.one_of(st.integers(1, 8), st.integers(1, 80)))
    def tick(self, grains: int) -> None:
        self.now_s += grains * GRAIN_S

    @rule()
    def tick_to_the_end_of_the_fleet_s_interval(self) -> None:
        if (fleet := self.fleet()) is not None and fleet.lease_until < FOREVER:
            self.now_s = max(self.now_s, fleet.open_until / 1000, fleet.lease_until / 1000)

    @invariant()
    def no_vote_and_no_state_outlives_its_time(self) -> None:
        self.fleet()
        now_ms = round(self.now_s * 1000)
        lease_ms = 2_020
        for _, ends in self.store.store.votes:
            assert ends <= now_ms + self.protocol.vote_ms
        if (fleet := self.store.store.fleet) is not None:
            assert fleet.ends <= now_ms + lease_ms + self.protocol.max_ms + self.protocol.vote_ms

    def _acquire(self, slot: int) -> Call | None:
        environment = self.environments[slot]
        fleet, asked_before = self.fleet(), len(self.store.exchanges)
        own = environment.breaker.snapshot()
        try:
            held = self.run(environment.acquire(remaining_s=LONG_S))
        except CircuitOpen:
            held = None
        heard = len(self.store.exchanges) > asked_before and self.store.trouble is None
        if held is None:
            self._is_justified(own.retry_after_s > 0)
            return None
        if heard:
            assert (held.token != 0) == (fleet is not None)  # out without a lease only if the fleet is closed
        return self._admitted(slot, held)

    def _is_justified(self, by_its_own_circuit: bool) -> None:
        """The fleet may have closed since, but for no longer than a verdict stands."""
        assert by_its_own_circuit or self.now_s - self.open_until_seen_s <= self.votes.poll_s

    def _admitted(self, slot: int, held: Held) -> Call:
        call = Call(slot, self.lives[slot], held)
        if held.token:
            call.lease_ends_s = self.now_s + held.permit.limit_s + 2 * self.votes.budget_s
            others = [c for c in self.leased if not c.settled and self.now_s < c.lease_ends_s]
            assert not others  # two probes at once
            self.leased.append(call)
        return call

    def teardown(self) -> None:
        """All is well again, and everybody asks: after a lease and an interval of each kind nobody is rejected."""
        if hasattr(self, "runner"):
            with self.runner:
                self._recover()

    def _recover(self) -> None:
        self.store.trouble = None
        own_s = self.settings.call_timeout_s + self.settings.open_max_s
        store_breaker_s = 30.0  # what an environment may ignore the store for, after trouble with it
        latest_s = self.now_s + 2 * own_s + self.votes.poll_s + store_breaker_s + 1.0
        while any(e.breaker.state is not State.CLOSED for e in self.environments) or self.fleet() is not None:
            self.now_s += GRAIN_S
            for slot in range(SLOTS):
                self.succeed_in_a_row(slot, 1)
            assert self.now_s <= latest_s


VotesMachine.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestVotesMachine = VotesMachine.TestCase


class LeasesThatNeverExpire(VotesMachine):
    leases_expire = False


class LateResultsThatCount(VotesMachine):
    fenced = False


@pytest.mark.parametrize("broken", [LeasesThatNeverExpire, LateResultsThatCount])
def test_the_machine_finds_what_is_broken_on_purpose(broken: type[VotesMachine]) -> None:
    enough = hypothesis_settings(
        max_examples=1_000,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(broken, settings=enough)
