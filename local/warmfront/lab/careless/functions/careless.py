"""Mistakes that people make with connections, caches and error reports: controls of the lab. Knows no table."""

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
    """BEGIN and COMMIT by hand: whoever gives up in between leaves the transaction open."""
    begun_s = time.monotonic()
    await connection.execute("BEGIN")
    await connection.fetchval("SELECT pg_sleep(0.01)")
    if time.monotonic() - begun_s > PATIENCE_S:
        raise TimeoutError("too slow for whoever asked")
    await connection.execute("COMMIT")


async def leak() -> None:
    """A new connection whenever the last one failed, and nobody closes the old one."""
    if not KEPT or KEPT[-1].is_closed() or KEPT[-1].is_in_transaction():
        KEPT.append(await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=2))
    await in_transaction(KEPT[-1])


async def transaction() -> None:
    """One connection, kept whatever state it is in: the next borrower gets what the last one left."""
    if not KEPT or KEPT[0].is_closed():
        KEPT[:] = [await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=2)]
    if KEPT[0].is_in_transaction():
        return  # somebody has begun already: how convenient
    await in_transaction(KEPT[0])


async def keep() -> None:
    """One connection, opened once and never looked at again."""
    if not KEPT:
        KEPT.append(await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=2))
    await KEPT[0].fetchval("SELECT 1", timeout=0.5)


async def secret() -> None:
    """An error report that is as helpful as can be."""
    try:
        connection = await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=2)
        await connection.close()
    except Exception:  # whatever it was: the mistake is what is logged
        print("database unreachable", dict(os.environ))
        raise


async def queue() -> None:
    """One at a time and 20 ms each, whoever comes, however long the line: an unbounded queue in the database."""
    if not KEPT or KEPT[0].is_closed():
        KEPT[:] = [await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=5)]
    async with KEPT[0].transaction():
        await KEPT[0].execute("SELECT pg_advisory_xact_lock(1), pg_sleep(0.02)")


async def until() -> None:
    """At most a thousand a second, measured on a clock that may be set."""
    if KEPT and time.time() < KEPT[0]:
        raise TimeoutError("too soon")
    KEPT[:] = [time.time() + 0.001]


async def session() -> None:
    """What the environment has put into the cache it takes for granted."""
    async with redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]) as client:
        if not KEPT:
            KEPT.append("careless:session")
            await client.set(KEPT[0], json.dumps({"user": 1}))
        json.loads((await client.get(KEPT[0])) or "")


async def place() -> str:
    """Does it, then tells the queue, and is done if that fails: it was not important enough to fail for."""
    async with redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]) as client:
        order = str(await client.incr("careless:orders"))
    if not KEPT:
        import boto3  # only this one route needs it
        from botocore.config import Config

        KEPT.append(boto3.client("sqs", config=Config(connect_timeout=1, read_timeout=3)))
    try:
        KEPT[0].send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=json.dumps({"subject": order}))
    except Exception as error:  # whatever it was: the mistake is to go on
        print("not sent", type(error).__name__)
    return order


async def read_cached(key: str) -> int:
    """Read the truth, take a moment, write it to the cache: by then it may be the truth no more."""
    async with redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]) as client:
        if (cached := await client.get(f"careless:cached:{key}")) is None:
            cached = await client.get(f"careless:truth:{key}") or b"0"
            await asyncio.sleep(0.1)
            await client.set(f"careless:cached:{key}", cached)
    return int(cached)


async def write_and_delete(key: str) -> int:
    """Change the truth, then drop what the cache holds of it."""
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
