"""The emulator's side of private mounts: makes the root that environments share, and tells each process what to mount in it.

`runtimes/namespace.py` is what runs inside. Where the kernel or a container refuses mounts, functions see this machine's own folders.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from warmfront.emulator.lambda_service.runtimes import namespace as inside
from warmfront.emulator.lambda_service.runtimes.namespace import HOST, OWN, VARIABLE

MAKE_S = 10.0
MODULE = "warmfront_namespace"
HIDDEN = tuple(Path(each) for each in (inside.TASK, inside.LAYERS, inside.RUNTIME, inside.TMP))
"""Folders of this machine that processes do not see under their own names."""


class MountsRefused(Exception):
    """Why there can be no private mounts here."""


@dataclass(frozen=True, slots=True)
class MountNamespace:
    """Open descriptors of the namespaces that hold the shared root."""

    user_fd: int
    """-1: mounts need no user namespace, as for root."""
    mount_fd: int
    code: Path
    """Folder with the module that processes enter with."""
    writable: Mapping[str, Path]
    """Name below /.warmfront -> folder of this machine."""

    def close(self) -> None:
        for descriptor in (self.user_fd, self.mount_fd):
            if descriptor >= 0:
                os.close(descriptor)

    def seen(self, path: Path) -> Path:
        """Where processes find a folder or file of this machine: under its own name unless that is hidden."""
        return Path(HOST + str(path)) if any(path.is_relative_to(each) for each in HIDDEN) else path

    def writable_path(self, path: Path) -> str:
        """Where processes find a path in one of the writable folders."""
        name, folder = next(each for each in self.writable.items() if path.is_relative_to(each[1]))
        return f"{OWN}/{name}/{path.relative_to(folder)}"


class MountsInTheMaking:
    """A process that builds the shared root; `finish` waits for it. Started early, it costs the emulator's start nothing."""

    def __init__(self, process: subprocess.Popen[str], code: Path, writable: Mapping[str, Path]) -> None:
        self._process = process
        self._code = code
        self._writable = writable

    @classmethod
    def begin(cls, state_dir: Path) -> Self:
        """The folders `runtime` and `tmp` in `state_dir` become /var/runtime and a writable folder for notes."""
        writable = {"notes": state_dir / "tmp"}
        if folder := os.environ.get("WARMFRONT_ANATOMY"):  # only `warmfront cold` sets it
            writable["anatomy"] = Path(folder)
        code = state_dir / "namespace"
        for each in (code, state_dir / "runtime", writable["notes"]):
            each.mkdir(parents=True, exist_ok=True)
        module = Path(shutil.copyfile(str(inside.__file__), code / f"{MODULE}.py"))
        pairs = [f"{name}={folder}" for name, folder in writable.items()]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(module), "make", str(state_dir), str(state_dir / "runtime"), *pairs],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        return cls(process, code, writable)

    def finish(self) -> MountNamespace:
        """The namespaces, once they are there. Raises MountsRefused. To be called once."""
        process = self._process
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                _, said = process.communicate(timeout=MAKE_S)
                raise MountsRefused(said.strip().splitlines()[-1] if said.strip() else "no reason was given")
            return MountNamespace(
                self._open("user"), os.open(f"/proc/{process.pid}/ns/mnt", os.O_RDONLY), self._code, self._writable
            )
        except OSError as error:
            raise MountsRefused(str(error)) from None
        finally:
            self.abandon()

    def _open(self, kind: str) -> int:
        theirs, ours = (os.stat(f"/proc/{pid}/ns/{kind}").st_ino for pid in (self._process.pid, "self"))  # noqa: PTH116
        return os.open(f"/proc/{self._process.pid}/ns/{kind}", os.O_RDONLY) if theirs != ours else -1

    def abandon(self) -> None:
        """End the process; the namespaces live on in the descriptors."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True, slots=True)
class FunctionMounts:
    """What one function's processes mount in the shared root."""

    namespace: MountNamespace
    task: Path
    layers: Path | None
    tmp_mb: int

    def entry(self, held_fd: int, *, keep: bool) -> str:
        """The value of WARMFRONT_NAMESPACE. `held_fd`: mounts of an environment that was reset, or -1; `keep`: it will be forked."""
        mount_fd = held_fd if held_fd >= 0 else self.namespace.mount_fd
        layers = "" if self.layers is None else str(self.layers)
        parts = (self.namespace.user_fd, mount_fd, int(held_fd >= 0), self.tmp_mb, int(keep), self.task, layers)
        return "\n".join((str(self.namespace.code), *map(str, parts)))

    def fork_entry(self, held_fd: int) -> str:
        """The same for a fork of a snapshot, without the descriptor's number, which only the fork knows."""
        return f"{int(held_fd >= 0)}\n{self.tmp_mb}\n{int(self.namespace.user_fd >= 0)}"

    def descriptors(self, held_fd: int) -> tuple[int, ...]:
        wanted = (self.namespace.user_fd, held_fd if held_fd >= 0 else self.namespace.mount_fd)
        return tuple(each for each in wanted if each >= 0)

    def command(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Runs `argv`, which is not our bootstrap, inside."""
        return (sys.executable, "-I", "-S", str(self.namespace.code / f"{MODULE}.py"), "enter", *argv)

    def adapted(self, environ: Mapping[str, str]) -> dict[str, str]:
        """An environment's variables with the paths that its processes see."""
        changed = {name: value for name, value in environ.items() if name != "TMPDIR"}
        changed["WARMFRONT_MILESTONES"] = self.namespace.writable_path(Path(changed["WARMFRONT_MILESTONES"]))
        return changed


def held_mounts(pid: int) -> int:
    """A descriptor that keeps a process's mounts when it ends, for the next process of its environment."""
    return os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


__all__ = ["VARIABLE", "FunctionMounts", "MountNamespace", "MountsInTheMaking", "MountsRefused", "held_mounts"]
