"""The stage of experiments: backing services, the proxies in front of them, and one emulator that uses both."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import asyncpg

from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis
from warmfront.backing.watcher import get_watcher
from warmfront.lab.emulator_process import EmulatorProcess, EmulatorSettings
from warmfront.lab.postgres_faults import CONNECT_TIMEOUT_S, admin, admin_in_a_storm, end_unfinished_logins
from warmfront.lab.proxy_process import ProxyProcess

POSTGRES, REDIS, AWS = "postgres", "redis", "aws"
MAX_CONNECTIONS = 100  # as on a small RDS instance, and low enough for a connection storm to reach


class Stage:
    """Servers and proxies for a whole run, and one emulator at a time. An async context manager."""

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max_connections = max_connections
        self._exits = contextlib.AsyncExitStack()
        self._emulator: EmulatorProcess | None = None
        self._emulator_exits = contextlib.AsyncExitStack()
        self.proxies = ProxyProcess()
        self.postgres: Postgres
        self.redis: Redis
        self._ports: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as exits:
            self._folder = exits.enter_context(_folder())
            # Never the user's own servers: experiments take all connections, kill servers and fill them with garbage.
            self.postgres = exits.enter_context(Postgres.start({}, max_connections=self._max_connections))
            self.redis = exits.enter_context(Redis.start({}))
            await exits.enter_async_context(self.proxies)
            for name, server in ((POSTGRES, self.postgres), (REDIS, self.redis)):
                self._ports[name] = await self.proxies.listen(name, host=server.host, port=server.port)
            # No server listens there yet: the emulator starts the local AWS, and its port is known after that.
            self._ports[AWS] = await self.proxies.listen(AWS, host="127.0.0.1", port=1)
            exits.push_async_exit(self._stop_emulator)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def emulator(self, settings: EmulatorSettings) -> EmulatorProcess:
        """Return the running emulator if it has these settings, else replace it by one that has."""
        if self._emulator is None or self._emulator.settings != settings:
            await self._stop_emulator()
            emulator = EmulatorProcess(
                settings,
                self._folder,
                database_url=through(self.postgres.url("postgres"), self._ports[POSTGRES]),
                redis_url=through(self.redis.url(), self._ports[REDIS]),
            )
            self._emulator = await self._emulator_exits.enter_async_context(emulator)
            if settings.aws:
                aws = (await emulator.state())["backing"]["aws"]
                await self.proxies.redirect(AWS, host="127.0.0.1", port=int(aws["port"]))
        return self._emulator

    @property
    def aws_url(self) -> str:
        """Address of the proxy in front of the local AWS; it exists before the local AWS does."""
        return f"http://127.0.0.1:{self._ports[AWS]}"

    async def _stop_emulator(self, *_: object) -> None:
        self._emulator = None
        await self._emulator_exits.aclose()

    async def heal(self) -> None:
        """Clear all faults on the proxies, and end logins that a fault interrupted."""
        for name in self._ports:
            await self.proxies.clear(name)
        if self.postgres.pid is not None:
            await end_unfinished_logins(self.postgres.pid, self.postgres.admin_url())

    async def reset_proxy_counts(self) -> None:
        for name in self._ports:
            await self.proxies.reset_stats(name)

    async def query(self, database: str, sql: str) -> list[asyncpg.Record]:
        """Run a query as the administrator, not through the proxy."""
        url, server_pid = self.postgres.admin_url(database), self.postgres.pid
        connection = await (admin(url) if server_pid is None else admin_in_a_storm(server_pid, url))
        try:
            return list(await connection.fetch(sql, timeout=CONNECT_TIMEOUT_S))
        finally:
            await connection.close()

    async def query_numbers(self, database: str, sql: str) -> Mapping[str, int]:
        """Run a query and return its first column as text -> its second as a number."""
        return {str(row[0]): int(row[1]) for row in await self.query(database, sql)}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Yield a folder for logs and clocks that is removed when this process ends, even if it is killed."""
    with tempfile.TemporaryDirectory(prefix="warmfront-lab-") as name:
        get_watcher().remove_on_exit(name)
        try:
            yield Path(name)
        finally:
            get_watcher().keep_on_exit(name)


def through(url: str, port: int) -> str:
    """Return the address with the proxy's port, with the same login and database."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login}{at}127.0.0.1:{port}").geturl()
