"""Fifty callers arrive at once: how many of them reach the dependency."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.kit.breaker import BreakerSettings, CircuitBreaker
from shared.kit.circuit import CircuitOpen, Outcome, State
from shared.kit.guard import call

CALLERS = 50
WAIT_S = 10.0  # the bound of every wait in here; nothing is expected to take it


class UnavailableError(Exception):
    pass


class FakeClock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def about_to_probe(clock: FakeClock) -> CircuitBreaker:
    """Open, and its interval has just passed."""
    breaker = CircuitBreaker("quotes", BreakerSettings(slow_s=60, call_timeout_s=60, calls_min=3), clock=clock)
    for _ in range(3):
        breaker.acquire().settle(Outcome.FAILURE)
    clock.now_s += 1
    return breaker


@pytest.mark.parametrize("healthy", [True, False])
def test_of_fifty_tasks_at_half_open_one_reaches_the_dependency(about_to_probe: CircuitBreaker, healthy: bool) -> None:
    reached: list[None] = []

    async def main() -> list[str | BaseException]:
        others_are_rejected = asyncio.Event()

        async def dependency() -> str:
            reached.append(None)
            await others_are_rejected.wait()
            if not healthy:
                raise UnavailableError
            return "ok"

        tasks = [
            asyncio.create_task(call(about_to_probe, dependency, remaining_s=60, failures=UnavailableError))
            for _ in range(CALLERS)
        ]
        async with asyncio.timeout(WAIT_S):
            rejected, _ = await asyncio.wait(tasks[1:])
            assert len(rejected) == CALLERS - 1
            others_are_rejected.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    assert len(reached) == 1
    assert len([r for r in results if isinstance(r, CircuitOpen)]) == CALLERS - 1
    assert about_to_probe.state is (State.HALF_OPEN if healthy else State.OPEN)


def test_of_fifty_threads_at_half_open_one_reaches_the_dependency(about_to_probe: CircuitBreaker) -> None:
    start = threading.Barrier(CALLERS)
    rejected = threading.Semaphore(0)
    reached: list[None] = []

    def caller() -> bool:
        start.wait(WAIT_S)
        try:
            permit = about_to_probe.acquire()
        except CircuitOpen:
            rejected.release()
            return False
        reached.append(None)
        for _ in range(CALLERS - 1):
            assert rejected.acquire(timeout=WAIT_S)
        permit.settle(Outcome.SUCCESS)
        return True

    with ThreadPoolExecutor(CALLERS) as pool:
        admitted = list(pool.map(lambda _: caller(), range(CALLERS)))
    assert (sum(admitted), len(reached)) == (1, 1)
    assert about_to_probe.snapshot().probes_succeeded == 1


def test_no_lock_is_held_during_a_call(clock: FakeClock) -> None:
    """With a lock across the call the barrier would never fill: every caller has to be inside at the same time."""
    breaker = CircuitBreaker("quotes", BreakerSettings(slow_s=60, call_timeout_s=60), clock=clock)
    inside = threading.Barrier(CALLERS)

    def caller() -> None:
        permit = breaker.acquire()
        inside.wait(WAIT_S)
        permit.settle(Outcome.SUCCESS)

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(lambda _: caller(), range(CALLERS)))
    assert (breaker.snapshot().calls, breaker.snapshot().in_flight) == (CALLERS, 0)


def test_threads_lose_no_count(clock: FakeClock) -> None:
    settings = BreakerSettings(slow_s=60, call_timeout_s=60, failure_rate=1.0)
    breaker = CircuitBreaker("quotes", settings, clock=clock)
    breaker.acquire().settle(Outcome.SUCCESS)
    start = threading.Barrier(8)

    def caller() -> None:
        start.wait(WAIT_S)
        for n in range(500):
            breaker.acquire().settle(Outcome.FAILURE if n % 2 else Outcome.SUCCESS)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: caller(), range(8)))
    snapshot = breaker.snapshot()
    assert (snapshot.calls, snapshot.failures, snapshot.in_flight) == (4001, 2000, 0)
