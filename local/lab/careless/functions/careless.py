"""Mistakes that people make with a connection kept between invocations: the controls of A3, C4 and D4. Knows no table."""

import asyncio
import os
from typing import Any

import asyncpg

LOOP = asyncio.new_event_loop()
KEPT: list[Any] = []


async def leak() -> None:
    """A new connection whenever the last one failed, and nobody closes the old one."""
    if not KEPT or KEPT[-1].is_closed() or KEPT[-1].is_in_transaction():
        KEPT.append(await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=2))
    await KEPT[-1].execute("BEGIN")
    await KEPT[-1].fetchval("SELECT pg_sleep(0.01)", timeout=0.5)
    await KEPT[-1].execute("COMMIT")


async def transaction() -> None:
    """BEGIN and COMMIT by hand: what fails in between leaves the transaction to the next borrower."""
    if not KEPT or KEPT[0].is_closed():
        KEPT[:] = [await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=2)]
    await KEPT[0].execute("BEGIN")
    await KEPT[0].fetchval("SELECT pg_sleep(0.01)", timeout=0.5)
    await KEPT[0].execute("COMMIT")


async def secret() -> None:
    """An error report that is as helpful as can be."""
    try:
        connection = await asyncpg.connect(os.environ["DATABASE_URL"], ssl=False, timeout=2)
        await connection.close()
    except Exception:  # whatever it was: the mistake is what is logged
        print("database unreachable", dict(os.environ))
        raise


ROUTES = {"GET /careless/leak": leak, "GET /careless/transaction": transaction, "GET /careless/secret": secret}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    del context
    LOOP.run_until_complete(ROUTES[event["routeKey"]]())
    return {"statusCode": 200, "body": "done"}
