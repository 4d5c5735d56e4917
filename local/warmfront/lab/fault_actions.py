"""Faults on processes, Postgres and Redis, and `applied`, which applies any fault and always clears it again.

A fault is an object with `apply` and `clear`. Clearing it twice, or after it was only partly applied, is harmless.
"""

import asyncio
import contextlib
import math
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import asyncpg
import redis.asyncio

from warmfront.lab.clock import set_clock
from warmfront.lab.proxy_process import ProxyProcess
from warmfront.lab.tcp_faults import TcpFault

ROOM_TRIES, ROOM_PAUSE_S = 20, 0.1
CONNECT_TIMEOUT_S = 5.0
REDIS_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0


class Fault(Protocol):
    """Something that can be broken and repaired."""

    async def apply(self) -> None: ...
    async def clear(self) -> None: ...


@contextlib.asynccontextmanager
async def applied(*faults: Fault) -> AsyncIterator[None]:
    """Apply the faults in order; clear them in reverse order, also if one could not be applied or the body failed."""
    async with contextlib.AsyncExitStack() as stack:
        for fault in faults:
            stack.push_async_callback(fault.clear)
            await fault.apply()
        yield


class OnProxy:
    """A TCP fault on one proxy of the proxy process."""

    def __init__(self, proxies: ProxyProcess, proxy: str, fault: TcpFault) -> None:
        self._proxies, self._proxy, self._fault = proxies, proxy, fault
        self._name = f"{fault.kind} {fault.direction}"

    async def apply(self) -> None:
        await self._proxies.add(self._proxy, self._name, self._fault)

    async def clear(self) -> None:
        await self._proxies.remove(self._proxy, self._name)


# Processes

Pids = Callable[[], Awaitable[Sequence[int]]]
"""Called when the fault is applied, because environments come and go."""


def family(pid: int) -> list[int]:
    """Return the process and its living descendants, parents first. A server that forks is only stopped with them."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):  # it has ended in the meantime
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def send(pids: Iterable[int], number: signal.Signals) -> int:
    """Send a signal to the processes that still live, and return their number."""
    reached = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            reached += 1
    return reached


def runs(pid: int) -> bool:
    """Return whether the process exists and is not stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TtZX"
    except OSError:
        return False


class Frozen:
    """Stops processes with SIGSTOP until cleared. Clients see a server that keeps connections open and never responds."""

    def __init__(self, pids: Pids, *, descendants: bool = True) -> None:
        self._pids = pids
        self._descendants = descendants
        self._stopped: list[int] = []

    async def apply(self) -> None:
        for pid in await self._pids():
            self._stopped += family(pid) if self._descendants else [pid]
        send(self._stopped, signal.SIGSTOP)
        # A process stops when it is next scheduled, and only its parent is notified, so its state is polled.
        async with asyncio.timeout(STOP_TIMEOUT_S):
            while any(runs(pid) for pid in self._stopped):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def clear(self) -> None:
        send(reversed(self._stopped), signal.SIGCONT)
        self._stopped = []


class Killed:
    """Kills processes with SIGKILL, once or repeatedly at random times. It does not restart them."""

    def __init__(self, pids: Pids, *, every_s: float | None = None, for_s: float = math.inf, seed: int = 0) -> None:
        self._pids = pids
        self._every_s = every_s
        self._for_s = for_s
        self._rng = random.Random(f"kill {seed}")
        self._killing: asyncio.Task[None] | None = None
        self.killed = 0

    async def apply(self) -> None:
        if self._every_s is None:
            self.killed += send(await self._pids(), signal.SIGKILL)
        else:
            self._killing = asyncio.create_task(self._keep_killing(self._every_s))

    async def _keep_killing(self, every_s: float) -> None:
        now_s = asyncio.get_running_loop().time
        end_s = now_s() + self._for_s
        while now_s() < end_s:
            await asyncio.sleep(every_s * self._rng.uniform(0.5, 1.5))
            if pids := sorted(await self._pids()):
                self.killed += send([self._rng.choice(pids)], signal.SIGKILL)

    async def clear(self) -> None:
        if self._killing is not None:
            self._killing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._killing
            self._killing = None


class Pulsed:
    """Applies another fault and clears it alternately, each for the same time, until it is cleared itself."""

    def __init__(self, fault: Fault, *, every_s: float) -> None:
        self._fault = fault
        self._every_s = every_s
        self._pulsing: asyncio.Task[None] | None = None

    async def apply(self) -> None:
        self._pulsing = asyncio.create_task(self._pulse())

    async def _pulse(self) -> None:
        while True:
            async with applied(self._fault):
                await asyncio.sleep(self._every_s)
            await asyncio.sleep(self._every_s)

    async def clear(self) -> None:
        if self._pulsing is None:
            return
        self._pulsing.cancel()
        (ended,) = await asyncio.gather(self._pulsing, return_exceptions=True)
        self._pulsing = None
        if isinstance(ended, Exception):
            raise ended


class ClockJump:
    """Shifts the wall clock of a function's environments, as an NTP step or a resumed virtual machine does."""

    def __init__(self, file: Path, *, offset_s: float) -> None:
        self._file, self._offset_s = file, offset_s

    async def apply(self) -> None:
        set_clock(self._file, self._offset_s)

    async def clear(self) -> None:
        set_clock(self._file, 0.0)


class Restarted:
    """Restarts a server, which is how clients see a failover: all connections end and the service is briefly absent."""

    def __init__(self, restart: Callable[[], object]) -> None:
        self._restart = restart

    async def apply(self) -> None:
        await asyncio.to_thread(self._restart)

    async def clear(self) -> None:
        """Do nothing: the server has already been restarted."""


# Postgres: each fault opens its own connection as the administrator, not through the proxy


async def admin(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": "warmfront lab"})


async def admin_in_a_storm(server_pid: int, url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Connect as the administrator even if all connections are taken, including those reserved for administrators.

    Postgres assigns a connection slot before it authenticates. Environments that were frozen during their login hold
    one slot each, for up to a minute. Such logins are ended until there is room.
    """
    for _ in range(ROOM_TRIES):
        try:
            return await admin(url)
        except asyncpg.TooManyConnectionsError:
            send([pid for pid in family(server_pid)[1:] if _logging_in(pid)], signal.SIGTERM)
            await asyncio.sleep(ROOM_PAUSE_S)
    return await admin(url)


def _logging_in(pid: int) -> bool:
    """Return whether a backend is still authenticating, by its title: `postgres: USER DATABASE ADDRESS(PORT) authentication`."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return title.startswith(b"postgres: ") and title.rstrip(b" \0").endswith(b") authentication")


async def run_sql(url: str, *statements: str) -> None:
    connection = await admin(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def end_unfinished_logins(server_pid: int, url: str) -> int:
    """End logins that a fault interrupted, and return their number. DROP DATABASE would wait for them.

    Such a login is a child process of the server that pg_stat_activity does not list; from PostgreSQL 18 on it is listed
    as `starting`.
    """
    children = family(server_pid)[1:]
    connection = await admin_in_a_storm(server_pid, url)
    try:
        rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE state IS DISTINCT FROM 'starting'")
    finally:
        await connection.close()
    return send(set(children) - {row["pid"] for row in rows}, signal.SIGTERM)


class LockHeld:
    """Holds a lock in a transaction that does not end, as a forgotten session or a migration does."""

    def __init__(self, url: str, sql: str) -> None:
        self._url, self._sql = url, sql
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def apply(self) -> None:
        self._connection = await admin(self._url)
        await self._connection.execute("BEGIN")
        await self._connection.execute(self._sql)

    async def clear(self) -> None:
        if self._connection is not None:
            self._connection.terminate()  # the server rolls back; a COMMIT could wait
            self._connection = None


class ConnectionLimit:
    """Limits the connections of a role, which looks to its clients like an exhausted max_connections."""

    def __init__(self, url: str, *, role: str, limit: int) -> None:
        self._url, self._role, self._limit = url, role, limit
        self._before: int | None = None

    async def apply(self) -> None:
        connection = await admin(self._url)
        try:
            before = await connection.fetchval("SELECT rolconnlimit FROM pg_roles WHERE rolname = $1", self._role)
            if before is None:
                raise ValueError(f"Postgres has no role {self._role!r}")
            self._before = int(before)
            await connection.execute(f'ALTER ROLE "{self._role}" CONNECTION LIMIT {self._limit}')
        finally:
            await connection.close()

    async def clear(self) -> None:
        if self._before is not None:
            await run_sql(self._url, f'ALTER ROLE "{self._role}" CONNECTION LIMIT {self._before}')
            self._before = None


class ConnectionsTaken:
    """Opens connections of its own, so that only the given number is left of max_connections."""

    def __init__(self, url: str, *, leave: int) -> None:
        self._url, self._leave = url, leave
        self._held: list[asyncpg.Connection[asyncpg.Record]] = []

    async def apply(self) -> None:
        self._held.append(await admin(self._url))
        free = await self._held[0].fetchval(
            """SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                      - count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"""
        )
        for _ in range(max(0, int(free) - self._leave)):
            self._held.append(await admin(self._url))

    async def clear(self) -> None:
        for connection in self._held:
            connection.terminate()
        self._held = []


class BackendsTerminated:
    """Ends every connection of a role, as in a failover that the server survives."""

    def __init__(self, url: str, *, role: str) -> None:
        self._url, self._role = url, role
        self.terminated = 0

    async def apply(self) -> None:
        connection = await admin(self._url)
        try:
            ended = await connection.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", self._role
            )
            self.terminated = len(ended)
        finally:
            await connection.close()

    async def clear(self) -> None:
        """Do nothing: clients connect again."""


class DiskFull:
    """Makes every write to the database's tables fail with SQLSTATE 53100, as on a full disk. Reads still work.

    `only` names a single table: the first one that needs a new page, while others still have space in theirs.
    """

    _FUNCTION = """CREATE OR REPLACE FUNCTION lab_disk_full() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"""
    _ON_EVERY_TABLE = """DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'r' AND c.relname LIKE 'TABLE_PATTERN'
              AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
        LOOP EXECUTE format('%s', replace($template$STATEMENT$template$, 'TABLE_NAME', name)); END LOOP; END $$"""

    def __init__(self, url: str, *, only: str = "%") -> None:
        self._url = url
        self._on_tables = self._ON_EVERY_TABLE.replace("TABLE_PATTERN", only)

    async def apply(self) -> None:
        trigger = (
            "CREATE OR REPLACE TRIGGER lab_disk_full BEFORE INSERT OR UPDATE ON TABLE_NAME "
            "EXECUTE FUNCTION lab_disk_full()"
        )
        await run_sql(self._url, self._FUNCTION, self._on_tables.replace("STATEMENT", trigger))

    async def clear(self) -> None:
        await run_sql(self._url, "DROP FUNCTION IF EXISTS lab_disk_full() CASCADE")


# Redis


class RedisPaused:
    """Makes all clients wait (CLIENT PAUSE). Redis accepts no command before the time is over, so `clear` waits for it."""

    def __init__(self, url: str, *, pause_s: float) -> None:
        self._url, self._pause_s = url, pause_s
        self._until_s = 0.0

    async def apply(self) -> None:
        async with redis_at(self._url) as client:
            await client.client_pause(int(self._pause_s * 1000), all=True)
        self._until_s = asyncio.get_running_loop().time() + self._pause_s

    async def clear(self) -> None:
        await asyncio.sleep(max(0.0, self._until_s - asyncio.get_running_loop().time()))


class RedisMemory:
    """Limits memory below what the keys need. With `noeviction`, writes fail (OOM); with other policies, keys disappear."""

    def __init__(self, url: str, *, maxmemory: str = "1", policy: str = "noeviction") -> None:
        self._url = url
        self._wanted = {"maxmemory-policy": policy, "maxmemory": maxmemory}
        self._before: dict[str, str] = {}

    async def apply(self) -> None:
        async with redis_at(self._url) as client:
            for name, value in self._wanted.items():
                self._before[name] = str((await client.config_get(name))[name])
                await client.config_set(name, value)

    async def clear(self) -> None:
        async with redis_at(self._url) as client:
            for name, value in self._before.items():
                await client.config_set(name, value)
        self._before = {}


class RedisGarbage:
    """Overwrites every value with garbage, repeatedly: another program's keys, an older format, a bug."""

    _OVERWRITE = """for _, key in ipairs(redis.call('KEYS', '*')) do
        redis.call('SET', key, ARGV[1], 'EX', 60) end"""

    def __init__(self, url: str, *, garbage: bytes = b"\x00{\xff not what you stored", every_s: float = 0.1) -> None:
        self._url, self._garbage, self._every_s = url, garbage, every_s
        self._writing: asyncio.Task[None] | None = None

    async def apply(self) -> None:
        self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        async with redis_at(self._url) as client:
            while True:
                await client.eval(self._OVERWRITE, 0, self._garbage)
                await asyncio.sleep(self._every_s)

    async def clear(self) -> None:
        if self._writing is None:
            return
        self._writing.cancel()
        (ended,) = await asyncio.gather(self._writing, return_exceptions=True)
        self._writing = None
        if isinstance(ended, Exception):
            raise ended
        async with redis_at(self._url) as client:
            await client.flushall()


class RedisEmptied:
    """Deletes every key at once: an eviction, a restart, or a failover to an empty replica."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def apply(self) -> None:
        async with redis_at(self._url) as client:
            await client.flushall()

    async def clear(self) -> None:
        """Do nothing: a cache fills again by itself."""


@contextlib.asynccontextmanager
async def redis_at(url: str) -> AsyncIterator["redis.asyncio.Redis"]:
    client = redis.asyncio.Redis.from_url(
        url, decode_responses=True, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )
    try:
        yield client
    finally:
        await client.aclose()
