"""Runs one awaitable call behind a circuit breaker, with the timeout that the breaker gives it."""

from asyncio import timeout
from collections.abc import Awaitable, Callable

from shared.kit.breaker import CircuitBreaker, Permit
from shared.kit.circuit import Outcome

type ExceptionTypes = type[Exception] | tuple[type[Exception], ...]


async def call[T](
    breaker: CircuitBreaker, fn: Callable[[], Awaitable[T]], *, remaining_s: float, failures: ExceptionTypes
) -> T:
    """What `fn` returns or raises; CircuitOpen if it was not called; TimeoutError if it did not answer in time.

    `failures` are the exceptions that speak against the dependency; any other is its answer to this one request and
    counts nothing. `remaining_s` is what the caller has left. Wrap only the I/O: what `fn` also does is timed as well.
    """
    return await call_with(breaker.acquire(), fn, remaining_s=remaining_s, failures=failures)


async def call_with[T](
    permit: Permit, fn: Callable[[], Awaitable[T]], *, remaining_s: float, failures: ExceptionTypes
) -> T:
    """The same with a permit in hand, which it settles."""
    outcome = Outcome.ABANDONED  # stands for whatever is not named below: cancellation, and the environment's end
    timeout_s = permit.timeout_s(remaining_s)
    bound = timeout(timeout_s)
    try:
        if timeout_s <= 0:
            raise TimeoutError("no time left")
        async with bound:
            result = await fn()
        outcome = Outcome.SUCCESS
        return result
    except TimeoutError as error:
        if timeout_s > 0 and not bound.expired():
            outcome = Outcome.FAILURE if isinstance(error, failures) else Outcome.IGNORED
            raise
        # Cut short by the caller's own deadline, it had no fair chance: evidence only if it was slow by then.
        outcome = Outcome.FAILURE if timeout_s >= permit.limit_s else Outcome.ABANDONED
        raise TimeoutError(f"{permit.name}: no answer in {timeout_s:.3f} s") from error
    except failures:
        outcome = Outcome.FAILURE
        raise
    except Exception:
        outcome = Outcome.IGNORED
        raise
    finally:
        permit.settle(outcome)
