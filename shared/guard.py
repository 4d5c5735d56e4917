"""One awaited call behind a breaker: owns the time-out and the verdict, knows nothing of what is awaited."""

from asyncio import timeout
from collections.abc import Awaitable, Callable

from shared.breaker import CircuitBreaker, Outcome


async def call[T](
    breaker: CircuitBreaker,
    fn: Callable[[], Awaitable[T]],
    *,
    remaining_s: float,
    failures: type[Exception] | tuple[type[Exception], ...],
) -> T:
    """What `fn` returns or raises; CircuitOpen if it was not called; TimeoutError if it did not answer in time.

    `failures` are the exceptions that speak against the dependency; any other is its answer to this one request and
    counts nothing. `remaining_s` is what the caller has left. Wrap only the I/O: what `fn` also does is timed as well.
    """
    if remaining_s <= 0:
        raise TimeoutError(f"{breaker.name}: no time left to call it")
    permit = breaker.acquire()
    outcome = Outcome.ABANDONED  # stands for whatever is not named below: cancellation, and the environment's end
    bound = timeout(timeout_s := permit.timeout_s(remaining_s))
    try:
        async with bound:
            result = await fn()
        outcome = Outcome.SUCCESS
        return result
    except TimeoutError as error:
        if not bound.expired():
            outcome = Outcome.FAILURE if isinstance(error, failures) else Outcome.IGNORED
            raise
        # Cut short by the caller's own deadline, it had no fair chance: evidence only if it was slow by then.
        outcome = Outcome.FAILURE if timeout_s >= permit.limit_s else Outcome.ABANDONED
        raise TimeoutError(f"{breaker.name}: no answer in {timeout_s:.3f} s") from error
    except failures:
        outcome = Outcome.FAILURE
        raise
    except Exception:
        outcome = Outcome.IGNORED
        raise
    finally:
        permit.settle(outcome)
