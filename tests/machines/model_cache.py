"""What `cache.lua` does in Redis, as a dictionary whose clock, troubles and order of events are the test's to set."""

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field

from shared.kit.cache import tombstone
from shared.kit.redis import Unreachable


class Pause(Awaitable[None]):
    """Where a coroutine that a test drives by hand lets others go first."""

    def __init__(self, before: str) -> None:
        self.before = before

    def __await__(self) -> Generator["Pause", None, None]:
        yield self


async def no_pause(before: str) -> None:
    del before


def version_of(stored: bytes | None) -> int:
    return -1 if stored is None else int(stored[1:].split()[0])


@dataclass
class ModelStore:
    clock_ms: Callable[[], float]
    pause: Callable[[str], Awaitable[None]] = no_pause
    checks_versions: bool = True
    down: bool = False
    entries: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)

    async def look(self, key: str, token: str, lease_ms: int, remaining_s: float) -> tuple[bool, bytes | None]:
        await self._arrive("look", remaining_s)
        stored = self.stored(key)
        if stored is not None and not stored.startswith(b"T"):
            return False, stored
        return self._lease(key, token, lease_ms), stored

    async def lease(self, key: str, token: str, lease_ms: int, remaining_s: float) -> tuple[bool, bytes | None]:
        await self._arrive("lease", remaining_s)
        return self._lease(key, token, lease_ms), self.stored(key)

    async def fill(self, key: str, version: int, entry: bytes, keep_ms: int, token: str, remaining_s: float) -> bool:
        await self._arrive("fill", remaining_s)
        wins = version >= version_of(self.stored(key)) or not self.checks_versions
        if wins:
            self.entries[key] = (entry, self.clock_ms() + keep_ms)
        self._release(key, token)
        return wins

    async def release(self, key: str, token: str, remaining_s: float) -> None:
        await self._arrive("release", remaining_s)
        self._release(key, token)

    async def invalidate(self, versions: Mapping[str, int], keep_ms: int) -> None:
        await self._arrive("invalidate", 1.0)
        for key, version in versions.items():
            if version > version_of(self.stored(key)):
                self.entries[key] = (tombstone(version), self.clock_ms() + keep_ms)

    def stored(self, key: str) -> bytes | None:
        entry, ends_ms = self.entries.get(key, (None, 0.0))
        return entry if self.clock_ms() < ends_ms else None

    def _lease(self, key: str, token: str, lease_ms: int) -> bool:
        held = self.leases.get(key)
        if ours := held is None or held[1] <= self.clock_ms():
            self.leases[key] = (token, self.clock_ms() + lease_ms)
        return ours

    def _release(self, key: str, token: str) -> None:
        if token and self.leases.get(key, ("", 0.0))[0] == token:
            del self.leases[key]

    async def _arrive(self, what: str, remaining_s: float) -> None:
        await self.pause(what)
        if self.down or remaining_s <= 0:
            raise Unreachable("down")
