"""What one guarded call leaves in the breaker, on a real event loop."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.kit.breaker import BreakerSettings, CircuitBreaker
from shared.kit.circuit import CircuitOpen, Mode, State
from shared.kit.guard import call

BRIEF_S = 0.02


class UnavailableError(Exception):
    pass


class NotFoundError(Exception):
    pass


def build(*, slow_s: float = 30.0, call_timeout_s: float = 60.0, mode: Mode = Mode.ENFORCE) -> CircuitBreaker:
    settings = BreakerSettings(slow_s=slow_s, call_timeout_s=call_timeout_s, calls_min=3, mode=mode)
    return CircuitBreaker("quotes", settings)


async def answer() -> str:
    await asyncio.sleep(0)
    return "ok"


async def hang() -> str:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets the event")


def raises(error: Exception) -> Callable[[], Awaitable[str]]:
    async def fn() -> str:
        raise error

    return fn


def counts(breaker: CircuitBreaker) -> tuple[int, int, int, int]:
    snapshot = breaker.snapshot()
    return snapshot.calls, snapshot.failures, snapshot.slow, snapshot.in_flight


def guarded(breaker: CircuitBreaker, fn: Callable[[], Awaitable[str]], remaining_s: float = 60.0) -> Awaitable[str]:
    return call(breaker, fn, remaining_s=remaining_s, failures=(UnavailableError, ConnectionError))


def test_an_answer_comes_through_and_counts() -> None:
    breaker = build()
    assert asyncio.run(_run(guarded(breaker, answer))) == "ok"
    assert counts(breaker) == (1, 0, 0, 0)


@pytest.mark.parametrize("error", [UnavailableError("no route"), ConnectionResetError("gone")])
def test_a_chosen_exception_is_a_failure_and_comes_through(error: Exception) -> None:
    breaker = build()
    with pytest.raises(type(error)) as caught:
        asyncio.run(_run(guarded(breaker, raises(error))))
    assert caught.value is error
    assert counts(breaker) == (1, 1, 0, 0)


@pytest.mark.parametrize("error", [NotFoundError("42"), TimeoutError("of something else")])
def test_any_other_exception_counts_nothing_and_comes_through(error: Exception) -> None:
    breaker = build()
    with pytest.raises(type(error)) as caught:
        asyncio.run(_run(guarded(breaker, raises(error))))
    assert caught.value is error
    assert counts(breaker) == (0, 0, 0, 0)


def test_the_dependency_s_own_time_out_is_a_failure_where_chosen() -> None:
    breaker = build()
    with pytest.raises(TimeoutError, match="statement timeout"):
        asyncio.run(
            _run(call(breaker, raises(TimeoutError("statement timeout")), remaining_s=60, failures=TimeoutError))
        )
    assert counts(breaker) == (1, 1, 0, 0)


def test_a_hang_is_cut_off_and_is_a_failure() -> None:
    breaker = build(slow_s=BRIEF_S, call_timeout_s=BRIEF_S)
    with pytest.raises(TimeoutError, match=r"^quotes: no answer in 0\.020 s$"):
        asyncio.run(_run(guarded(breaker, hang)))
    assert counts(breaker) == (1, 1, 1, 0)


def test_a_hang_opens_the_circuit() -> None:
    breaker = build(slow_s=BRIEF_S, call_timeout_s=BRIEF_S)

    async def three() -> None:
        await asyncio.gather(*[guarded(breaker, hang) for _ in range(3)], return_exceptions=True)

    asyncio.run(three())
    assert breaker.state is State.OPEN


def test_a_call_that_its_caller_cut_short_is_no_evidence() -> None:
    breaker = build()
    with pytest.raises(TimeoutError, match=r"no answer in 0\.020 s"):
        asyncio.run(_run(guarded(breaker, hang, remaining_s=BRIEF_S)))
    assert counts(breaker) == (0, 0, 0, 0)


def test_a_call_that_its_caller_cut_short_when_it_was_slow_already_is_slow() -> None:
    breaker = build(slow_s=BRIEF_S / 2)
    with pytest.raises(TimeoutError):
        asyncio.run(_run(guarded(breaker, hang, remaining_s=BRIEF_S)))
    assert counts(breaker) == (1, 0, 1, 0)


def test_without_time_left_nothing_is_called() -> None:
    breaker = build()
    called: list[None] = []

    async def fn() -> str:
        called.append(None)
        return "ok"

    with pytest.raises(TimeoutError, match=r"quotes: no answer in 0\.000 s"):
        asyncio.run(_run(guarded(breaker, fn, remaining_s=0)))
    assert not called
    assert counts(breaker) == (0, 0, 0, 0)


def test_cancellation_returns_the_place_and_counts_nothing() -> None:
    breaker = build()

    async def cancel_one() -> None:
        task = asyncio.ensure_future(guarded(breaker, hang))
        await asyncio.sleep(0)
        assert breaker.snapshot().in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_one())
    assert counts(breaker) == (0, 0, 0, 0)


def test_an_outer_time_out_is_cancellation_and_still_evidence_once_slow() -> None:
    """The commonest way to hide a hang from a breaker: a time-out around it instead of inside."""
    breaker = build(slow_s=BRIEF_S / 2)

    async def outer() -> None:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(guarded(breaker, hang), BRIEF_S)

    asyncio.run(outer())
    assert breaker.state is State.OPEN


def test_a_cancelled_probe_neither_closes_nor_wedges_the_circuit() -> None:
    now_s = [0.0]
    settings = BreakerSettings(slow_s=30, call_timeout_s=60, calls_min=3)
    breaker = CircuitBreaker("quotes", settings, clock=lambda: now_s[0])

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await guarded(breaker, raises(UnavailableError()))
        now_s[0] += 1
        probe = asyncio.ensure_future(guarded(breaker, hang))
        await asyncio.sleep(0)
        assert breaker.snapshot().probe_in_flight
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert breaker.snapshot().state is State.HALF_OPEN
        assert not breaker.snapshot().probe_in_flight
        assert [await guarded(breaker, answer) for _ in range(2)] == ["ok", "ok"]
        assert breaker.snapshot().state is State.CLOSED

    asyncio.run(main())


def test_an_open_circuit_calls_nothing() -> None:
    breaker = build(mode=Mode.FORCED_OPEN)
    called: list[None] = []

    async def fn() -> str:
        called.append(None)
        return "ok"

    with pytest.raises(CircuitOpen):
        asyncio.run(_run(guarded(breaker, fn)))
    assert not called


def test_a_breaker_outlives_its_event_loop() -> None:
    """An environment may run one loop per invocation."""
    breaker = build()
    for _ in range(3):
        asyncio.run(_run(guarded(breaker, answer)))
    assert counts(breaker) == (3, 0, 0, 0)


async def _run[T](awaitable: Awaitable[T]) -> T:
    return await awaitable
