"""Each fault on a process, Postgres or Redis: its effect while it is applied, and that nothing of it remains."""

import asyncio
import contextlib
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import asyncpg
import pytest
import redis.exceptions
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis
from warmfront.lab.fault_actions import Fault, OnProxy, Pulsed, applied
from warmfront.lab.postgres_faults import (
    BackendsTerminated,
    ConnectionLimit,
    ConnectionsTaken,
    DiskFull,
    LockHeld,
    admin_in_a_storm,
    end_unfinished_logins,
    run_sql,
)
from warmfront.lab.process_faults import Frozen, Killed, Pids, Restarted, process_tree, runs
from warmfront.lab.proxy_process import ProxyProcess
from warmfront.lab.redis_faults import RedisEmptied, RedisGarbage, RedisMemory, RedisPaused, redis_at
from warmfront.lab.tcp_faults import TcpFault

ANSWER_S = 10.0


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


class Recorded:
    """A fault that records its calls, and fails where a test wants it to."""

    def __init__(self, name: str, log: list[str], *, breaks: str = "") -> None:
        self._name, self._log, self._breaks = name, log, breaks

    async def apply(self) -> None:
        self._log.append(f"apply {self._name}")
        if self._breaks == "apply":
            raise OSError(self._name)

    async def clear(self) -> None:
        self._log.append(f"clear {self._name}")
        if self._breaks == "clear":
            raise OSError(self._name)


class TestApplied:
    def test_faults_come_off_in_reverse_when_the_body_fails(self) -> None:
        log: list[str] = []

        async def test() -> None:
            with pytest.raises(ZeroDivisionError):
                async with applied(Recorded("a", log), Recorded("b", log)):
                    raise ZeroDivisionError

        run(test())
        assert log == ["apply a", "apply b", "clear b", "clear a"]

    def test_one_that_cannot_be_applied_or_cleared_does_not_leave_the_others_on(self) -> None:
        log: list[str] = []

        async def test() -> None:
            with pytest.raises(OSError, match="b"):
                async with applied(Recorded("a", log), Recorded("b", log, breaks="clear"), Recorded("c", log)):
                    pass
            with pytest.raises(OSError, match="e"):
                async with applied(Recorded("d", log), Recorded("e", log, breaks="apply")):
                    pass

        run(test())
        assert log[3:] == ["clear c", "clear b", "clear a", "apply d", "apply e", "clear e", "clear d"]

    def test_a_cancelled_experiment_clears_too(self) -> None:
        log: list[str] = []

        async def test() -> None:
            async def experiment() -> None:
                async with applied(Recorded("a", log)):
                    began.set()
                    await asyncio.Event().wait()

            began = asyncio.Event()
            task = asyncio.create_task(experiment())
            await began.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        run(test())
        assert log == ["apply a", "clear a"]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers every line of its stdin and has a child of its own."""
    script = (
        "import subprocess, sys\nsubprocess.Popen(['sleep', '60'])\nfor line in sys.stdin: print('yes', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def of(pid: int) -> Pids:
    async def pids() -> list[int]:
        return [pid]

    return pids


def ask(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"?\n")
    process.stdin.flush()


class TestProcesses:
    def test_frozen_stops_a_process_with_its_children_and_thaws_them(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        ask(child)
        assert child.stdout.readline() == b"yes\n"
        everyone = process_tree(child.pid)
        assert len(everyone) == 2

        async def test() -> None:
            async with applied(Frozen(of(child.pid))):
                assert not any(runs(pid) for pid in everyone)
                ask(child)

        run(test())
        assert child.stdout.readline() == b"yes\n"
        assert all(runs(pid) for pid in everyone)

    def test_killed_ends_a_process_at_once(self, child: subprocess.Popen[bytes]) -> None:
        fault = Killed(of(child.pid))
        run(hold(fault))
        assert child.wait(ANSWER_S) == -signal.SIGKILL
        assert fault.killed == 1

    def test_killed_again_and_again_strikes_until_it_is_cleared(self) -> None:
        async def test() -> None:
            struck = 0
            enough = asyncio.Event()

            async def pids() -> list[int]:
                nonlocal struck
                struck += 1
                if struck == 3:
                    enough.set()
                return []  # no process lives: it must continue all the same

            async with applied(Killed(pids, every_s=0.01)):
                await asyncio.wait_for(enough.wait(), ANSWER_S)
            after = struck
            await asyncio.sleep(0.05)
            assert struck == after

        run(test())

    def test_a_process_that_is_gone_is_no_error(self) -> None:
        ended = subprocess.Popen(["true"])
        ended.wait()

        async def test() -> None:
            async with applied(Frozen(of(ended.pid)), Killed(of(ended.pid))):
                pass

        run(test())


async def hold(fault: Fault) -> None:
    async with applied(fault):
        pass


class TestPostgres:
    def test_a_lock_that_is_held_stops_a_writer_until_it_is_cleared(self, postgres: Postgres) -> None:
        async def test() -> None:
            await run_sql(postgres.admin_url(), "CREATE TABLE IF NOT EXISTS locked (n int)")
            insert = ("SET lock_timeout = '100ms'", "INSERT INTO locked VALUES (1)")
            async with applied(LockHeld(postgres.admin_url(), "LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")):
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await run_sql(postgres.admin_url(), *insert)
            await run_sql(postgres.admin_url(), *insert)

        run(test())

    def test_a_connection_limit_refuses_the_role_and_the_old_limit_comes_back(self, postgres: Postgres) -> None:
        async def test() -> None:
            url = postgres.url("postgres")
            async with applied(ConnectionLimit(postgres.admin_url(), role="app", limit=0)):
                with pytest.raises(asyncpg.TooManyConnectionsError):
                    await asyncpg.connect(url, timeout=ANSWER_S)
            await (await asyncpg.connect(url, timeout=ANSWER_S)).close()
            with pytest.raises(ValueError, match="no role 'nobody_here'"):
                await hold(ConnectionLimit(postgres.admin_url(), role="nobody_here", limit=0))

        run(test())

    def test_taken_connections_leave_so_many(self, postgres: Postgres) -> None:
        async def test() -> None:
            url = postgres.url("postgres")
            async with applied(ConnectionsTaken(postgres.admin_url(), leave=2)):
                kept = [await asyncpg.connect(url, timeout=ANSWER_S) for _ in range(2)]
                with pytest.raises(asyncpg.TooManyConnectionsError):
                    await asyncpg.connect(url, timeout=ANSWER_S)
                for connection in kept:
                    await connection.close()

        run(test())

    def test_terminated_backends_break_the_clients_that_had_them(self, postgres: Postgres) -> None:
        async def test() -> None:
            connection = await asyncpg.connect(postgres.url("postgres"), timeout=ANSWER_S)
            fault = BackendsTerminated(postgres.admin_url(), role="app")
            async with applied(fault):
                pass
            assert fault.terminated == 1
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
                await connection.fetchval("SELECT 1", timeout=ANSWER_S)
            connection.terminate()

        run(test())

    def test_a_full_disk_fails_writes_and_lets_reads_through(self, postgres: Postgres) -> None:
        async def test() -> None:
            url = postgres.admin_url()
            await run_sql(url, "CREATE TABLE IF NOT EXISTS disk (n int)")
            async with applied(DiskFull(url)):
                with pytest.raises(asyncpg.DiskFullError):
                    await run_sql(url, "INSERT INTO disk VALUES (1)")
                await run_sql(url, "SELECT * FROM disk")
            await run_sql(url, "INSERT INTO disk VALUES (1)")

        run(test())

    def test_a_restart_ends_every_connection_and_the_server_is_back(self, postgres: Postgres) -> None:
        async def test() -> None:
            before = postgres.pid
            connection = await asyncpg.connect(postgres.url("postgres"), timeout=ANSWER_S)
            async with applied(Restarted(postgres.restart)):
                await run_sql(postgres.admin_url(), "SELECT 1")
            assert postgres.pid != before
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await connection.fetchval("SELECT 1", timeout=ANSWER_S)
            connection.terminate()

        run(test())

    def test_a_frozen_server_holds_its_clients_and_answers_when_it_thaws(self, postgres: Postgres) -> None:
        async def test() -> None:
            connection = await asyncpg.connect(postgres.url("postgres"), timeout=ANSWER_S)
            async with applied(Frozen(of(postgres.pid or 0))):
                answer = asyncio.ensure_future(connection.fetchval("SELECT 42"))
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(answer), 0.2)
            assert await asyncio.wait_for(answer, ANSWER_S) == 42
            await connection.close()

        run(test())

    def test_a_fault_on_the_proxy_breaks_a_real_driver_and_comes_off(self, postgres: Postgres) -> None:
        async def test() -> None:
            async with ProxyProcess() as proxies:
                port = await proxies.listen("postgres", host=postgres.host, port=postgres.port)
                url = postgres.url("postgres").replace(f":{postgres.port}/", f":{port}/")
                await (await asyncpg.connect(url, timeout=ANSWER_S)).close()
                async with applied(OnProxy(proxies, "postgres", TcpFault("refuse"))):
                    with pytest.raises(ConnectionRefusedError):
                        await asyncpg.connect(url, timeout=ANSWER_S)
                await (await asyncpg.connect(url, timeout=ANSWER_S)).close()

        run(test())


class TestRedis:
    def test_paused_makes_every_client_wait_as_long_as_it_said(self, valkey: Redis) -> None:
        async def test() -> None:
            loop = asyncio.get_running_loop()
            async with redis_at(valkey.url()) as client:
                await client.ping()
                began_s = loop.time()
                async with applied(RedisPaused(valkey.url(), pause_s=0.3)):
                    await client.get("x")
                    assert loop.time() - began_s >= 0.25

        run(test())

    def test_out_of_memory_fails_writes_and_the_settings_come_back(self, valkey: Redis) -> None:
        async def test() -> None:
            async with redis_at(valkey.url()) as client:
                before = await client.config_get("maxmemory*")
                async with applied(RedisMemory(valkey.url())):
                    with pytest.raises(redis.exceptions.OutOfMemoryError):
                        await client.set("x", "y")
                    assert await client.get("x") is None
                await client.set("x", "y")
                assert await client.config_get("maxmemory*") == before

        run(test())

    def test_too_little_memory_evicts_keys(self, valkey: Redis) -> None:
        async def test() -> None:
            async with redis_at(valkey.url()) as client:
                for number in range(200):
                    await client.set(f"k{number}", "x" * 1000)
                async with applied(RedisMemory(valkey.url(), maxmemory="1", policy="allkeys-random")):
                    with contextlib.suppress(redis.exceptions.OutOfMemoryError):
                        await client.set("one more", "x")
                    assert await client.dbsize() < 200

        run(test())

    def test_emptied_leaves_no_key(self, valkey: Redis) -> None:
        async def test() -> None:
            async with redis_at(valkey.url()) as client:
                await client.set("x", "y")
                async with applied(RedisEmptied(valkey.url())):
                    assert await client.dbsize() == 0

        run(test())


class TestPulsed:
    def test_it_comes_and_goes_and_is_off_in_the_end(self) -> None:
        log: list[str] = []

        async def test() -> None:
            async with applied(Pulsed(Recorded("a", log), every_s=0.01)):
                async with asyncio.timeout(ANSWER_S):
                    while log.count("apply a") < 3:  # noqa: ASYNC110
                        await asyncio.sleep(0.005)

        run(test())
        assert log[:4] == ["apply a", "clear a", "apply a", "clear a"]
        assert log[-1] == "clear a"

    def test_what_went_wrong_in_between_is_said_in_the_end(self) -> None:
        async def test() -> None:
            with pytest.raises(OSError, match="a"):
                async with applied(Pulsed(Recorded("a", [], breaks="apply"), every_s=0.01)):
                    await asyncio.sleep(0.05)

        run(test())


def test_garbage_is_what_a_reader_finds_and_nothing_is_left_of_it(valkey: Redis) -> None:
    async def test() -> None:
        async with redis_at(valkey.url()) as client:
            await client.set("mine", "1")
            await client.lpush("list", "1")
            async with applied(RedisGarbage(valkey.url(), garbage=b"nonsense", every_s=0.01)):
                async with asyncio.timeout(ANSWER_S):
                    while await client.get("mine") != "nonsense":  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
            assert await client.dbsize() == 0

    run(test())


def test_a_disk_that_is_full_for_one_table_has_room_for_the_others(postgres: Postgres) -> None:
    async def test() -> None:
        url = postgres.admin_url()
        await run_sql(url, "CREATE TABLE IF NOT EXISTS lab_a (n int)", "CREATE TABLE IF NOT EXISTS lab_b (n int)")
        async with applied(DiskFull(url, only="lab_b")):
            await run_sql(url, "INSERT INTO lab_a VALUES (1)")
            with pytest.raises(asyncpg.DiskFullError):
                await run_sql(url, "INSERT INTO lab_b VALUES (1)")
        await run_sql(url, "INSERT INTO lab_b VALUES (1)", "DROP TABLE lab_a, lab_b")

    run(test())


async def half_a_login(postgres: Postgres) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Log in as far as the server's request for the password; None if it has no connection slot left."""
    reader, writer = await asyncio.open_connection(postgres.host, postgres.port)
    startup = struct.pack("!I", 3 << 16) + b"user\0app\0database\0postgres\0\0"
    writer.write(struct.pack("!I", len(startup) + 4) + startup)
    if await reader.read(1) == b"R":
        return reader, writer
    writer.close()
    return None


def test_an_administrator_gets_in_when_logins_that_hang_have_taken_every_connection() -> None:
    with Postgres.start({}, max_connections=8) as server:
        assert server.pid is not None
        server_pid = server.pid

        async def test() -> None:
            hanging = []
            while (half := await half_a_login(server)) is not None:
                hanging.append(half)
            with pytest.raises(asyncpg.TooManyConnectionsError):
                await asyncpg.connect(server.admin_url())
            connection = await admin_in_a_storm(server_pid, server.admin_url())
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
            for reader, writer in hanging:
                await asyncio.wait_for(reader.read(), ANSWER_S)
                writer.close()

        run(test())


def test_a_login_cut_off_halfway_is_ended_and_a_finished_one_is_not(postgres: Postgres) -> None:
    assert postgres.pid is not None
    server_pid = postgres.pid

    async def test() -> None:
        finished = await asyncpg.connect(postgres.admin_url())
        half = await half_a_login(postgres)
        assert half is not None
        reader, writer = half
        assert await end_unfinished_logins(server_pid, postgres.admin_url()) == 1
        await asyncio.wait_for(reader.read(), ANSWER_S)
        writer.close()
        assert await finished.fetchval("SELECT 1") == 1
        await finished.close()

    run(test())
