"""asyncpg's pool and redis-py's client with all their defaults: the controls of D2 and A2."""

import asyncio
import os
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg
import redis.asyncio

LOOP = asyncio.new_event_loop()
KEPT: dict[str, Any] = {}


async def ask_postgres() -> Any:
    if "pool" not in KEPT:
        KEPT["pool"] = await asyncpg.create_pool(os.environ["DATABASE_URL"])
    return await KEPT["pool"].fetchval("SELECT 1")


async def ask_redis() -> Any:
    if "redis" not in KEPT:
        at = urlsplit(os.environ["REDIS_URL"])
        # By its constructor, which retries ten times; a client made by from_url does not.
        KEPT["redis"] = redis.asyncio.Redis(
            host=at.hostname or "localhost",
            port=at.port or 6379,
            username=unquote(at.username) if at.username else None,
            password=unquote(at.password) if at.password else None,
        )
    await KEPT["redis"].set("lab", "1")
    await KEPT["redis"].get("lab")
    return 1


ASK = {"GET /defaults/postgres": ask_postgres, "GET /defaults/redis": ask_redis}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    del context
    return {"statusCode": 200, "body": str(LOOP.run_until_complete(ASK[event["routeKey"]]()))}
