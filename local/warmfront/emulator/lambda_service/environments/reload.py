"""Watches the code of functions and tells whose files have changed, with watchfiles."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

SETTLE_MS = 150
"""An editor's save is several events, a checkout many: one change is told for all that come so close together."""

_PASSED_OVER = frozenset({"__pycache__", "node_modules", "venv", "site-packages"})


class SourceWatch:
    """Watches the folders of all functions; `on_change` gets the logical ids whose code is another now, and one changed name."""

    def __init__(
        self,
        sources: Mapping[str, Iterable[Path]],
        on_change: Callable[[set[str], str], None],
        note: Callable[[str], None],
    ) -> None:
        """Must be made on a running loop. `sources`: logical id -> files and folders; `note` takes a line for the terminal."""
        self._on_change = on_change
        self._note = note
        self._owners: dict[Path, set[str]] = {}
        """Watched folder or file -> logical ids."""
        for logical_id, paths in sources.items():
            for path in paths:
                self._owners.setdefault(path, set()).add(logical_id)
        self._untold: set[Path] = set()
        self._armed = asyncio.Event()
        self._stop = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def armed(self) -> None:
        """Wait until every change from now on is seen."""
        await self._armed.wait()

    def close(self) -> None:
        self._stop.set()
        self._task.cancel()

    async def _watch(self) -> None:
        """Until `close`: watch all folders, and anew when there is another one."""
        try:
            while not self._stop.is_set():
                await self._watch_folders()
        except (OSError, RuntimeError) as error:  # the user's limit of watches, or a file system without events
            self._note(f"hot reload is off: {error}; raise fs.inotify.max_user_watches or max_user_instances")

    async def _watch_folders(self) -> None:
        """Returns when a folder was made below those that are watched."""
        from watchfiles import Change, awatch

        folders = list(self._folders())
        if not folders:
            await self._stop.wait()
            return
        # Not recursive: that would watch virtual environments and node_modules, too.
        changes = awatch(
            *folders, debounce=SETTLE_MS, stop_event=self._stop, recursive=False, ignore_permission_denied=True,
            watch_filter=lambda _, path: _is_source(Path(path).name),
        )  # fmt: skip
        async with contextlib.aclosing(changes):
            # The first step of the loop sets the watches, then it waits for the thread that has them.
            asyncio.get_running_loop().call_soon(self._on_armed)
            async for found in changes:
                paths = {Path(path) for _, path in found}
                if any(change is Change.added and Path(path).is_dir() for change, path in found):
                    self._untold = paths  # told when the new folder is watched, so that no change in it is missed
                    return
                self._tell(paths)

    def _on_armed(self) -> None:
        self._armed.set()
        untold, self._untold = self._untold, set()
        self._tell(untold)

    def _folders(self) -> Iterator[Path]:
        """Every folder that holds a source; a file's own, because editors replace files."""
        found: dict[Path, None] = {}
        for place in self._owners:
            if not place.is_dir():
                found[place.parent] = None
                continue
            for folder, inner, _ in os.walk(place):
                inner[:] = [name for name in inner if _is_source(name)]
                found[Path(folder)] = None
        return (folder for folder in found if folder.is_dir())

    def _tell(self, paths: set[Path]) -> None:
        owners = {path: owned for path in paths if (owned := self._owners_of(path))}
        if owners:
            self._on_change(set().union(*owners.values()), sorted(owners)[-1].name)

    def _owners_of(self, path: Path) -> set[str]:
        found: set[str] = set()
        for place in (path, *path.parents):
            found |= self._owners.get(place, set())
        return found


def _is_source(name: str) -> bool:
    """Not what interpreters and editors leave beside sources."""
    return not (
        name in _PASSED_OVER
        or name.startswith(".")
        or name.endswith(("~", ".pyc", ".swp", ".swx", ".tmp"))
        or name == "4913"
    )
