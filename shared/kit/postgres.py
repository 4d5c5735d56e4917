"""Runs work on Postgres: pool, circuit breaker, deadline, and a promise about how often the work runs.

    run_idempotent   for reads, and whatever may run twice: runs once more after a lost connection or a deadlock
    run_with_key     the same for a write behind an idempotency key; OutcomeUnknown says that a retry is safe
    run_once         for any other write: never repeated; OutcomeUnknown if it may have been done

What each failure means is in `postgres_errors.py`.
"""

import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from enum import Enum
from random import SystemRandom
from typing import Any

from asyncpg import exceptions as pg

from shared.kit import telemetry
from shared.kit.breaker import CircuitBreaker, Permit
from shared.kit.circuit import CircuitOpen, Event, Outcome, Rejected, Transition
from shared.kit.clock import FreezeSafeClock
from shared.kit.deadline import Deadline
from shared.kit.pool import Connection, Measure, Member, Pool
from shared.kit.postgres_connect import connect, logins_for, session_settings
from shared.kit.postgres_errors import (
    AS_RAISED,
    CLOSES,
    MAY_BE_DONE,
    OUTCOMES,
    RUNS_AGAIN,
    Kind,
    kind_of,
    kind_of_connecting,
)
from shared.kit.problems import CircuitIsOpen, Contention, OutcomeUnknown, Problem, TimedOut, Unavailable
from shared.kit.settings import PostgresSettings


class Promise(Enum):
    IDEMPOTENT = "idempotent"
    KEYED = "keyed"
    ONCE = "once"


class Failed(Exception):
    """One attempt failed; the cause is chained. `began`: the work had been called by then."""

    def __init__(self, kind: Kind, *, began: bool) -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.may_be_done = began and kind in MAY_BE_DONE


class Database:
    """Postgres for one environment. Every use has a bound, and every failure is a Problem. Belongs to one event loop."""

    def __init__(
        self,
        settings: PostgresSettings,
        *,
        clock: Callable[[], float] | None = None,
        measure: Measure = telemetry.measure,
    ) -> None:
        clock = clock or FreezeSafeClock()
        self._settings = settings
        self._logins = logins_for(settings)
        self._measure = measure
        self.breaker = CircuitBreaker(
            "postgres",
            settings.breaker._replace(call_timeout_s=settings.connecting_s + settings.query_s),
            clock=clock,
            # Environments restored from one snapshot share the state of random.random, and would draw the same jitter.
            rng=SystemRandom().random,
            on_event=self._circuit_event,
        )
        self.pool = Pool(
            self._connect,
            size=settings.pool_max,
            queue_max=settings.queue_max,
            idle_max_s=settings.idle_max_s,
            clock=clock,
            measure=measure,
        )

    async def run_idempotent[*A, T](
        self, deadline: Deadline, work: Callable[[Connection, *A], Awaitable[T]], *args: *A
    ) -> T:
        """The result of `work(connection, *args)`, which may run twice.

        Runs it again, once, on a new connection if the first is lost, and after a deadlock or serialization failure.
        Raises Unavailable (also Overloaded, Contention, CircuitIsOpen) and TimedOut, and whatever `work` raises.
        """
        return await self._call(deadline, Promise.IDEMPOTENT, work, args)

    async def run_with_key[*A, T](
        self, deadline: Deadline, work: Callable[[Connection, *A], Awaitable[T]], *args: *A
    ) -> T:
        """As run_idempotent, for a write that `shared.kit.idempotency` protects.

        Raises OutcomeUnknown in the place of Unavailable and TimedOut if the work may have been done.
        """
        return await self._call(deadline, Promise.KEYED, work, args)

    async def run_once[*A, T](self, deadline: Deadline, work: Callable[[Connection, *A], Awaitable[T]], *args: *A) -> T:
        """The result of `work(connection, *args)`, which runs at most once: one statement, or one transaction.

        Raises OutcomeUnknown if the connection or the time was lost after the work began, else as run_idempotent.
        """
        return await self._call(deadline, Promise.ONCE, work, args)

    async def aclose(self) -> None:
        await self.pool.aclose()

    async def _call[T](
        self, deadline: Deadline, promise: Promise, work: Callable[..., Awaitable[T]], args: tuple[Any, ...]
    ) -> T:
        await self.pool.enter(deadline.timeout_s(self._settings.acquire_timeout_s))
        try:
            permit = self._permit()
            outcome = Outcome.ABANDONED  # stands for whatever is not named below, as cancellation
            begun_s = time.perf_counter()
            try:
                result = await self._attempts(Deadline(deadline.timeout_s(permit.limit_s)), promise, work, args)
                outcome = Outcome.SUCCESS
                return result
            except Failed as failed:
                outcome = OUTCOMES[failed.kind]
                raise _problem_of(failed, promise) from failed.__cause__
            except TimedOut:
                raise
            except (Problem, pg.PostgresError):
                outcome = Outcome.SUCCESS  # it answered; that the answer was no is not the database's failure
                raise
            except Exception:
                outcome = Outcome.IGNORED  # a mistake of the work's, which says nothing about the database
                raise
            finally:
                telemetry.spend("db", begun_s, failed=outcome is Outcome.FAILURE)
                permit.settle(outcome)
        finally:
            self.pool.leave()
            self._measure(telemetry.CONNECTIONS_OPEN, self.pool.open)
            if self._settings.connection_budget:
                self._measure(telemetry.CONNECTION_BUDGET, self._settings.connection_budget)

    async def _attempts[T](
        self, call: Deadline, promise: Promise, work: Callable[..., Awaitable[T]], args: tuple[Any, ...]
    ) -> T:
        """Raises Failed for the last attempt; it may have been done if it may have been in any of them."""
        may_be_done = False
        last = promise is Promise.ONCE
        while True:
            try:
                return await self._attempt(call, work, args)
            except Failed as failed:
                cause = failed.__cause__
                telemetry.logger.warning(
                    telemetry.DATABASE_FAILED,
                    kind=failed.kind.value,
                    error_type=type(cause or failed).__name__,
                    sqlstate=getattr(cause, "sqlstate", None),
                )
                failed.may_be_done = may_be_done = may_be_done or failed.may_be_done
                if last or failed.kind not in RUNS_AGAIN:
                    raise
            last = True

    async def _attempt[T](self, call: Deadline, work: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
        member = await self._take(call)
        clean = False
        remaining_s = call.remaining_s()
        member.begin(min(self._settings.query_s, max(0.0, remaining_s)))
        try:
            result = await work(member.connection, *args)
            clean = True
            return result
        except (Exception, CancelledError) as error:
            if member.expired:
                if member.finish() and isinstance(error, CancelledError):
                    raise  # the task was cancelled from outside as well
                kind = Kind.TIMEOUT if remaining_s >= self._settings.query_s else Kind.CUT_SHORT
                raise Failed(kind, began=True) from error
            known = kind_of(error, closed=member.connection.is_closed())
            clean = known not in CLOSES if known else isinstance(error, Problem)
            if known is None or known in AS_RAISED:
                raise
            raise Failed(known, began=True) from error
        finally:
            member.finish()
            self.pool.put(member, clean=clean)

    async def _take(self, call: Deadline) -> Member:
        connecting_s = self._settings.connecting_s
        remaining_s = call.remaining_s()
        if remaining_s <= 0:
            raise Failed(Kind.CUT_SHORT, began=False)
        try:
            return await self.pool.take(min(connecting_s, remaining_s))
        except Exception as error:
            kind = kind_of_connecting(error)
            if kind is None or kind in AS_RAISED:
                raise
            if isinstance(error, TimeoutError) and remaining_s < connecting_s:
                kind = Kind.CUT_SHORT
            raise Failed(kind, began=False) from error

    def _permit(self) -> Permit:
        try:
            return self.breaker.acquire()
        except CircuitOpen as error:
            raise _circuit_is_open(error) from None

    async def _connect(self, timeout_s: float) -> Connection:
        settings = self._settings
        return await connect(
            settings,
            self._logins,
            timeout_s=timeout_s,
            max_cached_statement_lifetime=0,
            # Through a proxy the next statement may meet another session: one without our statements, and what is set
            # for a session pins it. Unnamed statements are parsed and run before their one Sync, so in one session;
            # the role has the timeouts (migrate sets them).
            statement_cache_size=0 if settings.proxy else 100,
            server_settings={} if settings.proxy else session_settings(settings),
        )

    def _circuit_event(self, event: Event) -> None:
        if isinstance(event, Transition):
            self._measure(telemetry.CIRCUIT_TRANSITIONS, 1)
            telemetry.logger.warning(
                telemetry.CIRCUIT_MOVED,
                circuit=event.name,
                from_state=event.from_state.value,
                to_state=event.to_state.value,
                reason=event.reason,
            )
        elif isinstance(event, Rejected):
            self._measure(telemetry.CIRCUIT_REJECTED, 1)


_PROBLEMS: dict[Kind, tuple[type[Problem], str]] = {
    Kind.CONTENTION: (Contention, "Other requests were changing the same rows; nothing was done."),
    Kind.LOCKED: (Contention, "Another request holds a row for too long; nothing was done."),
    Kind.SLOW: (TimedOut, "The database needed too long and gave up; nothing was done."),
    Kind.OUTAGE: (Unavailable, "The database cannot work now; nothing was done."),
    Kind.READ_ONLY: (Unavailable, "The database is being replaced by another; nothing was done."),
    Kind.LOST: (Unavailable, "The database cannot be reached, or the connection to it broke."),
    Kind.UNKNOWN: (Unavailable, "The database does not know how it ended."),
    Kind.TIMEOUT: (TimedOut, "The database did not answer in time."),
    Kind.CUT_SHORT: (TimedOut, "There was not enough time left for the database to answer."),
}
_UNKNOWN = {
    Promise.KEYED: "It may have been done. Send the same request with the same Idempotency-Key: it will be done once.",
    Promise.ONCE: "It may have been done. Find out before sending it again.",
}


def _problem_of(failed: Failed, promise: Promise) -> Problem:
    if failed.may_be_done and promise in _UNKNOWN:
        return OutcomeUnknown(_UNKNOWN[promise])
    problem, detail = _PROBLEMS[failed.kind]
    return problem(detail)


def _circuit_is_open(error: CircuitOpen) -> CircuitIsOpen:
    return CircuitIsOpen("The database is failing and was not asked.", retry_after_s=error.retry_after_s)
