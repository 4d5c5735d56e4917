"""Faults on Postgres: held locks, exhausted or ended connections, a full disk.

Each fault opens its own connection as the administrator, not through the proxy.
"""

import asyncio
import signal
from pathlib import Path

import asyncpg

from warmfront.lab.process_faults import process_tree, send

ROOM_TRIES, ROOM_PAUSE_S = 20, 0.1
CONNECT_TIMEOUT_S = 5.0


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
            send([pid for pid in process_tree(server_pid)[1:] if _logging_in(pid)], signal.SIGTERM)
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
    children = process_tree(server_pid)[1:]
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
