"""Tells which functions' files have changed, as the kernel reports it (inotify): no polling. Knows no processes."""

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

SETTLE_S = 0.15
"""An editor's save is several events, a checkout many: one change is told for all that come so close together."""

_IN_CLOSE_WRITE, _IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_IN_ISDIR, _IN_ONLYDIR, _IN_Q_OVERFLOW = 0x40000000, 0x01000000, 0x4000
_MASK = _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE
_EVENT = struct.Struct("iIII")
_PASSED_OVER = frozenset({"__pycache__", "node_modules", "venv", "site-packages"})


class SourceWatch:
    """Watches the folders of all functions; `on_change` gets the logical ids whose code is another now, and one changed name."""

    def __init__(
        self,
        sources: Mapping[str, Iterable[Path]],
        on_change: Callable[[set[str], str], None],
        note: Callable[[str], None],
    ) -> None:
        """Must be made on a running loop."""
        self._on_change = on_change
        self._note = note
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._changed: set[str] = set()
        self._name = ""
        self._folders: dict[int, Path] = {}
        self._owners: dict[Path, set[str]] = {}
        """Watched folder or file -> logical ids."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            note("hot reload is off: this user may watch no more files (fs.inotify.max_user_instances)")
            return
        for logical_id, paths in sources.items():
            for path in paths:
                self._owners.setdefault(path, set()).add(logical_id)
        for path in self._owners:
            self._watch_tree(path if path.is_dir() else path.parent, deep=path.is_dir())
        self._loop.add_reader(self._fd, self._on_events)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _watch_tree(self, folder: Path, *, deep: bool) -> None:
        queue = [folder]
        while queue:
            current = queue.pop()
            watch = self._libc.inotify_add_watch(self._fd, os.fsencode(current), _MASK | _IN_ONLYDIR)
            if watch < 0:
                if ctypes.get_errno() == errno.ENOSPC:
                    self._note(f"hot reload does not see changes below {current}: raise fs.inotify.max_user_watches")
                    return
                continue  # it is gone again, or not ours to read
            self._folders[watch] = current
            if deep:
                queue += [
                    Path(entry.path) for entry in os.scandir(current) if entry.is_dir() and _is_source(entry.name)
                ]

    def _on_events(self) -> None:
        try:
            data = os.read(self._fd, 65_536)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size
            name = os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
            offset += length
            if mask & _IN_Q_OVERFLOW:
                self._changed |= set().union(*self._owners.values())
            elif watch in self._folders and _is_source(name):
                self._look_at(self._folders[watch] / name, mask)
        if self._changed and self._timer is None:
            self._timer = self._loop.call_later(SETTLE_S, self._tell)

    def _look_at(self, path: Path, mask: int) -> None:
        if mask & _IN_ISDIR and mask & (_IN_CREATE | _IN_MOVED_TO) and self._owners_of(path.parent):
            self._watch_tree(path, deep=True)
        elif mask & _IN_CREATE:
            return  # its first write is still to come
        if owners := self._owners_of(path):
            self._changed |= owners
            self._name = path.name

    def _owners_of(self, path: Path) -> set[str]:
        found: set[str] = set()
        for place in (path, *path.parents):
            found |= self._owners.get(place, set())
        return found

    def _tell(self) -> None:
        self._timer = None
        changed, self._changed = self._changed, set()
        self._on_change(changed, self._name)


def _is_source(name: str) -> bool:
    """Not what interpreters and editors leave beside sources."""
    return not (
        name in _PASSED_OVER
        or name.startswith(".")
        or name.endswith(("~", ".pyc", ".swp", ".swx", ".tmp"))
        or name == "4913"
    )
