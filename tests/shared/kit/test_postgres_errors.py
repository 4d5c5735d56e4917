"""What each failure of Postgres means: a truth table over every SQLSTATE, and what is known after a connection broke."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest
from asyncpg import exceptions as pg
from warmfront.backing.postgres import Postgres

from shared.kit.breaker import BreakerSettings
from shared.kit.circuit import State
from shared.kit.pool import Connection
from shared.kit.postgres import Database
from shared.kit.postgres_errors import Kind, kind_of
from shared.kit.problems import CircuitIsOpen, Contention, OutcomeUnknown, Problem, TimedOut, Unavailable
from shared.kit.settings import PostgresSettings
from tests.shared.conftest import Measured, soon
from tests.shared.tcp_proxy import TcpProxy

OnDatabase = Callable[..., Any]
RAISED = "raised as it is"

# class or SQLSTATE: (what run_idempotent raises, what run_once raises, failures of the breaker, runs of idempotent work,
# whether the connection is kept). What run_once raises is the same where None stands.
CONTENTION = (Contention, None, 0, 2, True)
ANSWER = (RAISED, None, 0, 1, True)
OUTAGE = (Unavailable, None, 1, 1, True)
LOST = (Unavailable, OutcomeUnknown, 1, 2, False)
ANSWERS = "03 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 2B 2D 2F 34 38 39 3B 3D 3F 42 44 54 55 72 F0 HV P0"
TABLE: dict[str, tuple[Any, Any, int, int, bool]] = {
    **dict.fromkeys(ANSWERS.split(), ANSWER),
    "08": LOST,
    "28": OUTAGE,
    "40": CONTENTION,
    "53": OUTAGE,
    "57": OUTAGE,
    "58": OUTAGE,
    "XX": OUTAGE,
    "25006": (Unavailable, None, 1, 2, False),
    "25P03": LOST,
    "25P04": LOST,
    "40003": (Unavailable, OutcomeUnknown, 0, 2, False),
    "55P03": (Contention, None, 0, 1, True),
    "57014": (TimedOut, None, 1, 1, True),
    **dict.fromkeys(("57P01", "57P02", "57P03", "57P04", "57P05"), LOST),
}
KINDS: list[Any] = [kind for kind in vars(pg).values() if isinstance(kind, type) and issubclass(kind, pg.PostgresError)]
SQLSTATES = sorted({kind.sqlstate for kind in KINDS if kind.sqlstate} | {"25P04"})


def test_the_table_has_every_class_that_postgres_has() -> None:
    assert {sqlstate[:2] for sqlstate in SQLSTATES} == {name for name in TABLE if len(name) == 2}
    assert len(SQLSTATES) > 200


def raising(sqlstate: str, runs: list[str]) -> Callable[[Connection], Awaitable[None]]:
    async def work(connection: Connection) -> None:
        runs.append(sqlstate)
        await connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{sqlstate}'; END $$")

    return work


async def outcome(run: Awaitable[Any]) -> Any:
    try:
        return await run
    except Exception as error:
        return error


def through_proxy(server: Postgres, test: Callable[[Database, TcpProxy], Awaitable[None]], **fields: Any) -> None:
    """`test(database, proxy)` against a real Postgres behind a proxy that can break connections."""

    async def whole() -> None:
        async with TcpProxy(server.url("postgres")) as proxy:
            settings = PostgresSettings(url=proxy.url, **fields)
            database = Database(settings, measure=Measured())
            try:
                await test(database, proxy)
            finally:
                await database.aclose()

    asyncio.run(whole())


NEVER_OPENS = BreakerSettings(slow_s=1.0, call_timeout_s=2.0, calls_min=100_000)


def test_every_sqlstate_has_its_problem_its_evidence_and_its_repetition(server: Postgres) -> None:
    async def observed(database: Database, sqlstate: str) -> Any:
        runs: list[str] = []
        told = [await outcome(database.run_idempotent(soon(), raising(sqlstate, runs)))]
        idempotent_runs = len(runs)
        told.append(await outcome(database.run_once(soon(), raising(sqlstate, runs))))
        kept = database.pool.open == 1
        kinds = [RAISED if isinstance(each, pg.PostgresError) else type(each) for each in told]
        return (*kinds, idempotent_runs, len(runs) - idempotent_runs, kept)

    async def test(database: Database, _: TcpProxy) -> None:
        wrong, failures = [], 0
        for sqlstate in SQLSTATES:
            idempotent, once, evidence, runs, kept = TABLE.get(sqlstate) or TABLE[sqlstate[:2]]
            expected = (idempotent, once or idempotent, runs, 1, kept)
            seen = await observed(database, sqlstate)
            counted, failures = database.breaker.snapshot().failures - failures, database.breaker.snapshot().failures
            if (seen, counted) != (expected, 2 * evidence):
                wrong.append((sqlstate, seen, counted))
        assert wrong == []

    through_proxy(server, test, breaker=NEVER_OPENS._replace(window_s=600))


async def insert(connection: Connection, kept: list[int]) -> None:
    kept.append(await connection.fetchval("INSERT INTO notes (note) VALUES ('dropped') RETURNING id"))


async def count(connection: Connection) -> int:
    number: int = await connection.fetchval("SELECT count(*) FROM notes")
    return number


@pytest.fixture
def notes(server: Postgres) -> Iterator[None]:
    async def execute(sql: str) -> None:
        admin = await asyncpg.connect(server.admin_url("postgres"))
        await admin.execute(sql)
        await admin.close()

    asyncio.run(
        execute("CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY, note text); GRANT ALL ON notes TO app")
    )
    yield
    asyncio.run(execute("DROP TABLE notes"))


@pytest.mark.usefixtures("notes")
def test_a_write_whose_answer_was_lost_is_never_answered_as_not_done(server: Postgres) -> None:
    """The server committed; the client must not hear that a retry is welcome."""

    async def test(database: Database, proxy: TcpProxy) -> None:
        assert await database.run_idempotent(soon(), count) == 0
        proxy.drop_answers(b"INSERT", 1)
        with pytest.raises(OutcomeUnknown, match="may have been done") as unknown:
            await database.run_once(soon(), insert, [])
        assert (unknown.value.status, unknown.value.headers) == (504, {})
        assert "retry_after" not in unknown.value.members
        assert await database.run_idempotent(soon(), count) == 1
        assert database.breaker.snapshot().failures == 1

    through_proxy(server, test)


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize(("drops", "problem"), [(1, None), (2, OutcomeUnknown)])
def test_a_write_with_a_key_runs_again_and_says_that_a_retry_is_safe(
    server: Postgres, drops: int, problem: type[Problem] | None
) -> None:
    async def test(database: Database, proxy: TcpProxy) -> None:
        proxy.drop_answers(b"INSERT", drops)
        kept: list[int] = []
        if problem is None:
            await database.run_with_key(soon(), insert, kept)
            assert len(kept) == 1
        else:
            with pytest.raises(problem, match="same Idempotency-Key"):
                await database.run_with_key(soon(), insert, kept)
        assert proxy.dropped == drops

    through_proxy(server, test)


@pytest.mark.usefixtures("notes")
def test_what_may_have_been_done_at_first_is_unknown_whatever_the_second_try_meets(server: Postgres) -> None:
    async def test(database: Database, proxy: TcpProxy) -> None:
        async def lost_and_then_refused(connection: Connection) -> None:
            proxy.refuses = True
            await insert(connection, [])

        proxy.drop_answers(b"INSERT", 1)
        with pytest.raises(OutcomeUnknown):
            await database.run_with_key(soon(), lost_and_then_refused)
        with pytest.raises(Unavailable) as refused:  # nothing was done, and a retry is welcome
            await database.run_once(soon(), insert, [])
        assert refused.value.headers == {"retry-after": "1"}

    through_proxy(server, test)


def test_a_read_that_broke_twice_may_be_sent_again(server: Postgres) -> None:
    async def test(database: Database, proxy: TcpProxy) -> None:
        proxy.drop_answers(b"SELECT 42", 2)
        with pytest.raises(Unavailable) as broken:
            await database.run_idempotent(soon(), lambda connection: connection.fetchval("SELECT 42"))
        assert broken.value.headers == {"retry-after": "1"}

    through_proxy(server, test)


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize(
    ("promise", "problem"),
    [("run_idempotent", TimedOut), ("run_with_key", OutcomeUnknown), ("run_once", OutcomeUnknown)],
)
@pytest.mark.parametrize(("remaining_s", "failures"), [(0.1, 0), (30.0, 1)])
def test_no_answer_in_time_is_unknown_for_a_write_and_evidence_only_of_a_whole_timeout(
    server: Postgres, promise: str, problem: type[Problem], remaining_s: float, failures: int
) -> None:
    async def test(database: Database, proxy: TcpProxy) -> None:
        await database.run_idempotent(soon(), count)
        proxy.silent = True
        with pytest.raises(problem):
            await getattr(database, promise)(soon(remaining_s), insert, [])
        assert database.breaker.snapshot().failures == failures

    through_proxy(server, test, statement_timeout_s=0.2, lock_timeout_s=0.1)


def test_waits_for_one_locked_row_leave_every_other_row_alone(server: Postgres, on_database: OnDatabase) -> None:
    async def locked(connection: Connection) -> None:
        await connection.execute("SELECT pg_advisory_xact_lock(815)")

    async def test(database: Database) -> None:
        holder = await asyncpg.connect(server.url("postgres"))
        await holder.execute("SELECT pg_advisory_lock(815)")
        for _ in range(10):
            with pytest.raises(Contention) as refused:
                await database.run_once(soon(), locked)
            assert refused.value.headers == {"retry-after": "1"}
        assert await database.run_idempotent(soon(), lambda connection: connection.fetchval("SELECT 1")) == 1
        assert (database.breaker.state, database.breaker.snapshot().calls) == (State.CLOSED, 1)
        await holder.close()

    on_database(test, STATEMENT_TIMEOUT_MS=100, BREAKER_SLOW_MS=100)


def test_a_server_without_memory_opens_the_circuit(on_database: OnDatabase) -> None:
    async def test(database: Database) -> None:
        runs: list[str] = []
        for _ in range(5):
            with pytest.raises(Unavailable):
                await database.run_idempotent(soon(), raising("53200", runs))
        with pytest.raises(CircuitIsOpen):
            await database.run_idempotent(soon(), raising("53200", runs))
        assert len(runs) == 5

    on_database(test)


def test_a_mistake_in_the_code_is_raised_and_no_evidence(on_database: OnDatabase) -> None:
    async def too_many(connection: Connection) -> None:
        await connection.fetchval("SELECT $1::int", 1, 2)

    async def wrong_type(connection: Connection) -> None:
        await connection.fetchval("SELECT $1::int", "one")

    async def both_at_once(connection: Connection) -> None:
        both = (connection.fetchval("SELECT 1"), connection.fetchval("SELECT 2"))
        for result in await asyncio.gather(*both, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def another_server(_: Connection) -> None:
        raise ConnectionRefusedError("of something that the work has called")

    async def test(database: Database) -> None:
        for work, raised in (
            (too_many, pg.InterfaceError),
            (wrong_type, pg.DataError),
            (both_at_once, pg.InterfaceError),
            (another_server, ConnectionRefusedError),
        ):
            for _ in range(6):
                with pytest.raises(raised):
                    await database.run_idempotent(soon(), work)
            assert database.breaker.snapshot().failures == 0
            assert await database.run_idempotent(soon(), lambda connection: connection.fetchval("SELECT 1")) == 1

    on_database(test)


@pytest.mark.parametrize("closed", [False, True])
def test_the_same_exception_of_the_driver_means_a_mistake_or_a_lost_connection(closed: bool) -> None:
    expected = Kind.LOST if closed else Kind.MISUSE
    assert kind_of(pg.InterfaceError("connection is closed"), closed=closed) is expected
    assert kind_of(pg.InternalClientError("got result for unknown protocol state"), closed=closed) is expected
    assert kind_of(pg.ClientConfigurationError("invalid DSN"), closed=closed) is Kind.MISUSE
    assert kind_of(ConnectionResetError(), closed=closed) is (Kind.LOST if closed else None)
    assert kind_of(ValueError(), closed=closed) is None


@pytest.mark.usefixtures("notes")
def test_what_committed_by_itself_before_a_deadlock_is_not_done_again(on_database: OnDatabase) -> None:
    runs: list[str] = []

    async def two_statements(connection: Connection) -> None:
        await insert(connection, [])
        await raising("40P01", runs)(connection)

    async def test(database: Database) -> None:
        with pytest.raises(Contention):
            await database.run_once(soon(), two_statements)
        assert await database.run_idempotent(soon(), count) == 1
        assert len(runs) == 1

    on_database(test)


def test_the_deadline_ends_the_work_itself(on_database: OnDatabase) -> None:
    ended: list[str] = []

    async def thinks(connection: Connection) -> str:
        await connection.fetchval("SELECT 1")
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("by the deadline")
        return "done"

    async def test(database: Database) -> None:
        task = asyncio.current_task()
        assert task is not None
        async with asyncio.timeout(10):
            with pytest.raises(TimedOut):
                await database.run_idempotent(soon(0.2), thinks)
        assert ended == ["by the deadline"]
        assert task.cancelling() == 0, "the request itself is not cancelled"
        assert database.pool.open == 0
        assert database.breaker.snapshot().failures == 0

    on_database(test)


def test_somebody_elses_cancellation_stays_one(on_database: OnDatabase) -> None:
    async def thinks(_: Connection) -> None:
        await asyncio.sleep(30)

    async def test(database: Database) -> None:
        task = asyncio.create_task(database.run_idempotent(soon(), thinks))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert database.pool.open == 0

    on_database(test)
