"""asyncpg's pool and redis-py's client with every default: the controls of D2 and A2. Knows no table."""

import asyncio
import os
from typing import Any

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
        KEPT["redis"] = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"])
    await KEPT["redis"].set("lab", "1")
    await KEPT["redis"].get("lab")
    return 1


ASK = {"GET /defaults/postgres": ask_postgres, "GET /defaults/redis": ask_redis}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    del context
    return {"statusCode": 200, "body": str(LOOP.run_until_complete(ASK[event["routeKey"]]()))}
