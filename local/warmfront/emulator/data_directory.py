"""Manages the folder that keeps a project's local data between runs, locked by one emulator at a time."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from warmfront.emulator.options import StartError
from warmfront.emulator.template import SetUpCall

LAST_RUN_S = 15.0
"""How long a start waits for the servers of a killed emulator to end: Postgres needs about a second."""
LOCK = "lock"
SET_UP = "set-up"


class DataDirectory:
    """`.warmfront/` beside a template: data of Postgres, Redis and the local AWS, and which set-up has run.

    The lock is held by the emulator and by every server that got `lock_fd`, so that nobody opens the files of a
    server that is still ending.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd

    @classmethod
    def open(cls, path: Path, *, reset: bool = False) -> Self:
        """Create or open the folder `path` and lock it; `reset` removes the data in it.

        Raises StartError when another emulator holds it, or when it cannot be written.
        """
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (path / ".gitignore").exists():
                (path / ".gitignore").write_text("*\n", encoding="utf-8")
            descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"{path}: {error.strerror}; data cannot be kept there: use --ephemeral") from None
        try:
            _lock(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        opened = cls(path, descriptor)
        if reset:
            opened._remove_data()
        return opened

    def folder(self, name: str) -> Path:
        """The folder of one server's data, such as `postgres`; it need not exist yet."""
        return self.path / "data" / name

    def set_up_done(self, calls: Iterable[SetUpCall]) -> bool:
        """Whether exactly these set-up invocations have run on this data."""
        with contextlib.suppress(OSError):
            return (self.path / "data" / SET_UP).read_text(encoding="utf-8") == _digest(calls)
        return False

    def note_set_up(self, calls: Iterable[SetUpCall]) -> None:
        """Remember that these set-up invocations have run."""
        marker = self.path / "data" / SET_UP
        marker.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        marker.write_text(_digest(calls), encoding="utf-8")

    def close(self) -> None:
        """Release the lock; servers that still hold it release it when they end."""
        os.close(self.lock_fd)

    def _remove_data(self) -> None:
        try:
            shutil.rmtree(self.path / "data", ignore_errors=False)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StartError(f"--reset: {error.filename}: {error.strerror}") from None


def _lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LAST_RUN_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(path)
            if holder is not None and Path(f"/proc/{holder}").exists():
                raise StartError(
                    f"{path} is used by another emulator (process {holder}): stop that one, or start this one with --ephemeral"
                ) from None
            if time.monotonic() > deadline:
                raise StartError(
                    f"{path}: servers of an earlier run have not ended within {LAST_RUN_S:g} s; use --ephemeral"
                ) from None
            time.sleep(0.05)  # poll: nothing signals the end of the last holder
            continue
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return


def _holder(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((path / LOCK).read_text())
    return None


def _digest(calls: Iterable[SetUpCall]) -> str:
    text = b"\0".join(call.function.encode() + b" " + call.event for call in calls)
    return hashlib.sha256(text).hexdigest()
