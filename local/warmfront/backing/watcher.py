"""Starts a watcher process that kills registered process groups when this process ends, even by SIGKILL.

`reaper` is the program that the watcher process runs.
"""

import atexit
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

from . import reaper

CLOSE_S = 5.0


class Watcher:
    """A process in its own session that kills the registered process groups when the pipe to it closes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._registered: dict[str, str] = {}  # key -> line that was written; sent again to a new watcher
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    @classmethod
    def start(cls) -> Self:
        watcher = cls()
        watcher._spawn()
        return watcher

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def register(self, pgid: int, *, first_signal: int = 0) -> None:
        """Kill this group and its descendants when this process ends.

        The group should lead a session of its own. Then the kernel sends its stopped members no SIGHUP when this
        process dies, and a descendant in another group is still found after its parent is gone.

        Args:
            pgid: process group id.
            first_signal: sent shortly before SIGKILL, so that the group can clean up; 0: none.
        """
        self._order(f"+{pgid}", f"+{pgid} {int(first_signal)}")

    def unregister(self, pgid: int) -> None:
        """Forget a group. Call it as soon as the group is gone, because the kernel may reuse its id."""
        self._withdraw(f"+{pgid}", f"-{pgid}")

    def remove_on_exit(self, path: Path | str) -> None:
        self._order(f"d{_plain(path)}", f"d{_plain(path)}")

    def keep_on_exit(self, path: Path | str) -> None:
        self._withdraw(f"d{_plain(path)}", f"k{_plain(path)}")

    def close(self) -> None:
        """Kill what is still registered, then end the watcher."""
        with self._lock:
            if self._process is None:
                return
            self._drop_pipe()
            try:
                self._process.wait(CLOSE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
            self._registered.clear()

    def _order(self, key: str, line: str) -> None:
        with self._lock:
            self._registered[key] = line
            self._write(line)

    def _withdraw(self, key: str, line: str) -> None:
        with self._lock:
            self._registered.pop(key, None)
            if self._process is not None:  # a closed watcher has no registrations
                self._write(line)

    def _write(self, line: str) -> None:
        if self._process is None:
            raise RuntimeError("the watcher is closed: nothing can be registered with it")
        try:
            os.write(self._pipe, os.fsencode(line + "\n"))
        except BrokenPipeError:  # the watcher was killed: start another with the same registrations
            self._drop_pipe()
            self._process.wait()
            self._spawn()
            for each in self._registered.values():
                os.write(self._pipe, os.fsencode(each + "\n"))

    def _spawn(self) -> None:
        read_end, write_end = os.pipe()  # neither is inherited: no other process may hold the write end
        with os.fdopen(read_end, "rb") as pipe:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", reaper.__file__],
                stdin=pipe,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        self._pipe = write_end

    def _drop_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _forget_in_fork(self) -> None:
        # A forked copy of this process must not keep the pipe open after the original has died.
        self._drop_pipe()


def _plain(path: Path | str) -> str:
    text = str(path)
    if not text.startswith("/") or "\n" in text:
        raise ValueError(f"not an absolute path on one line: {text!r}")
    return text


_one: Watcher | None = None
_one_lock = threading.Lock()


def get_watcher() -> Watcher:
    """Return this process's watcher, started on first use."""
    global _one
    with _one_lock:
        if _one is None:
            _one = Watcher.start()
        return _one


def reset_watcher() -> None:
    """Close this process's watcher, which kills what is still registered. The next `get_watcher` starts another."""
    global _one
    with _one_lock:
        watcher, _one = _one, None
    if watcher is not None:
        watcher.close()


def _forget_after_fork() -> None:
    global _one, _one_lock
    watcher, _one, _one_lock = _one, None, threading.Lock()
    if watcher is not None:
        watcher._forget_in_fork()


atexit.register(reset_watcher)
os.register_at_fork(after_in_child=_forget_after_fork)
