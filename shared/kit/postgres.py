"""The environment's few connections to Postgres, and the one way to use them. Knows no SQL of the shop.

Opened late, bounded, checked before use, bounded again while in use. The pool is our own and not asyncpg's: taking a
connection and giving it back costs 4 us, check included, against 28 (a test holds the ratio); waiting in asyncpg's is
unfair (MagicStack/asyncpg#1247) and without end unless each caller says otherwise; and its timers do not run while the
environment is frozen.

No reset query is sent between uses (a round trip, and under RDS Proxy it pins the session). It is safe because nothing
that a reset would undo outlives a use: settings are only ever set with SET LOCAL, there are no session-level locks,
LISTENs or cursors, and a connection whose use did not end cleanly and outside a transaction is closed, not kept.
"""

import asyncio
import os
import select
import time
from collections.abc import Awaitable, Callable, Iterable
from random import SystemRandom
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg import exceptions as pg

from shared.kit import telemetry
from shared.kit.bound import Bound
from shared.kit.breaker import (
    BreakerSettings,
    CircuitBreaker,
    CircuitOpen,
    Event,
    FreezeSafeClock,
    Mode,
    Outcome,
    Permit,
    Rejected,
    Transition,
)
from shared.kit.deadline import Deadline
from shared.kit.problems import CircuitIsOpen, Overloaded, Problem, TimedOut, Unavailable
from shared.kit.tls import tls
from shared.shop.settings import Settings

if TYPE_CHECKING:
    from shared.kit.secrets import Logins

if os.environ.get("SHOP_DB_LOGIN", "url") != "url":
    import shared.kit.secrets  # noqa: F401 - botocore's import (60 ms) is for init to pay, not for the first request

type Connection = Any  # asyncpg.Connection; the driver is not annotated
type Connect = Callable[[float], Awaitable[Connection]]
type Measure = Callable[[str, float], None]

# After its own statement timeout the server says so; the margin lets that answer arrive before the client gives up.
CLIENT_MARGIN_S = 0.25
# A server that finds its client gone stops the query: no orphan works on for somebody who has left.
ORPHAN_CHECK_MS = 500
TICKS_MAX = 10

# The connection, not the statement, is what failed. InternalClientError is asyncpg's own surprise at a dead socket.
LOST = (
    OSError,
    pg.PostgresConnectionError,
    pg.InterfaceError,
    pg.InternalClientError,
    pg.AdminShutdownError,
    pg.CrashShutdownError,
    pg.CannotConnectNowError,
    pg.IdleSessionTimeoutError,
    pg.DatabaseDroppedError,
    pg.InvalidAuthorizationSpecificationError,
    pg.InvalidCatalogNameError,
    pg.TooManyConnectionsError,
    pg.ReadOnlySQLTransactionError,  # a primary that is one no longer: the next connection goes to the new one
    pg.DiskFullError,
)
# The server undid it all and says that trying again may work.
UNDONE = (pg.DeadlockDetectedError, pg.SerializationError)


class Lost(Exception):
    """The connection broke while it was being opened or used; what it was doing may or may not have been done."""


class Unanswered(TimedOut):
    """It had all the time that it may ever have; the caller's haste had no part in it."""


class Member:
    """One open connection of the pool, and what the pool must know of it while it lies idle."""

    __slots__ = ("_poll", "bound", "connection", "expired", "idle_since_s")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.expired = False
        self.idle_since_s = 0.0
        self.bound = Bound(asyncio.get_running_loop(), self.expire)
        self._poll = select.poll()
        # asyncpg keeps the transport to itself; its version is pinned, and a test holds this to it.
        self._poll.register(connection._transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)

    async def alive(self) -> bool:
        """Whether it may be used: an idle connection on which something has arrived has mostly heard of its end.

        Between invocations the loop does not run, so nobody has read it yet. Asking the socket costs 1 us; letting the
        loop run without need (three times, or the end is only half noticed) would cost ten.
        """
        connection = self.connection
        for _ in range(TICKS_MAX):
            if connection.is_closed() or not self._poll.poll(0):
                break
            await asyncio.sleep(0)
        return not connection.is_closed()

    def expire(self) -> None:
        """Ends whatever it is doing, now: a cancel request would have to wait on the same dead path."""
        self.expired = True
        self.terminate()

    def terminate(self) -> None:
        self.bound.close()
        self.connection.terminate()


class Pool:
    """At most `size` uses at a time, in the order of asking, and the connections they leave. Belongs to one loop."""

    def __init__(
        self,
        connect: Connect,
        *,
        size: int,
        queue_max: int,
        idle_max_s: float,
        clock: Callable[[], float],
        measure: Measure,
    ) -> None:
        self._connect = connect
        self._slots = asyncio.Semaphore(size)
        self._queue_max = queue_max
        self._idle_max_s = idle_max_s
        self._clock = clock
        self._measure = measure
        self._idle: list[Member] = []
        self._waiting = 0
        self.open = 0

    async def enter(self, wait_s: float) -> None:
        """Waits for a turn; every enter has its leave."""
        if not self._slots.locked():
            await self._slots.acquire()  # takes no time here
            self._measure(telemetry.ACQUIRE_WAIT, 0.0)
            return
        if self._waiting >= self._queue_max:
            raise Overloaded("Every connection is in use, and the queue for one is full.")
        self._waiting += 1
        begun_s = time.perf_counter()
        try:
            async with asyncio.timeout(wait_s):
                await self._slots.acquire()
        except TimeoutError:
            raise Overloaded(f"No connection came free within {wait_s:.2f} s.") from None
        finally:
            self._waiting -= 1
            self._measure(telemetry.ACQUIRE_WAIT, (time.perf_counter() - begun_s) * 1000)
            telemetry.spend("wait", begun_s)

    def leave(self) -> None:
        self._slots.release()

    async def take(self, connect_s: float) -> Member:
        """The connection last used, the likeliest to be alive; the dead on the way are dropped. Else a new one."""
        while self._idle:
            member = self._idle.pop()
            self.open -= 1
            if self._clock() - member.idle_since_s < self._idle_max_s and await member.alive():
                self.open += 1
                return member
            member.terminate()
            self._measure(telemetry.CONNECTIONS_LOST, 1)
        begun_s = time.monotonic()
        member = Member(await self._connect(connect_s))
        self.open += 1
        self._measure(telemetry.CONNECT_TIME, (time.monotonic() - begun_s) * 1000)
        return member

    def put(self, member: Member, *, clean: bool) -> None:
        connection = member.connection
        if clean and not connection.is_closed() and not connection.is_in_transaction():
            member.idle_since_s = self._clock()
            self._idle.append(member)
        else:
            self.open -= 1
            member.terminate()

    async def aclose(self) -> None:
        idle, self._idle = self._idle, []
        self.open -= len(idle)
        for member in idle:
            member.bound.close()
            try:
                await member.connection.close(timeout=1)
            except (OSError, pg.PostgresError, pg.InterfaceError, pg.InternalClientError):
                member.connection.terminate()


class Database:
    """Postgres behind a breaker: every use has a bound, and every way to fail has a problem to answer with."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] | None = None,
        measure: Measure = telemetry.measure,
    ) -> None:
        clock = clock or FreezeSafeClock()
        self._settings = settings
        self._acquire_s = settings.acquire_timeout_ms / 1000
        self._logins = logins_for(settings)
        self._connect_s = connect_s(settings)
        self._query_s = settings.statement_timeout_ms / 1000 + CLIENT_MARGIN_S
        self._budget = settings.connection_budget
        self._measure = measure
        self.breaker = CircuitBreaker(
            "postgres",
            breaker_settings(settings),
            clock=clock,
            # Environments restored from one snapshot share the state of random.random, and would draw the same jitter.
            rng=SystemRandom().random,
            on_event=self._circuit_event,
        )
        self.pool = Pool(
            self._connect,
            size=settings.pool_max,
            queue_max=settings.pool_queue_max,
            idle_max_s=settings.connection_idle_max_s,
            clock=clock,
            measure=measure,
        )

    async def read[*A, T](self, deadline: Deadline, work: Callable[[Connection, *A], Awaitable[T]], *args: *A) -> T:
        """`work(connection, ...)`, and once more on a fresh connection if the first one turns out to be lost."""
        return await self._call(deadline, True, work, args)

    async def write[*A, T](self, deadline: Deadline, work: Callable[[Connection, *A], Awaitable[T]], *args: *A) -> T:
        """`work(connection, ...)` once: after a lost connection nobody knows whether it was done."""
        return await self._call(deadline, False, work, args)

    async def aclose(self) -> None:
        await self.pool.aclose()

    async def _call[T](
        self, deadline: Deadline, repeatable: bool, work: Callable[..., Awaitable[T]], args: tuple[Any, ...]
    ) -> T:
        await self.pool.enter(deadline.timeout_s(self._acquire_s))
        try:
            permit = self._permit()
            outcome = Outcome.ABANDONED  # stands for whatever is not named below: cancellation, the caller's deadline
            begun_s = time.perf_counter()
            try:
                result = await self._attempts(deadline, permit.limit_s, repeatable, work, args)
                outcome = Outcome.SUCCESS
                return result
            except (Unavailable, Unanswered):
                outcome = Outcome.FAILURE
                raise
            except TimedOut:
                raise  # cut short by the caller it had no fair chance: evidence only if it was slow by then
            except (Problem, pg.PostgresError):
                outcome = Outcome.SUCCESS  # it answered; that the answer was no is not the database's failure
                raise
            finally:
                telemetry.spend("db", begun_s)
                permit.settle(outcome)
        finally:
            self.pool.leave()
            self._measure(telemetry.CONNECTIONS_OPEN, self.pool.open)
            if self._budget:
                self._measure(telemetry.CONNECTION_BUDGET, self._budget)

    def _permit(self) -> Permit:
        try:
            return self.breaker.acquire()
        except CircuitOpen as error:
            raise _left_alone(error) from None

    async def _attempts[T](
        self,
        deadline: Deadline,
        limit_s: float,
        repeatable: bool,
        work: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
    ) -> T:
        call = Deadline(deadline.timeout_s(limit_s))
        final = False
        while True:
            try:
                return await self._attempt(call, work, args)
            except Lost as error:
                telemetry.logger.warning(telemetry.DATABASE_LOST, error_type=type(error.__cause__).__name__)
                if final or not repeatable:
                    raise Unavailable("The database cannot be reached, or the connection to it broke.") from error
            except UNDONE as error:
                if final:
                    raise Unavailable("Lost a race with other requests; nothing was changed.") from error
            except pg.QueryCanceledError as error:
                raise Unanswered("The database needed too long.") from error
            final = True

    async def _attempt[T](self, call: Deadline, work: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
        connect_s = call.timeout_s(self._connect_s)
        try:
            member = await self.pool.take(connect_s)
        except LOST as error:
            if isinstance(error, TimeoutError) and connect_s < self._connect_s:
                raise TimedOut("There was not enough time left to connect to the database.") from error
            raise Lost from error
        clean = False
        remaining_s = call.remaining_s()
        member.bound.begin(min(self._query_s, max(0.0, remaining_s)))
        try:
            result = await work(member.connection, *args)
            clean = True
            return result
        except LOST as error:
            raise self._broken(member, remaining_s) from error
        except (Problem, pg.PostgresError):
            clean = True
            raise
        except Exception as error:
            if not member.expired:
                raise
            # asyncpg trips over itself when it is ended between two of its steps
            raise self._broken(member, remaining_s) from error
        finally:
            member.bound.finish()
            self.pool.put(member, clean=clean)

    def _broken(self, member: Member, remaining_s: float) -> Exception:
        if not member.expired:
            return Lost()
        kind = Unanswered if remaining_s >= self._query_s else TimedOut
        return kind("The database did not answer in time.")

    async def _connect(self, timeout_s: float) -> Connection:
        settings = self._settings
        sharing = settings.db_mode == "proxy"
        return await connect(
            settings,
            self._logins,
            timeout_s=timeout_s,
            max_cached_statement_lifetime=0,
            # Through a proxy the next statement may meet another session: one without our statements, and what is set
            # for a session pins it. Unnamed statements are parsed and run before their one Sync, so in one session;
            # time-outs are the role's (migrate sees to them).
            statement_cache_size=0 if sharing else 100,
            server_settings={} if sharing else session_settings(settings),
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


def _left_alone(error: CircuitOpen) -> CircuitIsOpen:
    return CircuitIsOpen("The database is failing; not asked.", retry_after_s=error.retry_after_s)


def as_array(numbers: Iterable[int]) -> list[str]:
    """For a parameter that is a text[], to be cast in SQL: the one array whose type asyncpg knows.

    For any other, each new connection first asks the catalogue, with jit set off for the session meanwhile: three round
    trips, and a session that a proxy pins.
    """
    return [str(number) for number in numbers]


def logins_for(settings: Settings) -> "Logins | None":
    """None: the address has user and password."""
    if settings.db_login == "url":
        return None
    from shared.kit import secrets

    return secrets.logins(settings)


async def connect(
    settings: Settings, logins: "Logins | None", *, timeout_s: float, url: str | None = None, **options: Any
) -> Connection:
    """Once more as somebody else if the login is refused: it may have been rotated since it was looked up."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + timeout_s

    async def attempt(**login: str) -> Connection:
        return await asyncpg.connect(
            url or settings.database_url,
            ssl=tls(settings.db_ssl, settings.db_ca_file),
            timeout=max(0.001, min(settings.connect_timeout_ms / 1000, ends_s - loop.time())),
            **login,
            **options,
        )

    if logins is None:
        return await attempt()
    login = await logins.known(timeout_s)
    try:
        return await attempt(**_spelled(login))
    except pg.InvalidAuthorizationSpecificationError:
        other = await logins.renewed(login, ends_s - loop.time())
        if other is None:
            raise
        telemetry.logger.info(telemetry.LOGIN_RENEWED)
        return await attempt(**_spelled(other))


def _spelled(login: Any) -> dict[str, str]:
    return {"password": login.password, **({} if login.user is None else {"user": login.user})}


def session_settings(settings: Settings) -> dict[str, str]:
    return {"application_name": telemetry.SERVICE, **role_settings(settings)}


def role_settings(settings: Settings) -> dict[str, str]:
    """What the server is to hold everybody to who logs in for the shop."""
    return {
        "statement_timeout": str(settings.statement_timeout_ms),
        "idle_in_transaction_session_timeout": str(settings.idle_in_transaction_timeout_ms),
        "client_connection_check_interval": str(ORPHAN_CHECK_MS),
        "jit": "off",  # compiling costs more than any of these queries
    }


def connect_s(settings: Settings) -> float:
    """The most that connecting may take, a look-up of the login included."""
    look_up_ms = 0 if settings.db_login == "url" else settings.db_look_up_timeout_ms
    return (settings.connect_timeout_ms + look_up_ms) / 1000


def breaker_settings(settings: Settings) -> BreakerSettings:
    return BreakerSettings(
        slow_s=settings.breaker_slow_ms / 1000,
        call_timeout_s=connect_s(settings) + settings.statement_timeout_ms / 1000 + CLIENT_MARGIN_S,
        window_s=settings.breaker_window_s,
        calls_min=settings.breaker_calls_min,
        failure_rate=settings.breaker_failure_percent / 100,
        slow_rate=settings.breaker_slow_percent / 100,
        open_base_s=settings.breaker_open_ms / 1000,
        open_max_s=settings.breaker_open_max_ms / 1000,
        mode=Mode(settings.breaker_mode),
    )
