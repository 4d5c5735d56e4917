"""Creates Postgres data directories, by initdb or as a copy of a cached one, and gives their roles new passwords."""

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import executables
from .errors import BackingError
from .identity import Identity, give_to
from .postgres_programs import Programs
from .process import Child
from .watcher import Watcher

SUPERUSER = "warmfront"
APP_ROLE = "app"
INITDB_TIMEOUT_S = 120.0
ROLES_TIMEOUT_S = 60.0  # includes the recovery of a directory whose server was killed


@dataclass(frozen=True, slots=True)
class Passwords:
    superuser: str
    app: str


@dataclass(frozen=True, slots=True)
class ClusterMaker:
    """Creates data directories with one set of programs, as one user. Temporary files and output go to `work`."""

    programs: Programs
    identity: Identity
    work: Path
    environ: Mapping[str, str]
    watcher: Watcher

    def prepare(self, data: Path) -> Passwords:
        """Create a stopped cluster in `data`, or keep the one that is there, and return its two roles' new passwords.

        Raises:
            BackingError: the cluster is of another major version, or a program failed.
        """
        if (data / "PG_VERSION").exists():
            self._check_version(data)
            give_to(data, self.identity)
        elif template := _cache_folder(self.programs, self.identity, self.environ):
            self._copy_of_cached(template, data)
        else:
            self._initdb(data)
        passwords = Passwords(secrets.token_urlsafe(24), secrets.token_urlsafe(24))
        self._single_user(
            data,
            f"ALTER ROLE {SUPERUSER} PASSWORD '{passwords.superuser}';\n"
            f"ALTER ROLE {APP_ROLE} PASSWORD '{passwords.app}';\n",
        )
        return passwords

    def _check_version(self, data: Path) -> None:
        found = (data / "PG_VERSION").read_text().strip()
        if found != str(executables.major(self.programs.version)):
            raise BackingError(
                f"{data} was made by PostgreSQL {found}, but the server found is {self.programs.version} "
                f"({self.programs.folder}); remove the directory or set PG_BIN to a PostgreSQL {found}"
            )

    def _copy_of_cached(self, folder: Path, data: Path) -> None:
        try:
            with _locked(folder):
                if not (folder / "data").exists():
                    with _renamed_when_complete(folder / "data") as unfinished:
                        self._initdb(unfinished)
        except OSError:  # a full or read-only cache only costs time
            self._initdb(data)
            return
        with _renamed_when_complete(data) as unfinished:
            shutil.copytree(folder / "data", unfinished)
            give_to(unfinished, self.identity)

    def _initdb(self, data: Path) -> None:
        argv = [self.programs.initdb, "--no-sync", "--encoding=UTF8", "--locale=C", f"--username={SUPERUSER}"]
        argv += ["--auth=scram-sha-256", "--pwfile=/dev/stdin", f"--pgdata={data}"]
        data.mkdir(mode=0o700, exist_ok=True)
        give_to(data, self.identity)
        self._run("initdb", argv, stdin=secrets.token_urlsafe(24) + "\n", timeout_s=INITDB_TIMEOUT_S)
        self._single_user(data, f"CREATE ROLE {APP_ROLE} LOGIN CREATEDB;\n")

    def _single_user(self, data: Path, sql: str) -> None:
        # Single-user mode needs no server and so no first password. Each line is one statement; errors do not stop it.
        argv = [self.programs.postgres, "--single", "-D", str(data), "-c", "fsync=off", "postgres"]
        child_output = self._run("postgres --single", argv, stdin=sql, timeout_s=ROLES_TIMEOUT_S)
        if b"ERROR:" in child_output:
            raise BackingError(f"the roles in {data} could not be set: {child_output.decode(errors='replace').strip()}")

    def _run(self, name: str, argv: list[str], *, stdin: str, timeout_s: float) -> bytes:
        child = Child.start(
            name,
            argv,
            output=self.work / "initdb.log",
            env=clean_environment(self.environ),
            stdin=stdin.encode(),
            identity=self.identity,
            watcher=self.watcher,
        )
        return child.result(timeout_s=timeout_s)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without PG* variables and locale, which must not influence the server."""
    kept = {name: environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in environ}
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"} | kept


def _cache_folder(programs: Programs, identity: Identity, environ: Mapping[str, str]) -> Path | None:
    """Return a cache folder that only this user can write to, one per version and set of programs; None: not possible."""
    base = environ.get("XDG_CACHE_HOME") or (f"{environ['HOME']}/.cache" if environ.get("HOME") else "")
    if not identity.enters_all or not base.startswith("/"):
        return None
    stat = Path(programs.postgres).stat()
    about = f"{programs.folder} {programs.version} {stat.st_size} {stat.st_mtime_ns}"
    key = hashlib.sha256(about.encode()).hexdigest()[:12]
    folder = Path(base, "warmfront", f"postgres-{programs.version}-{key}")
    try:
        # Root with another user's HOME (sudo) must not leave root's files there.
        nearest = next(each for each in folder.parents if each.exists())
        if nearest.stat().st_uid != os.geteuid():
            return None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = folder.stat()
    except OSError:
        return None
    return folder if made.st_uid == os.geteuid() and not made.st_mode & 0o022 else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _renamed_when_complete(final: Path) -> Iterator[Path]:
    """Yield a temporary path for a directory, which is renamed to `final` only when it is complete."""
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{final.name}-", dir=final.parent) as unfinished:
        yield Path(unfinished, final.name)
        Path(unfinished, final.name).rename(final)
