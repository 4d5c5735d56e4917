"""Connections against a real server: kept, bounded, found dead, given up on, and never leaked."""

import asyncio
import os
import signal
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from warmfront.backing.postgres import Postgres

from shared.kit import postgres_connect, telemetry
from shared.kit.circuit import State
from shared.kit.deadline import Deadline
from shared.kit.pool import Connection, Pool
from shared.kit.postgres import Database
from shared.kit.problems import CircuitIsOpen, NotFound, OutcomeUnknown, Overloaded, TimedOut, Unavailable
from tests.shared.conftest import Measured, settings_with, soon

OnDatabase = Callable[..., Any]


async def backend(connection: Connection) -> int:
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid


async def sleep_s(connection: Connection, seconds: float) -> None:
    await connection.fetchval("SELECT pg_sleep($1)", seconds)


async def end_backends(server: Postgres, *pids: int) -> None:
    """As a restart, a failover or an idle time-out of the server would: the client is not asked."""
    admin = await asyncpg.connect(server.admin_url())
    try:
        for pid in pids:
            assert await admin.fetchval("SELECT pg_terminate_backend($1)", pid)
        await until(lambda: none_left(admin, pids))
    finally:
        await admin.close()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def none_left(admin: Connection, pids: tuple[int, ...]) -> bool:
    return not await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)", list(pids))


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110 - the server, not this loop, makes it true
            await asyncio.sleep(0.01)


def test_the_connection_is_kept_for_the_next_use(on_database: OnDatabase, measured: Measured) -> None:
    async def test(database: Database) -> None:
        assert await database.run_idempotent(soon(), backend) == await database.run_idempotent(soon(), backend)
        assert database.pool.open == 1

    on_database(test)
    assert len(measured.values[telemetry.CONNECT_TIME]) == 1
    assert measured.values[telemetry.ACQUIRE_WAIT] == [0.0, 0.0]


@pytest.mark.parametrize(("budget", "told"), [(0, None), (50, [50])])
def test_how_many_connections_are_open_is_measured_beside_the_budget(
    on_database: OnDatabase, measured: Measured, budget: int, told: list[int] | None
) -> None:
    async def test(database: Database) -> None:
        await database.run_idempotent(soon(), backend)

    on_database(test, CONNECTION_BUDGET=budget)
    assert measured.values[telemetry.CONNECTIONS_OPEN] == [1]
    assert measured.values.get(telemetry.CONNECTION_BUDGET) == told


def test_nothing_is_opened_before_the_first_use(on_database: OnDatabase) -> None:
    async def test(database: Database) -> int:
        return database.pool.open

    assert on_database(test) == 0


def test_the_server_knows_the_limits_of_its_client(on_database: OnDatabase) -> None:
    async def limits(connection: Connection) -> list[str]:
        names = ("statement_timeout", "idle_in_transaction_session_timeout", "jit", "application_name")
        return [await connection.fetchval(f"SHOW {name}") for name in names]

    async def test(database: Database) -> list[str]:
        return await database.run_idempotent(soon(), limits)

    assert on_database(test, STATEMENT_TIMEOUT_MS=1200) == ["1200ms", "5s", "off", telemetry.SERVICE]


def test_a_connection_that_died_while_nobody_looked_is_found_before_it_is_used(
    on_database: OnDatabase, measured: Measured, server: Postgres
) -> None:
    async def test(database: Database) -> None:
        first = await database.run_idempotent(soon(), backend)
        # In a thread, so that this loop is as it is while the environment is frozen: it notices nothing.
        with_loop_stopped(end_backends(server, first))
        assert (
            await database.run_once(soon(), backend) != first
        )  # a write is never retried: it was not lost, but avoided

    on_database(test)
    assert measured.values[telemetry.CONNECTIONS_LOST] == [1]


def with_loop_stopped(work: Any) -> None:
    """Runs it to its end while the calling loop stands still."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


def test_a_read_whose_connection_breaks_under_it_is_repeated_on_a_new_one(
    on_database: OnDatabase, server: Postgres
) -> None:
    tried: list[int] = []

    async def broken_at_first(connection: Connection) -> int:
        tried.append(await backend(connection))
        if len(tried) == 1:
            await end_backends(server, tried[0])
        return await backend(connection)

    async def test(database: Database) -> int:
        return await database.run_idempotent(soon(), broken_at_first)

    assert on_database(test) == tried[1] != tried[0]


def test_a_write_whose_connection_breaks_under_it_is_not_repeated(on_database: OnDatabase, server: Postgres) -> None:
    tried: list[int] = []

    async def broken(connection: Connection) -> int:
        tried.append(await backend(connection))
        await end_backends(server, tried[0])
        return await backend(connection)

    async def test(database: Database) -> None:
        with pytest.raises(OutcomeUnknown) as unknown:
            await database.run_once(soon(), broken)
        assert unknown.value.headers == {}
        assert database.pool.open == 0

    on_database(test)
    assert len(tried) == 1


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_after_a_restart_of_the_server_the_next_use_succeeds(
    on_database: OnDatabase, server: Postgres, mode: Any
) -> None:
    async def test(database: Database) -> None:
        first = await database.run_idempotent(soon(), backend)
        server.restart(mode)
        assert await database.run_idempotent(soon(), backend) != first
        assert database.breaker.state is State.CLOSED

    on_database(test)


def test_a_connection_that_lay_idle_too_long_is_not_trusted(on_database: OnDatabase) -> None:
    async def test(database: Database) -> None:
        now_s = 0.0
        database.pool._clock = lambda: now_s
        first = await database.run_idempotent(soon(), backend)
        now_s = 299.0
        assert await database.run_idempotent(soon(), backend) == first
        now_s += 301.0
        assert await database.run_idempotent(soon(), backend) != first
        assert database.pool.open == 1

    on_database(test)


def test_an_environment_that_was_destroyed_leaves_no_session(
    on_database: OnDatabase, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it runs any more: the server ends its session, a little after the pool would have."""

    async def test(database: Database) -> None:
        first = await database.run_idempotent(soon(), backend)
        limit = await database.run_idempotent(
            soon(), lambda connection: connection.fetchval("SHOW idle_session_timeout")
        )
        assert limit == "400ms"
        with_loop_stopped(ended(first))
        assert await database.run_idempotent(soon(), backend) != first
        assert database.breaker.snapshot().failures == 0

    async def ended(pid: int) -> None:
        admin = await asyncpg.connect(server.admin_url())
        await until(lambda: none_left(admin, (pid,)))
        await admin.close()

    monkeypatch.setattr(postgres_connect, "IDLE_SESSION_MARGIN_S", 0.1)
    on_database(test, idle_max_s=0.3)


def test_an_idle_session_outlives_the_pools_trust_in_it() -> None:
    seconds = settings_with(CONNECTION_IDLE_MAX_S=300).postgres
    assert postgres_connect.session_settings(seconds)["idle_session_timeout"] == "330000"
    assert "idle_session_timeout" not in postgres_connect.role_settings(seconds), "a proxy keeps its sessions"


def test_connecting_makes_no_tls_context(on_database: OnDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than a connection has time for; the settings made it, at init."""

    def made(*_: Any, **__: Any) -> None:
        raise AssertionError("a context is made while connecting")

    async def test(database: Database) -> None:
        monkeypatch.setattr(ssl.SSLContext, "__new__", made)
        with pytest.raises(Unavailable) as refused:  # this server has no TLS
            await database.run_idempotent(soon(), backend)
        assert "rejected SSL upgrade" in str(refused.value.__cause__)

    for mode in ("require", "verify-full"):
        on_database(test, DB_SSL=mode)
        monkeypatch.undo()


def test_a_slow_statement_is_ended_by_the_server_and_the_connection_is_kept(on_database: OnDatabase) -> None:
    async def test(database: Database) -> None:
        first = await database.run_idempotent(soon(), backend)
        with pytest.raises(TimedOut):
            await database.run_idempotent(soon(), sleep_s, 60)
        assert await database.run_idempotent(soon(), backend) == first
        assert database.breaker.snapshot().failures == 1

    on_database(test, STATEMENT_TIMEOUT_MS=100, BREAKER_SLOW_MS=100)


def test_when_the_caller_has_no_more_time_nobody_works_on_for_it(on_database: OnDatabase, server: Postgres) -> None:
    async def test(database: Database) -> None:
        for _ in range(6):  # more than a breaker needs
            first = await database.run_idempotent(soon(), backend)
            with pytest.raises(TimedOut):
                await database.run_idempotent(soon(0.05), sleep_s, 60)
            assert database.pool.open == 0
        admin = await asyncpg.connect(server.admin_url())
        await until(lambda: none_left(admin, (first,)))
        await admin.close()
        assert database.breaker.snapshot().failures == 0  # the caller's haste is no evidence against the database

    on_database(test, STATEMENT_TIMEOUT_MS=60_000)


def test_a_server_that_goes_silent_costs_one_bound_and_not_two(on_database: OnDatabase) -> None:
    """asyncpg's own time-out then waits as long again for its cancel request, on the same dead path."""

    async def test(database: Database) -> None:
        stopped = await database.run_idempotent(soon(), backend)
        os.kill(stopped, signal.SIGSTOP)
        begun_s = time.monotonic()
        try:
            with pytest.raises(TimedOut):
                await database.run_idempotent(soon(), backend)
            waited_s = time.monotonic() - begun_s
            bound_s = 0.3 + 0.25
            assert bound_s <= waited_s < 2 * bound_s
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert database.breaker.snapshot().failures == 1
        assert await database.run_idempotent(soon(), backend) != stopped

    on_database(test, STATEMENT_TIMEOUT_MS=300, BREAKER_SLOW_MS=300)


def test_an_address_that_accepts_and_never_answers_is_given_up_on(on_database: OnDatabase) -> None:
    async def test(database: Database) -> None:
        with pytest.raises(Unavailable):
            await database.run_idempotent(soon(), backend)
        assert database.pool.open == 0

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://app:pw@127.0.0.1:{silent.getsockname()[1]}/shop"
        on_database(test, url=url, CONNECT_TIMEOUT_MS=100)


def test_a_caller_with_no_time_to_connect_is_no_evidence_against_the_database(on_database: OnDatabase) -> None:
    async def test(database: Database) -> None:
        with pytest.raises(TimedOut):
            await database.run_idempotent(soon(0.05), backend)
        assert database.breaker.snapshot().failures == 0

    with socket.create_server(("127.0.0.1", 0)) as silent:
        on_database(test, url=f"postgresql://app:pw@127.0.0.1:{silent.getsockname()[1]}/shop")


def test_a_refused_connection_and_a_wrong_password_are_unavailable(on_database: OnDatabase, server: Postgres) -> None:
    async def test(database: Database) -> None:
        with pytest.raises(Unavailable) as refused:
            await database.run_idempotent(soon(), backend)
        assert refused.value.headers["retry-after"] == "1"
        assert "app" not in refused.value.detail

    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    on_database(test, url=f"postgresql://app:pw@127.0.0.1:{port}/shop")
    on_database(test, url=server.url("postgres").replace("app:", "app:x"))


@pytest.mark.parametrize(
    ("where", "sql", "error"),
    [
        ("there_is_none", "SELECT 1", asyncpg.InvalidCatalogNameError),
        ("postgres", "SELECT * FROM there_is_none", asyncpg.UndefinedTableError),
        ("postgres", "SELECT there_is_none FROM pg_class", asyncpg.UndefinedColumnError),
        ("postgres", "CREATE TABLE there_is_none.t (id int)", asyncpg.InvalidSchemaNameError),
    ],
)
def test_what_does_not_exist_is_no_outage_however_often_it_is_missed(
    on_database: OnDatabase, server: Postgres, where: str, sql: str, error: type[Exception]
) -> None:
    async def test(database: Database) -> None:
        for _ in range(20):
            with pytest.raises(error, match="does not exist"):
                await database.run_idempotent(soon(), lambda connection: connection.execute(sql))
        assert database.breaker.state is State.CLOSED

    on_database(test, url=server.url(where))


def test_uses_at_the_same_time_take_turns_in_the_order_of_asking(on_database: OnDatabase) -> None:
    async def test(database: Database) -> None:
        order: list[int] = []

        async def note(connection: Connection, number: int) -> int:
            order.append(number)
            return await backend(connection)

        pids = await asyncio.gather(*(database.run_idempotent(soon(), note, number) for number in range(10)))
        assert order == list(range(10))
        assert len(set(pids)) == 1

    on_database(test, POOL_MAX=1)


def test_uses_at_the_same_time_open_no_more_connections_than_allowed(on_database: OnDatabase) -> None:
    async def test(database: Database) -> None:
        pids = await asyncio.gather(*(database.run_idempotent(soon(), backend) for _ in range(10)))
        assert len(set(pids)) == database.pool.open == 2

    on_database(test, POOL_MAX=2)


def test_whoever_waits_too_long_for_a_turn_is_told_to_come_back(on_database: OnDatabase) -> None:
    async def test(database: Database) -> None:
        held, release = asyncio.Event(), asyncio.Event()

        async def hold(connection: Connection) -> int:
            held.set()
            await release.wait()
            return await backend(connection)

        holder = asyncio.create_task(database.run_idempotent(soon(), hold))
        await held.wait()
        with pytest.raises(Overloaded, match="No connection came free"):
            await database.run_idempotent(soon(), backend)
        release.set()
        assert await holder == await database.run_idempotent(soon(), backend)
        assert database.breaker.snapshot().failures == 0  # our own crowd is no evidence against the database

    on_database(test, ACQUIRE_TIMEOUT_MS=50)


def test_a_full_queue_turns_away_at_once(on_database: OnDatabase) -> None:
    async def test(database: Database) -> None:
        release = asyncio.Event()

        async def hold(connection: Connection) -> int:
            await release.wait()
            return await backend(connection)

        waiting = [asyncio.create_task(database.run_idempotent(soon(), hold)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="queue"):
            await database.run_idempotent(soon(), backend)
        release.set()
        await asyncio.gather(*waiting)

    on_database(test, queue_max=2, ACQUIRE_TIMEOUT_MS=30_000)


def test_uses_cancelled_at_any_point_leave_no_connection_slot_or_descriptor_behind(
    on_database: OnDatabase, server: Postgres
) -> None:
    async def test(database: Database) -> None:
        await database.run_idempotent(soon(), backend)
        before = descriptors()
        for number in range(300):
            task = asyncio.create_task(database.run_idempotent(soon(), sleep_s, 0.002))
            for _ in range(number % 12):
                await asyncio.sleep(0)
            if number % 3 == 0:
                await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        answers = await asyncio.gather(*(database.run_idempotent(soon(), backend) for _ in range(4)))
        assert len(set(answers)) <= 2
        assert database.pool.open <= 2
        assert descriptors() <= before + 1
        assert database.breaker.state is State.CLOSED
        admin = await asyncpg.connect(server.admin_url())
        mine = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"

        async def as_many_as_we_think() -> bool:
            return bool(await admin.fetchval(mine, telemetry.SERVICE) == database.pool.open)

        await until(as_many_as_we_think)
        await admin.close()

    on_database(test, POOL_MAX=2)


def test_a_use_that_leaves_its_transaction_open_loses_the_connection(on_database: OnDatabase) -> None:
    async def leave_open(connection: Connection) -> int:
        await connection.execute("BEGIN")
        return await backend(connection)

    async def test(database: Database) -> None:
        left_open = await database.run_once(soon(), leave_open)
        assert await database.run_idempotent(soon(), backend) != left_open

    on_database(test)


def test_an_answer_of_no_is_no_failure_of_the_database(on_database: OnDatabase) -> None:
    async def missing(connection: Connection) -> None:
        await connection.fetchval("SELECT 1")
        raise NotFound("There is none.")

    async def wrong(connection: Connection) -> None:
        await connection.fetchval("SELECT 1/0")

    async def test(database: Database) -> None:
        first = await database.run_idempotent(soon(), backend)
        for _ in range(10):
            with pytest.raises(NotFound):
                await database.run_idempotent(soon(), missing)
            with pytest.raises(asyncpg.DivisionByZeroError):
                await database.run_idempotent(soon(), wrong)
        assert database.breaker.snapshot().failures == 0
        assert await database.run_idempotent(soon(), backend) == first

    on_database(test)


def test_a_database_that_keeps_failing_is_left_alone_and_asked_again_later(
    on_database: OnDatabase, measured: Measured
) -> None:
    async def test(database: Database) -> None:
        now_s = database.breaker._clock()
        database.breaker._clock = lambda: now_s
        database.breaker._rng = lambda: 1.0  # full jitter could make the interval too short to see
        good = database._settings
        database._settings = settings_with(DATABASE_URL="postgresql://app:pw@127.0.0.1:1/shop").postgres
        for _ in range(5):
            with pytest.raises(Unavailable):
                await database.run_once(soon(), backend)
        with pytest.raises(CircuitIsOpen) as refused:
            await database.run_idempotent(soon(), backend)
        assert refused.value.headers["retry-after"] == "3"
        database._settings = good
        now_s += 3.1
        for _ in range(2):  # successes that close it
            assert database.breaker.state is not State.CLOSED
            await database.run_idempotent(soon(), backend)
        assert database.breaker.state is State.CLOSED

    on_database(test, BREAKER_OPEN_MS=3_000)
    assert measured.values[telemetry.CIRCUIT_TRANSITIONS] == [1, 1, 1]
    assert measured.values[telemetry.CIRCUIT_REJECTED] == [1]


def test_two_uses_that_deadlock_both_succeed(on_database: OnDatabase) -> None:
    first_locks: list[int] = []

    async def lock_both(connection: Connection, one: int, other: int, met: asyncio.Barrier) -> None:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", one)
            first_locks.append(one)
            if len(first_locks) <= 2:
                await met.wait()
            await connection.execute("SELECT pg_advisory_xact_lock($1)", other)

    async def test(database: Database) -> None:
        met = asyncio.Barrier(2)
        await asyncio.gather(
            database.run_idempotent(soon(), lock_both, 1, 2, met), database.run_idempotent(soon(), lock_both, 2, 1, met)
        )

    on_database(test, POOL_MAX=2, statement_timeout_s=30.0, lock_timeout_s=20.0)
    assert len(first_locks) == 3


def test_no_time_left_means_no_use(on_database: OnDatabase) -> None:
    async def test(database: Database) -> None:
        with pytest.raises(TimedOut):
            await database.run_idempotent(Deadline(0.0), backend)
        assert database.pool.open == 0

    on_database(test)


def test_taking_and_giving_back_costs_a_fraction_of_what_the_drivers_pool_does(server: Postgres) -> None:
    """The reason for a pool of our own; both without a reset, both with a connection that is there already."""

    async def cpu_s(take_and_give_back: Callable[[], Awaitable[None]]) -> float:
        best_s = float("inf")
        for _ in range(15):
            begun_s = time.process_time()
            for _ in range(100):
                await take_and_give_back()
            best_s = min(best_s, time.process_time() - begun_s)
        return best_s

    async def test() -> tuple[float, float]:
        url = server.url("postgres")

        async def connect(timeout_s: float) -> Connection:
            return await asyncpg.connect(url, ssl="disable", timeout=timeout_s)

        async def no_reset(_: Connection) -> None: ...

        measured = Measured()
        ours = Pool(connect, size=1, queue_max=1, idle_max_s=60, clock=time.monotonic, measure=measured)
        theirs = await asyncpg.create_pool(url, ssl="disable", min_size=0, max_size=1, reset=no_reset)

        async def use_ours() -> None:
            await ours.enter(1.0)
            member = await ours.take(1.0)
            ours.put(member, clean=True)
            ours.leave()

        async def use_theirs() -> None:
            async with theirs.acquire():
                pass

        await use_ours()
        await use_theirs()
        costs = await cpu_s(use_ours), await cpu_s(use_theirs)
        await ours.aclose()
        await theirs.close()
        return costs

    ours_s, theirs_s = asyncio.run(test())
    print(f"ours {ours_s * 10_000:.1f} us, asyncpg.Pool {theirs_s * 10_000:.1f} us")
    assert ours_s < theirs_s / 2
