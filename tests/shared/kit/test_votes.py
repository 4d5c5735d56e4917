"""When an environment asks its fleet, what it does with the answer, and that no answer is as good as none."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from warmfront.backing.redis import Redis

from shared.kit.breaker import BreakerSettings, CircuitBreaker, CircuitOpen, Mode, Outcome, State
from shared.kit.breaker_votes import (
    Degraded,
    Exchange,
    FleetChanged,
    FleetRejected,
    Held,
    RedisVoteStore,
    Reply,
    VoteEvent,
    VoteSettings,
    VotingBreaker,
    quorum_for,
)
from tests.machines.model_store import ModelStore

SETTINGS = BreakerSettings(slow_s=1.0, call_timeout_s=2.0, calls_min=3)
PATIENT = VoteSettings(budget_s=5.0)  # where others run meanwhile, on a machine that may be busy
ROOT = Path(__file__).parents[3]
START_S = 1_000_000.0


class FakeClock:
    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class DownError(Exception):
    pass


class Fleet:
    """Environments around one store, driven from a test that is no coroutine."""

    def __init__(self, clock: FakeClock, settings: BreakerSettings = SETTINGS) -> None:
        self.clock = clock
        self.store = ModelStore(clock)
        self.settings = settings
        self.events: list[VoteEvent] = []

    def environment(self, environment_id: str, votes: VoteSettings | None = None) -> VotingBreaker:
        breaker = CircuitBreaker("quotes", self.settings, clock=self.clock, rng=lambda: 1.0)
        return VotingBreaker(
            breaker,
            self.store,
            environment_id=environment_id,
            settings=votes,
            clock=self.clock,
            rng=lambda: 1.0,
            on_event=self.events.append,
        )

    def open(self) -> None:
        """By three environments that nobody asks again."""
        for n in range(3):
            open_it(self.environment(f"voter-{n}"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fleet(clock: FakeClock) -> Fleet:
    return Fleet(clock)


async def answer() -> str:
    return "ok"


async def fail() -> str:
    raise DownError


def run[T](awaitable: Awaitable[T]) -> T:
    async def main() -> T:
        return await awaitable

    return asyncio.run(main())


def guarded(environment: VotingBreaker, fn: Callable[[], Awaitable[str]]) -> str:
    return run(environment.call(fn, remaining_s=10, failures=DownError))


def open_it(environment: VotingBreaker) -> None:
    for _ in range(5):
        if environment.breaker.state is not State.OPEN:
            with pytest.raises(DownError):
                guarded(environment, fail)
    assert environment.breaker.state is State.OPEN


def rejection(environment: VotingBreaker) -> CircuitOpen:
    with pytest.raises(CircuitOpen) as caught:
        guarded(environment, answer)
    return caught.value


def actions(store: ModelStore) -> list[tuple[str, str, int]]:
    """Who, what, vote; and forgotten."""
    told = [(e.environment_id, e.action, e.vote) for e in store.exchanges]
    store.exchanges.clear()
    return told


# What a fleet does together


def test_three_environments_open_the_fleet_for_a_fourth(clock: FakeClock) -> None:
    fleet = Fleet(clock, SETTINGS._replace(open_base_s=5.0))
    fourth = fleet.environment("fourth")
    assert guarded(fourth, answer) == "ok"
    fleet.open()
    clock.advance(0.999)
    assert guarded(fourth, answer) == "ok"  # the verdict it has is not a second old
    clock.advance(0.001)
    fleet.events.clear()
    error = rejection(fourth)
    assert (error.name, error.state, error.retry_after_s) == ("quotes", State.OPEN, 4.0)
    assert fourth.breaker.snapshot()[1:7] == (State.CLOSED, 0, 2, 0, 0, 0)  # its own circuit knows of nothing
    assert fleet.events == [FleetChanged("quotes", clock(), True), FleetRejected("quotes", clock(), 4.0)]


def test_two_broken_environments_open_nobody_else_s_circuit(fleet: Fleet) -> None:
    for name in ("a", "b"):
        open_it(fleet.environment(name))
    assert guarded(fleet.environment("healthy"), answer) == "ok"


def test_one_vote_is_enough_in_a_small_fleet(fleet: Fleet) -> None:
    votes = VoteSettings(quorum=quorum_for(4))
    open_it(fleet.environment("a", votes))
    rejection(fleet.environment("b", votes))


@pytest.mark.parametrize(("reserved", "quorum"), [(None, 3), (5, 3), (100, 3), (4, 1), (1, 1)])
def test_the_quorum_is_three_unless_the_fleet_is_small(reserved: int | None, quorum: int) -> None:
    assert quorum_for(reserved) == quorum


def test_one_environment_probes_for_the_fleet_and_closes_it(fleet: Fleet) -> None:
    fleet.open()
    fleet.clock.advance(1)
    first, second = fleet.environment("first"), fleet.environment("second")

    async def probe() -> None:
        held = await first.acquire(remaining_s=10)
        assert held.token
        with pytest.raises(CircuitOpen) as caught:
            await second.acquire(remaining_s=10)
        assert caught.value.retry_after_s == pytest.approx(2.02)  # the lease: the call's time-out and two budgets
        await first.settle(held, Outcome.SUCCESS, remaining_s=10)

    run(probe())
    assert second.breaker.snapshot().in_flight == 0
    fleet.clock.advance(1)
    assert guarded(second, answer) == "ok"
    assert guarded(fleet.environment("third"), answer) == "ok"
    assert fleet.store.store.fleet is None


@pytest.mark.parametrize("outcome", [Outcome.FAILURE, Outcome.SLOW])
def test_a_bad_probe_keeps_the_fleet_open_for_twice_as_long(fleet: Fleet, outcome: Outcome) -> None:
    fleet.open()
    fleet.clock.advance(1)
    prober = fleet.environment("prober")

    async def probe() -> None:
        await prober.settle(await prober.acquire(remaining_s=10), outcome, remaining_s=10)

    run(probe())
    assert rejection(fleet.environment("other")).retry_after_s == 2.0


@pytest.mark.parametrize("outcome", [Outcome.IGNORED, Outcome.ABANDONED])
def test_a_probe_that_says_nothing_gives_the_lease_back(fleet: Fleet, outcome: Outcome) -> None:
    fleet.open()
    fleet.clock.advance(1)
    prober = fleet.environment("prober")

    async def probe() -> None:
        await prober.settle(await prober.acquire(remaining_s=10), outcome, remaining_s=10)
        held = await fleet.environment("other").acquire(remaining_s=10)
        assert held.token

    run(probe())


def test_a_probe_that_never_comes_back_costs_one_lease_and_one_interval(fleet: Fleet) -> None:
    fleet.open()
    fleet.clock.advance(1)
    run(fleet.environment("killed").acquire(remaining_s=10))
    fleet.clock.advance(2.02)
    other = fleet.environment("other")
    assert rejection(other).retry_after_s == 2.0
    fleet.clock.advance(2.0)
    assert [guarded(other, answer) for _ in range(2)] == ["ok", "ok"]
    assert fleet.store.store.fleet is None


def test_the_environment_s_own_no_is_final(fleet: Fleet) -> None:
    environment = fleet.environment("a")
    open_it(environment)
    actions(fleet.store)
    assert rejection(environment).retry_after_s == 1.0
    assert actions(fleet.store) == []


# When it asks


def test_it_asks_once_a_second_and_not_per_call(fleet: Fleet) -> None:
    environment = fleet.environment("a")
    for _ in range(20):
        guarded(environment, answer)
        fleet.clock.advance(0.25)
    assert actions(fleet.store) == [("a", "admit", 0)] * 5


def test_it_tells_that_it_opened_asks_before_it_probes_and_tells_that_it_closed(fleet: Fleet) -> None:
    environment = fleet.environment("a")
    open_it(environment)
    assert actions(fleet.store) == [("a", "admit", 0), ("a", "look", 1)]
    assert fleet.store.store.votes == (("a", (START_S + 30) * 1000),)
    fleet.clock.advance(1)
    guarded(environment, answer)
    guarded(environment, answer)
    assert environment.breaker.state is State.CLOSED
    # The half-open state is no news to the fleet, but is told with what is told anyway.
    assert [a for a in actions(fleet.store) if a[2]] == [("a", "look", -1)]
    assert fleet.store.store.votes == ()


def test_a_vote_nobody_heard_is_cast_with_the_next_exchange_that_finds_it_open(fleet: Fleet) -> None:
    environment = fleet.environment("a")
    fleet.store.trouble = "down"
    open_it(environment)
    assert fleet.store.store.votes == ()
    fleet.store.trouble = None
    fleet.clock.advance(1)
    with pytest.raises(DownError):
        guarded(environment, fail)  # its probe
    assert dict(fleet.store.store.votes).keys() == {"a"}


def test_a_rejection_of_the_fleet_s_is_remembered_for_no_longer_than_the_poll(fleet: Fleet) -> None:
    fleet.open()
    fleet.clock.advance(1)
    run(fleet.environment("prober").acquire(remaining_s=10))
    other = fleet.environment("other")
    actions(fleet.store)
    for _ in range(10):
        rejection(other)
    assert actions(fleet.store) == [("other", "admit", 0)]
    fleet.clock.advance(1)
    fleet.store.lose_everything()
    assert guarded(other, answer) == "ok"


def acquired_by_fifty(environment: VotingBreaker) -> tuple[int, int]:
    """How many of fifty calls at once were admitted, and how many rejected."""

    async def main() -> tuple[int, int]:
        acquires = [environment.acquire(remaining_s=10) for _ in range(50)]
        results = await asyncio.gather(*acquires, return_exceptions=True)
        admitted = [r for r in results if isinstance(r, Held)]
        return len(admitted), len([r for r in results if isinstance(r, CircuitOpen)])

    return run(main())


def test_while_one_call_asks_the_others_go_by_a_closed_verdict(fleet: Fleet) -> None:
    fleet.store.trouble = "slow"
    assert acquired_by_fifty(fleet.environment("a", PATIENT)) == (50, 0)
    assert len(fleet.store.exchanges) == 1


def test_while_one_call_asks_for_the_lease_the_others_do_not_pass_it(fleet: Fleet) -> None:
    environment = fleet.environment("a", PATIENT)
    fleet.open()
    rejection(environment)
    clock_to_the_end_of(fleet)
    fleet.store.trouble = "slow"
    fleet.store.exchanges.clear()
    assert acquired_by_fifty(environment) == (1, 49)
    assert len(fleet.store.exchanges) == 1


def test_a_call_cancelled_while_it_asks_returns_its_place_and_lets_nobody_pass(fleet: Fleet) -> None:
    environment = fleet.environment("a", PATIENT)
    fleet.open()
    rejection(environment)
    clock_to_the_end_of(fleet)
    fleet.store.trouble = "slow"

    async def main() -> None:
        asking = asyncio.ensure_future(environment.acquire(remaining_s=10))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    run(main())
    assert environment.breaker.snapshot().in_flight == 0
    fleet.clock.advance(PATIENT.budget_s)
    assert acquired_by_fifty(environment) == (1, 49)


def clock_to_the_end_of(fleet: Fleet) -> None:
    """The end of the fleet's open interval."""
    assert fleet.store.store.fleet is not None
    fleet.clock.now_s = fleet.store.store.fleet.open_until / 1000


# Trouble


@pytest.mark.parametrize("trouble", ["down", "reply lost"])
def test_without_the_store_the_environment_decides_alone(fleet: Fleet, trouble: str) -> None:
    environment = fleet.environment("a")
    fleet.store.trouble = trouble
    assert guarded(environment, answer) == "ok"
    error = "connection refused" if trouble == "down" else "connection reset"
    assert fleet.events == [Degraded("quotes", fleet.clock(), f"StoreDownError: {error}")]
    open_it(environment)
    assert rejection(environment).retry_after_s == 1.0


def test_after_trouble_the_store_is_left_alone_for_a_poll_and_after_three_times_for_longer(fleet: Fleet) -> None:
    environment = fleet.environment("a", VoteSettings(poll_s=0.25))
    fleet.store.trouble = "down"
    asked_at_s = []
    for _ in range(40):
        assert guarded(environment, answer) == "ok"
        if fleet.store.exchanges:
            asked_at_s.append(fleet.clock() - START_S)
            fleet.store.exchanges.clear()
        fleet.clock.advance(0.125)
    assert asked_at_s == [0, 0.25, 0.5, 1.5, 3.5]
    fleet.store.trouble = None
    fleet.clock.advance(30)
    guarded(environment, answer)
    assert len(fleet.store.exchanges) == 1


def test_after_trouble_nothing_is_left_of_what_the_store_had_said(fleet: Fleet) -> None:
    environment = fleet.environment("a", PATIENT)
    fleet.open()
    rejection(environment)
    fleet.store.trouble = "down"
    fleet.clock.advance(1)
    assert guarded(environment, answer) == "ok"
    fleet.clock.advance(1)
    fleet.store.lose_everything()
    fleet.store.trouble = "slow"
    assert acquired_by_fifty(environment) == (50, 0)


def test_a_store_that_fails_takes_its_rejections_with_it(fleet: Fleet) -> None:
    environment = fleet.environment("a")
    fleet.open()
    fleet.clock.advance(0.5)
    assert rejection(environment).retry_after_s == 0.5
    fleet.store.trouble = "down"
    fleet.clock.advance(1)
    assert guarded(environment, answer) == "ok"
    assert guarded(environment, answer) == "ok"


def test_without_time_left_nothing_is_exchanged_and_the_store_is_not_to_blame(fleet: Fleet) -> None:
    environment = fleet.environment("a")

    async def main() -> None:
        held = await environment.acquire(remaining_s=0)
        await environment.settle(held, Outcome.ABANDONED, remaining_s=0)

    run(main())
    assert fleet.store.exchanges == []
    assert fleet.events == []
    fleet.clock.advance(1)
    run(environment.acquire(remaining_s=0.001))
    assert len(fleet.store.exchanges) == 1


def test_a_call_has_what_is_left_after_the_question_and_the_news_have_what_is_left_after_the_call(fleet: Fleet) -> None:
    environment = fleet.environment("a")

    async def hang() -> str:
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(TimeoutError, match=r"no answer in 0\.020 s"):
        run(environment.call(hang, remaining_s=0.02, failures=DownError))

    async def fail_late() -> str:
        fleet.clock.advance(1.5)
        raise DownError

    actions(fleet.store)
    for _ in range(3):
        with pytest.raises(DownError):
            run(environment.call(fail_late, remaining_s=1, failures=DownError))
    assert environment.breaker.state is State.OPEN
    assert {action for _, action, _ in actions(fleet.store)} == {"admit"}


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.DISABLED, Mode.FORCED_OPEN])
def test_a_breaker_that_does_not_enforce_takes_no_part(clock: FakeClock, mode: Mode) -> None:
    fleet = Fleet(clock, SETTINGS._replace(mode=mode))
    environment = fleet.environment("a")
    for _ in range(10):
        with suppress(DownError, CircuitOpen):
            guarded(environment, fail)
    with suppress(CircuitOpen):
        assert run(environment.acquire(remaining_s=10)).token == 0
    assert fleet.store.exchanges == []


def test_a_listener_that_raises_is_counted_and_not_the_caller_s_error(fleet: Fleet) -> None:
    def raises(_: VoteEvent) -> None:
        raise RuntimeError("metrics are down")

    breaker = CircuitBreaker("quotes", SETTINGS, clock=fleet.clock)
    environment = VotingBreaker(breaker, fleet.store, environment_id="a", clock=fleet.clock, on_event=raises)
    fleet.store.trouble = "down"
    for errors in (1, 2):
        assert guarded(environment, answer) == "ok"
        assert environment.on_event_errors == errors
        fleet.clock.advance(1)


@pytest.mark.parametrize("bad", [{"quorum": 0}, {"poll_s": 0.0}, {"vote_s": -1.0}, {"budget_s": 0.0}])
def test_a_bad_setting_is_refused(fleet: Fleet, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^circuit 'quotes': .*{next(iter(bad))}.*must be above 0"):
        fleet.environment("a", VoteSettings(**bad))


# A real server


@pytest.mark.parametrize(
    "same",
    [
        "redis://cache:6379/1",
        "redis://CACHE",
        "rediss://user:secret@cache:6379/0",
        "redis://cache?protocol=3",
    ],
)
def test_votes_cannot_be_kept_in_the_redis_they_are_about(same: str) -> None:
    with pytest.raises(ValueError, match="votes about cache:6379 cannot be kept in cache:6379") as caught:
        RedisVoteStore(same, protects="redis://:password@cache:6379/0")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "LOCALHOST"])
def test_the_loopback_is_one_server_by_any_name(host: str) -> None:
    with pytest.raises(ValueError, match="another Redis"):
        RedisVoteStore("redis://localhost:6390/0", protects=f"redis://{host}:6390/1")


def test_another_server_may_keep_them(votes_redis: Redis) -> None:
    for protects in (None, "redis://cache:6379/0", f"redis://{votes_redis.host}:{votes_redis.port + 1}/0"):
        RedisVoteStore(votes_redis.url(), protects=protects)


def real_environment(store: RedisVoteStore, environment_id: str, events: list[VoteEvent]) -> VotingBreaker:
    """By real clocks, and with a budget that a busy machine keeps."""
    breaker = CircuitBreaker("real", SETTINGS._replace(open_base_s=30.0), rng=lambda: 1.0)
    return VotingBreaker(breaker, store, environment_id=environment_id, settings=PATIENT, on_event=events.append)


def test_three_environments_open_the_fleet_through_a_real_server(votes_redis: Redis) -> None:
    events: list[VoteEvent] = []

    async def main() -> CircuitOpen:
        store = RedisVoteStore(votes_redis.url(), protects=None)
        try:
            for name in ("a", "b", "c"):
                environment = real_environment(store, name, events)
                for _ in range(3):
                    with pytest.raises(DownError):
                        await environment.call(fail, remaining_s=10, failures=DownError)
            with pytest.raises(CircuitOpen) as caught:
                await real_environment(store, "d", events).call(answer, remaining_s=10, failures=DownError)
            return caught.value
        finally:
            await store.aclose()

    assert 0 < run(main()).retry_after_s <= 30
    assert not [e for e in events if isinstance(e, Degraded)]


BRIEF = BreakerSettings(slow_s=0.2, call_timeout_s=0.2, calls_min=3, open_base_s=0.1, open_max_s=0.1)
UNHURRIED = VoteSettings(quorum=1, poll_s=0.001, budget_s=1.0)
TAKES_THE_LEASE = """
import asyncio, sys
from shared.kit.breaker import CircuitBreaker
from shared.kit.breaker_votes import RedisVoteStore, VotingBreaker
from tests.shared.kit.test_votes import BRIEF, UNHURRIED

async def main():
    store = RedisVoteStore(sys.argv[1], protects=None)
    breaker = CircuitBreaker("killed", BRIEF)
    held = await VotingBreaker(breaker, store, environment_id="p", settings=UNHURRIED).acquire(remaining_s=60)
    print(held.token, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_probe_whose_process_is_killed_is_made_up_for_within_its_lease_and_an_interval(votes_redis: Redis) -> None:
    """The other environments only ever wait for as long as they are told."""

    async def main() -> list[float]:
        store = RedisVoteStore(votes_redis.url(), protects=None)
        breaker = CircuitBreaker("killed", BRIEF, rng=lambda: 0.0)
        environment = VotingBreaker(breaker, store, environment_id="a", settings=UNHURRIED)
        waits_s: list[float] = []
        try:
            for _ in range(3):
                with pytest.raises(DownError):
                    await environment.call(fail, remaining_s=60, failures=DownError)
            await asyncio.sleep(BRIEF.open_base_s)
            kill_a_process_that_has_the_lease(votes_redis.url())
            while True:
                try:
                    held = await environment.acquire(remaining_s=60)
                except CircuitOpen as error:
                    waits_s.append(error.retry_after_s)
                    await asyncio.sleep(error.retry_after_s)
                else:
                    assert held.token
                    return waits_s
        finally:
            await store.aclose()

    waits_s = run(main())
    lease_s = BRIEF.call_timeout_s + 2 * UNHURRIED.budget_s
    assert waits_s  # the lease was held, and nobody passed it
    assert sum(waits_s) <= lease_s + BRIEF.open_max_s + 0.01  # the server counts in milliseconds


def kill_a_process_that_has_the_lease(url: str) -> None:
    command = [sys.executable, "-c", TAKES_THE_LEASE, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout
        try:
            assert int(process.stdout.readline()) > 0
        finally:
            process.kill()


@contextmanager
def stopped(server: Redis) -> Iterator[None]:
    """A black hole: connections are accepted, and nobody ever answers."""
    assert server.pid
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@contextmanager
def nobody_listens() -> Iterator[str]:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{reserved.getsockname()[1]}/0"


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def calls_alone(url: str) -> list[VoteEvent]:
    """Ten calls with everything as it is in production; their events."""
    events: list[VoteEvent] = []
    store = RedisVoteStore(url, protects=None)
    breaker = CircuitBreaker("quotes", SETTINGS)
    environment = VotingBreaker(
        breaker, store, environment_id="a", settings=VoteSettings(poll_s=1e-9), on_event=events.append
    )
    try:
        for _ in range(10):
            assert await environment.call(answer, remaining_s=10, failures=DownError) == "ok"
    finally:
        await store.aclose()
    assert breaker.snapshot().calls == 10
    return events


def test_a_server_that_does_not_answer_costs_three_budgets_and_then_nothing(votes_redis: Redis) -> None:
    with stopped(votes_redis):
        events = run(calls_alone(votes_redis.url()))
    assert events
    assert len(events) <= 4  # three that open its own breaker, and a probe of it if this machine is slow
    for event in events:
        assert isinstance(event, Degraded)
        assert event.error == "TimeoutError: quotes-votes: no answer in 0.008 s"


def test_a_server_that_is_not_there_costs_no_retry() -> None:
    with nobody_listens() as url:
        events = run(calls_alone(url))
    assert 3 <= len(events) <= 4
    for event in events:
        assert isinstance(event, Degraded)


def test_no_late_answer_is_taken_for_another_s_and_no_connection_is_left_behind(votes_redis: Redis) -> None:
    """What redis-py does with a connection whose caller was cut off in the middle is its own affair until it is ours."""
    look = Exchange("a", 0, "look", 0, 0, 1, 30_000, 30_000, 30_000, 1)

    async def main() -> None:
        store = RedisVoteStore(votes_redis.url(), protects=None)
        try:
            assert await store.exchange("late", look) == Reply(0, 0, 0)
            before = open_descriptors()
            with stopped(votes_redis):
                for n in range(20):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.005):
                            await store.exchange(f"open-{n}", look._replace(vote=1))  # to be answered REJECT
            for _ in range(20):
                assert await store.exchange("late", look) == Reply(0, 0, 0)
            assert open_descriptors() <= before + 1
        finally:
            await store.aclose()

    run(main())
