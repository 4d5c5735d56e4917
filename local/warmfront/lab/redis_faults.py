"""Faults on Redis: paused, out of memory, filled with garbage, emptied."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import redis.asyncio

REDIS_TIMEOUT_S = 5.0


class RedisPaused:
    """Makes all clients wait (CLIENT PAUSE). Redis accepts no command before the time is over, so `clear` waits for it."""

    def __init__(self, url: str, *, pause_s: float) -> None:
        self._url, self._pause_s = url, pause_s
        self._until_s = 0.0

    async def apply(self) -> None:
        async with redis_at(self._url) as client:
            await client.client_pause(int(self._pause_s * 1000), all=True)
        self._until_s = asyncio.get_running_loop().time() + self._pause_s

    async def clear(self) -> None:
        await asyncio.sleep(max(0.0, self._until_s - asyncio.get_running_loop().time()))


class RedisMemory:
    """Limits memory below what the keys need. With `noeviction`, writes fail (OOM); with other policies, keys disappear."""

    def __init__(self, url: str, *, maxmemory: str = "1", policy: str = "noeviction") -> None:
        self._url = url
        self._wanted = {"maxmemory-policy": policy, "maxmemory": maxmemory}
        self._before: dict[str, str] = {}

    async def apply(self) -> None:
        async with redis_at(self._url) as client:
            for name, value in self._wanted.items():
                self._before[name] = str((await client.config_get(name))[name])
                await client.config_set(name, value)

    async def clear(self) -> None:
        async with redis_at(self._url) as client:
            for name, value in self._before.items():
                await client.config_set(name, value)
        self._before = {}


class RedisGarbage:
    """Overwrites every value with garbage, repeatedly: another program's keys, an older format, a bug."""

    _OVERWRITE = """for _, key in ipairs(redis.call('KEYS', '*')) do
        redis.call('SET', key, ARGV[1], 'EX', 60) end"""

    def __init__(self, url: str, *, garbage: bytes = b"\x00{\xff not what you stored", every_s: float = 0.1) -> None:
        self._url, self._garbage, self._every_s = url, garbage, every_s
        self._writing: asyncio.Task[None] | None = None

    async def apply(self) -> None:
        self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        async with redis_at(self._url) as client:
            while True:
                await client.eval(self._OVERWRITE, 0, self._garbage)
                await asyncio.sleep(self._every_s)

    async def clear(self) -> None:
        if self._writing is None:
            return
        self._writing.cancel()
        (ended,) = await asyncio.gather(self._writing, return_exceptions=True)
        self._writing = None
        if isinstance(ended, Exception):
            raise ended
        async with redis_at(self._url) as client:
            await client.flushall()


class RedisEmptied:
    """Deletes every key at once: an eviction, a restart, or a failover to an empty replica."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def apply(self) -> None:
        async with redis_at(self._url) as client:
            await client.flushall()

    async def clear(self) -> None:
        """Do nothing: a cache fills again by itself."""


@contextlib.asynccontextmanager
async def redis_at(url: str) -> AsyncIterator["redis.asyncio.Redis"]:
    client = redis.asyncio.Redis.from_url(
        url, decode_responses=True, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )
    try:
        yield client
    finally:
        await client.aclose()
