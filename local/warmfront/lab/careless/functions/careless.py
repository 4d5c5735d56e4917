"""Common mistakes with connections, caches, queues and error reports, as controls of the failure lab."""

import asyncio
import json
import os
import time
from typing import Any

import asyncpg
import redis.asyncio

LOOP = asyncio.new_event_loop()
KEPT: list[Any] = []
PATIENCE_S = 0.5


async def in_transaction(connection: Any) -> None:
    """BEGIN and COMMIT by hand: a caller that gives up in between leaves the transaction open."""
    begun_s = time.monotonic()
    await connection.execute("BEGIN")
    await connection.fetchval("SELECT pg_sleep(0.01)")
    if time.monotonic() - begun_s > PATIENCE_S:
        raise TimeoutError("too slow for the caller")
    await connection.execute("COMMIT")


async def leak() -> None:
    """Open a new connection whenever the last one failed, without closing the old one."""
    if not KEPT or KEPT[-1].is_closed() or KEPT[-1].is_in_transaction():
        KEPT.append(await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=2))
    await in_transaction(KEPT[-1])


async def transaction() -> None:
    """Keep one connection in whatever state it is: the next request gets what the last one left."""
    if not KEPT or KEPT[0].is_closed():
        KEPT[:] = [await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=2)]
    if KEPT[0].is_in_transaction():
        return  # the mistake: a transaction that is already open is simply reused
    await in_transaction(KEPT[0])


async def keep() -> None:
    """Keep one connection that is opened once and never checked."""
    if not KEPT:
        KEPT.append(await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=2))
    await KEPT[0].fetchval("SELECT 1", timeout=0.5)


async def secret() -> None:
    """Report an error with far too much detail."""
    try:
        connection = await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=2)
        await connection.close()
    except Exception:  # any error: the mistake is what is logged
        print("database unreachable", dict(os.environ))
        raise


async def queue() -> None:
    """Serve one request at a time, 20 ms each, with an unbounded queue in the database."""
    if not KEPT or KEPT[0].is_closed():
        KEPT[:] = [await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=5)]
    async with KEPT[0].transaction():
        await KEPT[0].execute("SELECT pg_advisory_xact_lock(1), pg_sleep(0.02)")


async def until() -> None:
    """Limit requests to a thousand per second, measured on the wall clock, which can be set."""
    if KEPT and time.time() < KEPT[0]:
        raise TimeoutError("too soon")
    KEPT[:] = [time.time() + 0.001]


async def session() -> None:
    """Rely on a cache entry that the environment wrote earlier."""
    async with redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]) as client:
        if not KEPT:
            KEPT.append("careless:session")
            await client.set(KEPT[0], json.dumps({"user": 1}))
        json.loads((await client.get(KEPT[0])) or "")


async def place() -> str:
    """Store an effect, then send its message, and ignore a failure of the message."""
    async with redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]) as client:
        order = str(await client.incr("careless:orders"))
    if not KEPT:
        import boto3  # only this route needs it
        from botocore.config import Config

        KEPT.append(boto3.client("sqs", config=Config(connect_timeout=1, read_timeout=3)))
    try:
        KEPT[0].send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=json.dumps({"subject": order}))
    except Exception as error:  # any error: the mistake is to continue
        print("not sent", type(error).__name__)
    return order


async def read_cached(key: str) -> int:
    """Read the row, wait a moment, and cache it: by then, the row may have changed."""
    async with redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]) as client:
        if (cached := await client.get(f"careless:cached:{key}")) is None:
            cached = await client.get(f"careless:truth:{key}") or b"0"
            await asyncio.sleep(0.1)
            await client.set(f"careless:cached:{key}", cached)
    return int(cached)


async def write_and_delete(key: str) -> int:
    """Change the row, then delete its cache entry."""
    async with redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]) as client:
        version = int(await client.incr(f"careless:truth:{key}"))
        await client.delete(f"careless:cached:{key}")
    return version


CACHE = {"GET /careless/products/{id}": read_cached, "PATCH /careless/products/{id}": write_and_delete}
ROUTES = {
    "GET /careless/leak": leak,
    "GET /careless/transaction": transaction,
    "GET /careless/keep": keep,
    "GET /careless/queue": queue,
    "GET /careless/secret": secret,
    "GET /careless/until": until,
    "GET /careless/session": session,
}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    del context
    if cached := CACHE.get(event["routeKey"]):
        version = LOOP.run_until_complete(cached(event["pathParameters"]["id"]))
        return {"statusCode": 200, "body": json.dumps({"version": version})}
    if event["routeKey"] == "POST /careless/orders":
        return {"statusCode": 201, "body": json.dumps({"id": LOOP.run_until_complete(place())})}
    LOOP.run_until_complete(ROUTES[event["routeKey"]]())
    return {"statusCode": 200, "body": "done"}
