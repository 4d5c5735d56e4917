"""How the kit uses redis-py: one `redis.asyncio` connection with the hiredis parser, or a `RedisCluster`.

redis-py's connection class and not its client: the client's pool, retries and metrics cost a warm request as much again
as sending and parsing (a cached read takes 48 us of CPU with this, 85 with `redis.asyncio.Redis`). Time-outs are the
kit's own: redis-py's hold for each socket operation.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from hiredis import pack_command
from redis._parsers.commands import AsyncCommandsParser
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import Connection, RedisSSLContext, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from shared.kit.bound import Bound
from shared.kit.redis_settings import BadRedisUrl, Command, RedisSettings

if TYPE_CHECKING:
    from redis.credentials import CredentialProvider

# Set here, so not in a URL. RESP2 needs no greeting: a new connection is ready after TCP, TLS and at most AUTH and SELECT.
OURS: dict[str, Any] = {
    "protocol": 2,
    "driver_info": None,  # two CLIENT SETINFO at each connect
    "socket_timeout": None,
    "socket_connect_timeout": None,
}
NOT_IN_URL = frozenset(OURS) | {
    "decode_responses", "health_check_interval", "legacy_responses", "max_connections", "retry_on_error",
    "retry_on_timeout", "timeout",
}  # fmt: skip

SCAN_BATCH = 1_000

_contexts: dict[str, RedisSSLContext] = {}


class Link(Protocol):
    """A way to a Redis. One exchange at a time."""

    def pack(self, commands: Sequence[Command]) -> Any:
        """The commands as `exchange` takes them. Raises for a word that is neither text, bytes nor a number."""

    async def exchange(self, packed: Any, ends_s: float) -> list[Any]:
        """One reply for each command, an error reply as its exception. `ends_s` by time.monotonic.

        Raises TimeoutError, and whatever redis-py does for a connection that failed.
        """

    async def delete_matching(self, pattern: str) -> int:
        """Deletes the keys that match, and returns how many there were. Without a bound: not for a request."""

    async def drop(self) -> None:
        """Closes every connection at once; the next exchange opens what it needs."""


class Socket(Connection):
    """redis-py's connection, which can also be cut off from a timer."""

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class TlsSocket(Socket, SSLConnection):
    """The same with TLS. Connections with equal options share one context: making one takes 20 to 110 ms."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        own = self.ssl_context
        key = repr([getattr(own, name) for name in RedisSSLContext.__slots__ if name != "context"])
        self.ssl_context = _contexts.setdefault(key, own)


class Single:
    """One connection to one server, kept."""

    def __init__(self, connection: Socket, connect_timeout_s: float, timeout_s: float) -> None:
        self.connection = connection
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._bound: Bound | None = None
        self._expired = False

    def pack(self, commands: Sequence[Command]) -> tuple[bytes, int]:
        # hiredis' own annotation knows tuples of one word only.
        return b"".join(pack_command(tuple(command)) for command in commands), len(commands)  # type: ignore[arg-type]

    async def exchange(self, packed: tuple[bytes, int], ends_s: float) -> list[Any]:
        connection = self.connection
        if not connection.is_connected:
            async with asyncio.timeout(min(self._connect_timeout_s, ends_s - time.monotonic())):
                await connection.connect()  # type: ignore[no-untyped-call]
        if self._bound is None:
            self._bound = Bound(asyncio.get_running_loop(), self._expire)
        data, count = packed
        self._expired = False
        # Not asyncio.timeout: after a pause of this process, it would cancel although the reply has arrived.
        self._bound.begin(min(self._timeout_s, ends_s - time.monotonic()))
        try:
            await connection.send_packed_command(data, check_health=False)
            return [await self._reply() for _ in range(count)]
        except Exception as error:
            if self._expired:
                raise TimeoutError("no reply in time") from error
            raise
        finally:
            self._bound.finish()

    async def delete_matching(self, pattern: str) -> int:
        cursor, count = b"0", 0
        while True:
            scan = self.pack([("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_BATCH)])
            ((cursor, keys),) = await self.exchange(scan, math.inf)
            if keys:
                await self.exchange(self.pack([("UNLINK", *keys)]), math.inf)
                count += len(keys)
            if cursor == b"0":
                return count

    async def drop(self) -> None:
        if self._bound is not None:
            self._bound.close()
            self._bound = None
        self.connection.abort()
        await self.connection.disconnect(nowait=True)

    async def _reply(self) -> Any:
        try:
            return await self.connection.read_response()
        except ResponseError as error:
            return error

    def _expire(self) -> None:
        self._expired = True
        self.connection.abort()


class FirstWordIsKey(AsyncCommandsParser):
    """Where the key of a command is, without asking the server: `COMMAND` answers 200 kB to each new environment.

    True of single-key commands, which are all that the kit sends besides scripts; redis-py finds a script's keys itself.
    """

    async def initialize(self, node: Any = None) -> None:
        del node

    async def get_keys(self, *args: Any) -> tuple[Any, ...]:
        return args[1:2]


class Cluster:
    """A cluster: redis-py's client finds the node of each key and follows MOVED and ASK."""

    def __init__(self, options: dict[str, Any], socket_class: type[Socket]) -> None:
        self._sockets: WeakSet[Socket] = WeakSet()
        sockets = self._sockets

        class Counted(socket_class):  # type: ignore[misc, valid-type]
            def __init__(self, **options: Any) -> None:
                super().__init__(**options)
                sockets.add(self)

        # Retries are the kit's own, within its bound.
        self._client = client = RedisCluster(**options, ssl=socket_class is TlsSocket, retry=Retry(NoBackoff(), 0))
        client.commands_parser = FirstWordIsKey()
        client.connection_kwargs["connection_class"] = Counted
        for node in client.startup_nodes:
            node.connection_class = Counted

    def pack(self, commands: Sequence[Command]) -> Sequence[Command]:
        for command in commands:
            pack_command(tuple(command))  # type: ignore[arg-type]
        return commands

    async def exchange(self, packed: Sequence[Command], ends_s: float) -> list[Any]:
        async with asyncio.timeout(ends_s - time.monotonic()):
            if len(packed) == 1:
                try:
                    return [await self._client.execute_command(*packed[0])]
                except ResponseError as error:
                    return [error]
            pipeline = self._client.pipeline()
            for command in packed:
                pipeline.execute_command(*command)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
                raise reply
        return replies

    async def delete_matching(self, pattern: str) -> int:
        count = 0
        async for key in self._client.scan_iter(pattern, count=SCAN_BATCH):
            count += await self._client.execute_command("UNLINK", key)
        return count

    async def drop(self) -> None:
        for connection in self._sockets:
            connection.abort()
        await self._client.aclose()


def link_to(settings: RedisSettings, credentials: "CredentialProvider | None") -> Single | Cluster:
    """Opens nothing. Raises BadRedisUrl."""
    try:
        options: dict[str, Any] = dict(parse_url(settings.url))
        if taken := NOT_IN_URL & options.keys():
            raise BadRedisUrl(f"the Redis URL sets {', '.join(sorted(taken))}; the kit's own settings bound every use")
        if credentials is not None:
            options = {name: value for name, value in options.items() if name not in ("username", "password")}
        encrypted = options.pop("connection_class", None) is SSLConnection
        socket_class = TlsSocket if encrypted else Socket
        options |= OURS | {"credential_provider": credentials}
        # Checks the options of a cluster's nodes too, and makes the TLS context.
        connection = socket_class(**options)
        if isinstance(connection, TlsSocket):
            connection.ssl_context.get()
        if settings.cluster:
            return Cluster(options, socket_class)
        return Single(connection, settings.connect_timeout_s, settings.timeout_s)
    except BadRedisUrl:
        raise
    except (RedisError, TypeError, OSError) as error:
        raise BadRedisUrl(f"an option of the Redis URL cannot be used: {error}") from None
    except ValueError as error:  # of a malformed URL it quotes parts, which may be the password's
        said = str(error) if str(error).startswith("Invalid value for") else "it is malformed"
        raise BadRedisUrl(f"the Redis URL cannot be used: {said}") from None
