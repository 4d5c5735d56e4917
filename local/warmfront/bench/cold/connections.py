"""Counts connections on the server side, and closes idle ones as the network between would.

Postgres' statistics and Redis' CLIENT KILL do it.
"""

import asyncio
import socket
from urllib.parse import unquote, urlsplit

import asyncpg

REDIS_TIMEOUT_S = 5.0
_OPENED = "SELECT coalesce(sum(sessions), 0)::bigint FROM pg_stat_database WHERE datname IS NOT NULL"
_CLOSE = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


async def opened(connection: asyncpg.Connection) -> int:
    """Sessions that were ever established, as the server counts them."""
    return int(await connection.fetchval(_OPENED))


def close_idle(postgres_url: str | None, redis_url: str | None) -> None:
    """Ends every connection, as AWS drops flows that were idle for 350 s: a client notices only at its next use.

    docs.aws.amazon.com/elasticloadbalancing/latest/network/network-load-balancers.html (idle time-out of TCP flows)
    """
    if postgres_url is not None:
        asyncio.run(_close_postgres(postgres_url))
    if redis_url is not None:
        _close_redis(redis_url)


async def _close_postgres(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.fetchval(_CLOSE)
    finally:
        await connection.close()


def _close_redis(url: str) -> None:
    parts = urlsplit(url)
    words: list[tuple[str, ...]] = [("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")]
    if parts.password:
        user = (unquote(parts.username),) if parts.username else ()
        words.insert(0, ("AUTH", *user, unquote(parts.password)))
    with socket.create_connection((parts.hostname or "localhost", parts.port or 6379), REDIS_TIMEOUT_S) as connection:
        for command in words:
            connection.sendall(
                f"*{len(command)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in command)
            )
            answer = connection.recv(4096)
            if answer.startswith(b"-"):
                raise OSError(f"Redis refused {command[0]}: {answer.decode(errors='replace').strip()}")
