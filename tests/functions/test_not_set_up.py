"""A variant whose database or tables are not there yet says so, and works as soon as they are: nothing holds requests back."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis

from shared.kit import environment
from tests.functions.conftest import ORDERS, PRODUCTS, VARIANTS, Function, load, shop_environ

DATABASE = "not_yet"
SEED = {"action": "seed", "databases": [DATABASE], "products": PRODUCTS, "orders": ORDERS}
TYPE = "urn:warmfront:problem:not-set-up"


def execute(server: Postgres, sql: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(server.admin_url())
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(run())


@pytest.fixture
def nothing(server: Postgres) -> Iterator[None]:
    yield
    environment.reset()
    execute(server, f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


def function(variant: str, server: Postgres, redis: Redis, **more: str) -> Function:
    environ = shop_environ(server, DATABASE) | {"REDIS_URL": redis.url()} | more
    return load(variant, f"functions.{variant}.app", environ)


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_missing_database_and_then_its_tables_are_named_until_they_are_there(
    variant: str, server: Postgres, redis: Redis, migrate: Function
) -> None:
    shop = function(variant, server, redis)
    for missing in (f'Database "{DATABASE}" does not exist', 'Relation "products" does not exist'):
        for _ in range(20):  # enough to open a circuit
            reply = shop.get("/products/1")
            assert (reply.status, reply.json["type"]) == (500, TYPE), reply.text
            assert reply.json["detail"].startswith(missing)
            assert "retry-after" not in reply.headers
        if missing.startswith("Database"):
            execute(server, f"CREATE DATABASE {DATABASE} OWNER app")
    environment.reset()
    migrate.invoke(SEED)
    environment.reset()
    assert shop.get("/products/1").status == 200


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize("variant", VARIANTS)
def test_on_aws_the_client_does_not_learn_what_is_missing(variant: str, server: Postgres, redis: Redis) -> None:
    reply = function(variant, server, redis, SHOP_STAGE="dev").get("/products/2")
    assert (reply.status, reply.json["type"]) == (500, TYPE), reply.text
    assert DATABASE not in reply.text
