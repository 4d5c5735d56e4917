"""A read-through cache in Redis that fails open: without Redis, values are loaded from the database.

A value is found by its key and carries the version of the row that it was made from; the newest version that is known
wins, in Redis, in one script (`cache.lua`). That settles every race between readers that are slow and writers that are
done: an older row is refused, whether a newer one is stored already or only a tombstone, which a writer leaves after
its commit and which outlives every invocation that could have read before it.

    fresh    served. Some readers refresh early, by chance, the more likely the more the load costs and the nearer the end
             (XFetch: Vattani, Chierichetti, Lowenstein, VLDB 2015), so that a busy key never ends for all at once
    stale    past its time: one reader loads (a lease in Redis says which), the others are served the stale value, and
             so is the one if the database fails
    nothing  one reader loads (its look has taken the lease); the others look again until it is there or their wait is
             over, and then load as well

Whatever goes wrong with Redis is a bypass: the value is loaded, within the one time-out that showed the trouble. What is
left is bounded by time: an invalidation that did not reach Redis, or a tombstone that was evicted while an older row was
on its way, is made good when the entry's time is over.
"""

import asyncio
import math
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from itertools import count
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

from shared.kit import telemetry
from shared.kit.deadline import Deadline
from shared.kit.problems import NotFound, Problem
from shared.kit.redis import Measure, Redis, Refused, Script, Unreachable
from shared.kit.redis_settings import RedisSettings
from shared.kit.settings import CacheSettings

FORMAT = 1  # of entries and of what is cached in them: another one, and neither side reads what the other wrote
BETA = 1.0  # above 1 refreshes earlier
JITTER = 0.1  # of the time to live: what was stored together does not end together
TOMBSTONE_MS = 60_000  # an HTTP API gives an invocation 30 s, so no reader from before the write stores after this
PAUSE_S = 0.005  # before the second look; doubles
ABSENT = 0  # the version of what there is not

HIT, MISSED, BYPASSED = "Warmfront; hit", "Warmfront; fwd=miss", "Warmfront; fwd=bypass"

type Load = Callable[[], Awaitable[tuple[int, str]]]  # the version and the text; NotFound is remembered as well


class Outcome(Enum):
    HIT = "hit"
    MISS = "miss"
    STALE = "stale"
    BYPASS = "bypass"


METRICS = {
    Outcome.HIT: telemetry.CACHE_HIT,
    Outcome.MISS: telemetry.CACHE_MISS,
    Outcome.STALE: telemetry.CACHE_STALE,
    Outcome.BYPASS: telemetry.CACHE_BYPASS,
}


class Entry(NamedTuple):
    version: int
    absent: bool  # then `text` says what there is not
    ends_ms: int  # wall clock: environments share it, as good as AWS keeps it
    load_ms: int
    text: str

    def encode(self) -> bytes:
        kind = "N" if self.absent else "V"
        return f"{kind}{self.version} {self.ends_ms} {self.load_ms}\n{self.text}".encode()


def decode(stored: bytes | None) -> Entry | None:
    """None for a tombstone as well, and for what is no entry of ours."""
    if stored is None or stored[:1] not in (b"V", b"N"):
        return None
    head, _, text = stored.partition(b"\n")
    try:
        version, ends_ms, load_ms = map(int, head[1:].split(b" "))
        return Entry(version, head[:1] == b"N", ends_ms, load_ms, text.decode())
    except ValueError:
        return None


def tombstone(version: int) -> bytes:
    return b"T%d\n" % version


class State(Enum):
    NONE = "none"
    FRESH = "fresh"
    EARLY = "early"  # fresh, and this reader is the one to refresh it
    STALE = "stale"
    OLD = "old"  # stale for longer than it was ever fresh: good only while the database fails


def state_of(entry: Entry | None, now_ms: float, ttl_ms: float, draw: float) -> State:
    """`draw` is this reader's, from 0 up to but not 1."""
    if entry is None:
        return State.NONE
    left_ms = entry.ends_ms - now_ms
    if entry.absent:
        return State.FRESH if left_ms > 0 else State.NONE
    if left_ms > 0:
        return State.EARLY if -entry.load_ms * BETA * math.log(1.0 - draw) >= left_ms else State.FRESH
    return State.STALE if left_ms > -ttl_ms else State.OLD


class Found(NamedTuple):
    version: int
    text: str
    outcome: Outcome
    status: str  # for the header Cache-Status (RFC 9211)


class Store(Protocol):
    """What the cache asks of Redis; each raises Unreachable or Refused, and soon."""

    async def look(self, key: str, token: str, lease_ms: int, remaining_s: float) -> tuple[bool, bytes | None]:
        """What is stored; the lease only where there is no entry, and whether it is ours now comes first."""

    async def lease(self, key: str, token: str, lease_ms: int, remaining_s: float) -> tuple[bool, bytes | None]:
        """Whether the lease is ours now, and what is stored, in this order."""

    async def fill(
        self, key: str, version: int, entry: bytes, keep_ms: int, token: str, remaining_s: float
    ) -> bool: ...

    async def release(self, key: str, token: str, remaining_s: float) -> None: ...

    async def invalidate(self, versions: Mapping[str, int], keep_ms: int) -> None: ...


class RedisStore:
    """Keys of one namespace. An entry and its lease are in the same slot of a cluster."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis = redis
        self._prefix = f"{namespace}:{FORMAT}:"
        self._script = Script(Path(__file__).with_suffix(".lua").read_text())

    async def look(self, key: str, token: str, lease_ms: int, remaining_s: float) -> tuple[bool, bytes | None]:
        # A script costs a reader who finds it a microsecond more than GET; one who does not, a whole round trip less.
        call = (self._keys(key), ("look", token, lease_ms))
        ((ours, stored),) = await self._redis.run(self._script, call, remaining_s=remaining_s)
        return ours == 1, stored or None

    async def lease(self, key: str, token: str, lease_ms: int, remaining_s: float) -> tuple[bool, bytes | None]:
        entry, lease = self._keys(key)
        ours, stored = await self._redis.ask(
            ("SET", lease, token, "NX", "PX", lease_ms), ("GET", entry), remaining_s=remaining_s
        )
        return ours is not None, stored

    async def fill(self, key: str, version: int, entry: bytes, keep_ms: int, token: str, remaining_s: float) -> bool:
        call = (self._keys(key), ("fill", version, entry, keep_ms, token))
        (stored,) = await self._redis.run(self._script, call, remaining_s=remaining_s)
        return bool(stored)

    async def release(self, key: str, token: str, remaining_s: float) -> None:
        await self._redis.run(self._script, (self._keys(key), ("release", token)), remaining_s=remaining_s)

    async def invalidate(self, versions: Mapping[str, int], keep_ms: int) -> None:
        calls = [
            ((self._prefix + key,), ("invalidate", version, tombstone(version), keep_ms))
            for key, version in versions.items()
        ]
        # Not bounded by the caller's deadline, but by Redis' own timeout: the commit is done.
        await self._redis.run(self._script, *calls, remaining_s=math.inf)

    def _keys(self, key: str) -> tuple[str, str]:
        return self._prefix + key, f"{{{self._prefix}{key}}}:lease"

    async def aclose(self) -> None:
        await self._redis.aclose()


class Cache:
    """Belongs to one loop, as its connection does. Everything that is left to chance or takes time is an argument."""

    def __init__(
        self,
        settings: CacheSettings,
        store: Store,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Callable[[], float] | None = None,
        measure: Measure = telemetry.measure,
    ) -> None:
        self.store = store
        self._ttl_ms = settings.ttl_s * 1000
        self._stale_ms = settings.stale_s * 1000
        self._negative_ms = settings.negative_ttl_s * 1000
        self._lease_ms = settings.lease_ms
        self._wait_s = settings.wait_ms / 1000
        self._wall = wall
        self._monotonic = monotonic
        self._sleep = sleep
        # Of its own, and made here: environments restored from one snapshot would all draw the same from random.random,
        # and asking the system each time is a system call for every hit.
        self._rng = rng or Random(os.urandom(16)).random
        self._name = os.urandom(8).hex()
        self._tokens = count()
        self._measure = measure

    async def read(self, deadline: Deadline, key: str, load: Load) -> Found:
        """What is stored under the key, or what `load` returns or raises."""
        entry = None
        try:
            token = f"{self._name}-{next(self._tokens)}"
            ours, stored = await self.store.look(key, token, self._lease_ms, deadline.remaining_s())
            entry = decode(stored)
            if entry is not None and self._state(entry) is State.FRESH:
                return self._serve(entry, Outcome.HIT)
            if ours:
                return await self._load(deadline, key, load, entry, token)
            return await self._refresh(deadline, key, load, entry, token)
        except (Unreachable, Refused):
            return await self._bypass(load, entry)

    async def invalidate(self, versions: Mapping[str, int]) -> bool:
        """After the commit: of each key, nothing older than this is served or stored any more. False: not known to."""
        try:
            await self.store.invalidate(versions, TOMBSTONE_MS)
        except (Unreachable, Refused):
            self._measure(telemetry.CACHE_NOT_INVALIDATED, len(versions))
            return False
        self._measure(telemetry.CACHE_NOT_INVALIDATED, 0)  # an alarm needs a metric that exists
        return True

    async def aclose(self) -> None:
        if isinstance(self.store, RedisStore):
            await self.store.aclose()

    async def _refresh(self, deadline: Deadline, key: str, load: Load, entry: Entry | None, token: str) -> Found:
        ends_s = self._monotonic() + min(self._wait_s, deadline.remaining_s() / 2)
        pause_s = PAUSE_S
        while True:
            known = entry
            ours, stored = await self.store.lease(key, token, self._lease_ms, deadline.remaining_s())
            entry = decode(stored)
            state = self._state(entry, draw=0.0)
            if ours and (state is not State.FRESH or entry == known):
                return await self._load(deadline, key, load, entry, token)
            if ours:
                await self._release(deadline, key, token)  # another environment has refreshed it since `look`
            if entry is not None and state is State.FRESH:
                return self._serve(entry, Outcome.HIT)
            if entry is not None and state is State.STALE:
                return self._serve(entry, Outcome.STALE)
            if (left_s := ends_s - self._monotonic()) <= 0:
                return await self._load(deadline, key, load, entry, "")
            await self._sleep(min(left_s, pause_s * (0.5 + self._rng())))
            pause_s *= 2

    async def _load(self, deadline: Deadline, key: str, load: Load, known: Entry | None, token: str) -> Found:
        """Loads and stores; without a token as one of many, who all have waited for long enough."""
        begun_s = self._monotonic()
        try:
            version, text = await load()
        except NotFound as absent:
            entry = Entry(ABSENT, True, self._now_ms() + self._negative_ms, 0, absent.detail)
            raise self._described(absent, await self._fill(deadline, key, entry, self._negative_ms, token)) from None
        except Problem as problem:
            await self._release(deadline, key, token)
            return self._instead(problem, known, Outcome.MISS)
        load_ms = max(1, math.ceil((self._monotonic() - begun_s) * 1000))
        ttl_ms = math.ceil(self._ttl_ms * (1.0 - JITTER * self._rng()))
        entry = Entry(version, False, self._now_ms() + ttl_ms, load_ms, text)
        status = await self._fill(deadline, key, entry, ttl_ms + self._stale_ms, token)
        self._measure(telemetry.CACHE_MISS, 1)
        return Found(version, text, Outcome.MISS, status)

    async def _bypass(self, load: Load, known: Entry | None) -> Found:
        """`known` was read before the trouble began."""
        if known is not None and known.ends_ms > self._now_ms():
            return self._serve(known, Outcome.HIT)
        try:
            version, text = await load()
        except Problem as problem:
            return self._instead(problem, known, Outcome.BYPASS)
        self._measure(telemetry.CACHE_BYPASS, 1)
        return Found(version, text, Outcome.BYPASS, BYPASSED)

    def _instead(self, problem: Problem, known: Entry | None, outcome: Outcome) -> Found:
        """What is known, if it was the database that failed; else the problem."""
        if known is None or problem.status < 500:
            raise self._described(
                problem, MISSED if outcome is Outcome.MISS else BYPASSED, outcome
            ) from problem.__cause__
        return self._serve(known, Outcome.HIT if known.ends_ms > self._now_ms() else Outcome.STALE)

    def _described(self, problem: Problem, status: str, outcome: Outcome = Outcome.MISS) -> Problem:
        self._measure(METRICS[outcome], 1)
        problem.headers = {**problem.headers, "cache-status": status}
        return problem

    async def _fill(self, deadline: Deadline, key: str, entry: Entry, keep_ms: int, token: str) -> str:
        """The Cache-Status: stored, or refused as too old, or Redis was in trouble by now."""
        try:
            remaining_s = deadline.remaining_s()
            stored = await self.store.fill(key, entry.version, entry.encode(), keep_ms, token, remaining_s)
        except (Unreachable, Refused):
            stored = False  # the answer is there; the next reader loads it again
        return f"{MISSED}; stored" if stored else MISSED

    async def _release(self, deadline: Deadline, key: str, token: str) -> None:
        if not token:
            return
        try:
            await self.store.release(key, token, deadline.remaining_s())
        except (Unreachable, Refused):
            return  # it ends by itself

    def _serve(self, entry: Entry, outcome: Outcome) -> Found:
        self._measure(METRICS[outcome], 1)
        status = f"{HIT}; ttl={math.floor((entry.ends_ms - self._now_ms()) / 1000)}"
        if entry.absent:
            raise NotFound(entry.text, headers={"cache-status": status})
        return Found(entry.version, entry.text, outcome, status)

    def _state(self, entry: Entry | None, draw: float | None = None) -> State:
        return state_of(entry, self._now_ms(), self._ttl_ms, self._rng() if draw is None else draw)

    def _now_ms(self) -> int:
        return int(self._wall() * 1000)


async def forget(settings: RedisSettings, namespace: str) -> int:
    """Deletes everything that is stored in a namespace, and returns how many keys that were.

    Versions restart when a database is replaced, so entries of the old one would win. Raises Unreachable or Refused.
    """
    redis = Redis(settings)
    try:
        return await redis.delete_matching(re.sub(r"([*?\[\]\\])", r"\\\1", namespace) + ":*")
    finally:
        await redis.aclose()
