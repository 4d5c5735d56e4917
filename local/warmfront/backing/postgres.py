"""A Postgres to work against: one of our own, from start to stop, or the one that DATABASE_URL names."""

import asyncio
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote, urlsplit

from .errors import BackingError
from .executables import Origin, OriginChoice
from .identity import Identity, give_to
from .ports import LOOPBACK, on_free_port
from .postgres_cluster import APP_ROLE, SUPERUSER, ClusterMaker, clean_environment
from .postgres_programs import Programs, RunAsChoice, choose_identity, find_programs
from .process import Child
from .watcher import Watcher, get_watcher

READY = b"database system is ready to accept connections"
READY_TIMEOUT_S = 60.0
STOP_GRACE_S = 10.0
CONNECT_TIMEOUT_S = 5.0

# A benchmark measures the server's CPU, not the machine's disk: nothing is flushed, and no background jobs run.
# synchronous_commit stays on: without it, a killed server loses commits that it has acknowledged.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "log_min_messages": "warning",
    "lc_messages": "C",
    "timezone": "UTC",
    "unix_socket_directories": "",
    "listen_addresses": LOOPBACK,
}


@dataclass(frozen=True, slots=True)
class PostgresOptions:
    """Settings of a server that is started here. The server of a DATABASE_URL is used as it is."""

    max_connections: int = 200
    shared_buffers: str = "128MB"
    autovacuum: bool = False
    extra_settings: Mapping[str, str] = field(default_factory=dict)
    run_as: RunAsChoice = "auto"  # only used when this process is root's
    keep_open: tuple[int, ...] = ()  # file descriptors that the server inherits, such as a lock's

    def arguments(self, data: Path, port: int) -> list[str]:
        settings = SETTINGS | {
            "max_connections": str(self.max_connections),
            "shared_buffers": self.shared_buffers,
            "autovacuum": "on" if self.autovacuum else "off",
            **self.extra_settings,
        }
        pairs = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return ["-D", str(data), "-p", str(port), *pairs]


class Server:
    """One postmaster with one data directory. Its port stays the same after the first start."""

    def __init__(
        self,
        programs: Programs,
        identity: Identity,
        data: Path,
        output: Path,
        options: PostgresOptions,
        environ: Mapping[str, str],
        watcher: Watcher,
    ) -> None:
        self._programs = programs
        self._identity = identity
        self._data = data
        self._output = output
        self._options = options
        self._environ = environ
        self._watcher = watcher
        self._child: Child | None = None
        self.port = 0

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self, port: int) -> None:
        child = Child.start(
            f"PostgreSQL {self._programs.version}",
            [self._programs.postgres, *self._options.arguments(self._data, port)],
            output=self._output,
            env=clean_environment(self._environ),
            identity=self._identity,
            # The watcher gives it time to end its backends and remove its shared memory, and kills the rest.
            first_signal=signal.SIGQUIT,
            keep_open=self._options.keep_open,
            watcher=self._watcher,
        )
        try:
            child.await_output(READY, timeout_s=READY_TIMEOUT_S)
        except BaseException:
            child.stop(grace_s=1.0)
            raise
        self._child, self.port = child, port

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server. `fast` rolls back and checkpoints; `immediate` is a crash that the next start recovers from."""
        if self._child:
            polite = signal.SIGINT if mode == "fast" else signal.SIGQUIT
            self._child.stop(polite=polite, grace_s=STOP_GRACE_S)
            self._child = None


class Postgres:
    """A Postgres server to connect to. As a context manager it stops the server that it started."""

    def __init__(
        self,
        origin: Origin,
        version: str,
        *,
        app_url: str,
        admin_url: str,
        server: Server | None = None,
        work: Path | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.origin = origin
        self.version = version
        self._app_url = app_url
        self._admin_url = admin_url
        self._server = server
        self._work = work
        self._watcher = watcher

    @classmethod
    def start(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        origin: OriginChoice = "auto",
        state_dir: Path | None = None,
        watcher: Watcher | None = None,
        max_connections: int = 200,
        shared_buffers: str = "128MB",
        autovacuum: bool = False,
        extra_settings: Mapping[str, str] | None = None,
        run_as: RunAsChoice = "auto",
        keep_open: tuple[int, ...] = (),
    ) -> Self:
        """Start the machine's Postgres, or the wheel's if there is none; `origin` other than `auto` allows only one source.

        DATABASE_URL of `environ` is used with origin `url` only: one that happens to be set in a shell may be anybody's.

        Raises:
            BackingError: no server is available; the message lists what was searched.
        """
        environ = os.environ if environ is None else environ
        url = environ.get("DATABASE_URL", "")
        if origin == "url":
            return cls._external(url)
        options = PostgresOptions(max_connections, shared_buffers, autovacuum, extra_settings or {}, run_as, keep_open)
        programs = find_programs(environ, system=origin != "wheel", wheel=origin != "system")
        return cls._own(programs, environ, options, state_dir, watcher or get_watcher())

    @classmethod
    def _external(cls, url: str) -> Self:
        if urlsplit(url).scheme not in ("postgres", "postgresql"):
            raise BackingError("DATABASE_URL is not a postgresql:// address; correct it, or unset it")
        return cls("url", _version_at(url), app_url=url, admin_url=url)

    @classmethod
    def _own(
        cls,
        programs: Programs,
        environ: Mapping[str, str],
        options: PostgresOptions,
        state_dir: Path | None,
        watcher: Watcher,
    ) -> Self:
        work = Path(tempfile.mkdtemp(prefix="warmfront-postgres-", dir=_temporary_folder()))
        watcher.remove_on_exit(work)
        try:
            identity, programs = choose_identity(programs, options.run_as, work)
            home = state_dir.absolute() / "postgres" if state_dir else work
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not identity.enters_all and (closed := _closed_to_others(home.parent)):
                raise BackingError(
                    f"PostgreSQL runs as {identity.kind} here, which may not enter {closed} on the way to {home}; "
                    "keep no data (--ephemeral), or make that folder enterable (chmod o+x)"
                )
            give_to(work, identity)
            give_to(home, identity)
            passwords = ClusterMaker(programs, identity, work, environ, watcher).prepare(home / "data")
            server = Server(programs, identity, home / "data", home / "postgres.log", options, environ, watcher)
            on_free_port(server.start)
        except BaseException:
            _discard(work, watcher)
            raise
        return cls(
            programs.origin,
            programs.version,
            app_url=_url(APP_ROLE, passwords.app, server.port),
            admin_url=_url(SUPERUSER, passwords.superuser, server.port),
            server=server,
            work=work,
            watcher=watcher,
        )

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster. None: the server was not started here, or it is stopped."""
        return self._server.pid if self._server else None

    @property
    def host(self) -> str:
        return urlsplit(self._app_url).hostname or "localhost"

    @property
    def port(self) -> int:
        return urlsplit(self._app_url).port or 5432

    def url(self, database: str) -> str:
        """Return the address that handlers use: with the role `app`, or with the login of DATABASE_URL."""
        return _with_database(self._app_url, database)

    def admin_url(self, database: str = "postgres") -> str:
        return _with_database(self._admin_url, database)

    def describe(self) -> dict[str, object]:
        return {
            "origin": self.origin,
            "version": self.version,
            "pid": self.pid,
            "host": self.host,
            "port": self.port,
        }

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Restart with the same port, passwords and data. Raises BackingError for the server of a DATABASE_URL."""
        if self._server is None:
            raise BackingError("the PostgreSQL of DATABASE_URL was not started here; restart it where it runs")
        self._server.stop(mode)
        self._server.start(self._server.port)

    def stop(self) -> None:
        """Stop the server that `start` started and remove its temporary files. The server of a DATABASE_URL keeps running."""
        if self._server:
            self._server.stop()
        if self._work and self._watcher:
            _discard(self._work, self._watcher)
            self._work = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _url(user: str, password: str, port: int) -> str:
    return f"postgresql://{user}:{quote(password, safe='')}@{LOOPBACK}:{port}/"


def _with_database(url: str, database: str) -> str:
    # urlunsplit would drop the `//` of an address without a host (a socket that is named in the query).
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}/{quote(database, safe='')}{query}"


def _version_at(url: str) -> str:
    # In a thread of its own, because the caller may have an event loop running.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _ask_version(url)).result()


async def _ask_version(url: str) -> str:
    import asyncpg  # only needed for a server that was not started here

    try:
        try:
            connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
        except asyncpg.InvalidCatalogNameError:  # the database is created later
            connection = await asyncpg.connect(_with_database(url, "postgres"), timeout=CONNECT_TIMEOUT_S)
        try:
            return str(await connection.fetchval("SHOW server_version")).split()[0]
        finally:
            await connection.close()
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        parts = urlsplit(url)
        raise BackingError(
            f"DATABASE_URL: no connection to {parts.hostname}:{parts.port or 5432}: "
            f"{str(error) or type(error).__name__}; start that server, or unset DATABASE_URL for a local one"
        ) from error


def _temporary_folder() -> Path:
    """Where scratch files go: root's servers run under another account, which must be able to enter the folder."""
    usual = Path(tempfile.gettempdir())
    if os.geteuid() != 0:
        return usual
    return next((each for each in (usual, Path("/tmp"), Path("/var/tmp")) if not _closed_to_others(each)), usual)


def _closed_to_others(folder: Path) -> Path | None:
    """The outermost folder on the way to `folder`, with it, that other accounts may not enter."""
    way = (*reversed(folder.resolve().parents), folder.resolve())
    return next((each for each in way if not each.stat().st_mode & stat.S_IXOTH), None)


def _discard(work: Path, watcher: Watcher) -> None:
    shutil.rmtree(work, ignore_errors=True)
    watcher.keep_on_exit(work)
