"""What distributed adds: copies in Redis that are never older than what was told, and events in the outbox."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis

from shared.kit import environment
from tests.functions.conftest import PRODUCTS, Function, Reply, distributed_environ, load, shop_environ
from tests.functions.test_survival import terminate_backends

BODY = {"customer_id": 1, "lines": [{"product_id": 21, "quantity": 2}, {"product_id": 22, "quantity": 1}]}
PATIENT = {"SHOP_REDIS_TIMEOUT_MS": "5000", "SHOP_REDIS_CONNECT_TIMEOUT_MS": "5000"}
MISS = "Warmfront; fwd=miss; stored"


@pytest.fixture
def distributed(server: Postgres, redis: Redis, migrate: Function) -> Iterator[Function]:
    """Patient with Redis, where what it stored is the subject."""
    migrate.invoke({"action": "reset", "databases": ["distributed"]})
    yield load("distributed", "functions.distributed.app", distributed_environ(server, redis) | PATIENT)
    environment.reset()


def status_of(reply: Reply) -> str:
    assert reply.status in (200, 304), reply.text
    return reply.headers["cache-status"].partition("; ttl")[0]


def ask(server: Postgres, sql: str, *args: Any) -> Any:
    async def whole() -> Any:
        connection = await asyncpg.connect(server.admin_url("distributed"))
        try:
            return await connection.fetch(sql, *args)
        finally:
            await connection.close()

    return asyncio.run(whole())


def commands(redis: Redis, *words: str) -> Any:
    import redis as redis_py

    with redis_py.Redis.from_url(redis.url()) as client:
        return client.execute_command(*words)


@pytest.mark.parametrize("path", ["/products/42", "/orders/7"])
def test_the_second_reader_is_served_the_same_without_the_database(
    distributed: Function, pooled: Function, server: Postgres, path: str
) -> None:
    first = distributed.get(path)
    assert status_of(first) == MISS
    environment.reset()
    second = distributed.get(path)  # an environment that has no connection to Postgres yet
    assert status_of(second) == "Warmfront; hit"
    assert second.text == first.text == pooled.get(path).text
    assert not ask(server, "SELECT FROM pg_stat_activity WHERE datname = 'distributed' AND usename = 'app'")
    told = {"cache-status", "server-timing"}
    assert {name: value for name, value in second.headers.items() if name not in told} == {
        name: value for name, value in pooled.get(path).headers.items() if name not in told
    }


def test_a_client_that_has_the_product_is_told_so_from_the_cache(distributed: Function) -> None:
    tag = distributed.get("/products/42").headers["etag"]
    again = distributed.get("/products/42", headers={"if-none-match": tag})
    assert (again.status, again.text, status_of(again)) == (304, "", "Warmfront; hit")


def test_a_change_is_seen_by_the_next_reader(distributed: Function) -> None:
    tag = distributed.get("/products/8").headers["etag"]
    changed = distributed.request("PATCH", "/products/8", body={"price_cents": 7}, headers={"if-match": tag})
    assert changed.status == 200
    after = distributed.get("/products/8")
    assert (after.json, after.headers["etag"], status_of(after)) == (changed.json, changed.headers["etag"], MISS)


def test_an_order_is_seen_in_the_stock_of_what_was_ordered(distributed: Function) -> None:
    before = [distributed.get(f"/products/{number}").json for number in (21, 22)]
    assert distributed.request("POST", "/orders", body=BODY).status == 201
    after = [distributed.get(f"/products/{number}").json for number in (21, 22)]
    assert [b["stock"] - a["stock"] for a, b in zip(after, before, strict=True)] == [2, 1]


def test_an_order_that_somebody_asked_for_too_early_is_there_once_it_is_placed(
    distributed: Function, server: Postgres
) -> None:
    following = ask(server, "SELECT max(id) + 1 AS id FROM orders")[0]["id"]
    for status in (MISS, "Warmfront; hit"):
        missing = distributed.get(f"/orders/{following}")
        assert (missing.status, missing.headers["cache-status"].partition("; ttl")[0]) == (404, status)
    placed = distributed.request("POST", "/orders", body=BODY)
    assert placed.json["id"] == following
    assert distributed.get(f"/orders/{following}").json == placed.json


def test_what_is_not_there_is_not_asked_for_twice(distributed: Function) -> None:
    path = f"/products/{PRODUCTS + 1}"
    first, second = distributed.get(path), distributed.get(path)
    assert (first.status, second.status) == (404, 404)
    assert first.json["detail"] == second.json["detail"]
    assert first.headers["cache-status"] == MISS
    assert second.headers["cache-status"].startswith("Warmfront; hit; ttl=")


def test_a_replayed_order_tells_once_more_what_its_first_request_may_not_have_lived_to_tell(
    distributed: Function,
) -> None:
    headers = {"idempotency-key": str(uuid.uuid4())}
    old = distributed.get("/products/21").json
    distributed.request("POST", "/orders", body=BODY, headers=headers)
    # As if it had been killed between its commit and its news.
    ended = 2_000_000_000_000
    entry = f"V{old['version']} {ended} 1\n{json.dumps(old)}"
    commands(_redis_of(distributed), "SET", "Warmfront/distributed:1:product:21", entry, "PX", "60000")
    assert distributed.get("/products/21").json == old
    assert distributed.request("POST", "/orders", body=BODY, headers=headers).status == 201
    assert distributed.get("/products/21").json["stock"] == old["stock"] - 2


def test_a_refused_change_repairs_the_copy_that_it_was_based_on(distributed: Function, server: Postgres) -> None:
    tag = distributed.get("/products/9").headers["etag"]
    ask(server, "UPDATE products SET stock = 3, version = version + 1 WHERE id = 9")  # past the API, so nobody is told
    assert distributed.get("/products/9").headers["etag"] == tag

    def patch(based_on: str) -> int:
        body = {"price_cents": 7}
        return distributed.request("PATCH", "/products/9", body=body, headers={"if-match": based_on}).status

    assert patch(tag) == 412
    assert patch(distributed.get("/products/9").headers["etag"]) == 200


def test_a_fresh_copy_of_the_database_is_not_hidden_by_copies_of_the_old_rows(
    distributed: Function, migrate: Function
) -> None:
    distributed.request("PATCH", "/products/3", body={"stock": 1}, headers={"if-match": "*"})
    assert distributed.get("/products/3").json["version"] == 2
    report = migrate.invoke({"action": "reset", "databases": ["distributed"]})
    assert report["databases"]["distributed"]["forgotten"] == 1
    assert distributed.get("/products/3").json["version"] == 1


def test_an_order_and_its_event_are_committed_together_and_once_for_each_key(
    distributed: Function, server: Postgres
) -> None:
    headers = {"idempotency-key": str(uuid.uuid4())}
    placed, replayed = (distributed.request("POST", "/orders", body=BODY, headers=headers) for _ in range(2))
    assert replayed.text == placed.text
    too_many = {"customer_id": 1, "lines": [{"product_id": 22, "quantity": 1_000}]}
    ask(server, "UPDATE products SET stock = 5 WHERE id = 22")
    assert distributed.request("POST", "/orders", body=too_many).status == 409
    (event,) = ask(server, "SELECT aggregate_id, type, payload, published_at FROM outbox")
    assert (event["aggregate_id"], event["type"]) == (placed.json["id"], "order.placed")
    assert json.loads(event["payload"]) == placed.json
    assert event["published_at"] is None


def test_pooled_writes_no_events(pooled: Function, server: Postgres) -> None:
    assert pooled.request("POST", "/orders", body=BODY).status == 201

    async def count() -> int:
        connection = await asyncpg.connect(server.admin_url("pooled"))
        events: int = await connection.fetchval("SELECT count(*) FROM outbox")
        await connection.close()
        return events

    assert asyncio.run(count()) == 0


def test_all_five_routes_work_without_redis(server: Postgres, migrate: Function) -> None:
    migrate.invoke({"action": "reset", "databases": ["distributed"]})
    values = shop_environ(server, "distributed")
    # Nobody listens on the discard port of this machine's loopback.
    distributed = load("distributed", "functions.distributed.app", values | {"REDIS_URL": "redis://127.0.0.1:9/0"})
    assert status_of(distributed.get("/products/1")) == "Warmfront; fwd=bypass"
    assert status_of(distributed.get("/orders/1")) == "Warmfront; fwd=bypass"
    assert distributed.get("/products", query={"limit": "3"}).status == 200
    assert distributed.request("POST", "/orders", body=BODY).status == 201
    assert distributed.request("PATCH", "/products/1", body={"stock": 1}, headers={"if-match": "*"}).status == 200
    environment.reset()


def test_what_was_read_before_is_still_served_while_the_database_is_gone(
    server: Postgres, redis: Redis, migrate: Function
) -> None:
    migrate.invoke({"action": "reset", "databases": ["distributed"]})
    values = distributed_environ(server, redis) | PATIENT | {"SHOP_CACHE_TTL_S": "1"}
    distributed = load("distributed", "functions.distributed.app", values)
    product = distributed.get("/products/1").json
    # Its time is over: rewritten as of a second ago.
    entry = f"V{product['version']} 1 1\n{json.dumps(product)}"
    commands(redis, "SET", "Warmfront/distributed:1:product:1", entry, "PX", "60000")
    gone = load("distributed", "functions.distributed.app", values | {"DATABASE_URL": server.url("distributed")})
    terminate_backends(server, "distributed")
    ask(server, "ALTER ROLE app NOLOGIN")
    try:
        environment.reset()
        reply = gone.get("/products/1")
        assert (reply.status, reply.json) == (200, product)
        assert reply.headers["cache-status"].startswith("Warmfront; hit; ttl=-")
        assert gone.get("/products/2").status == 503
    finally:
        ask(server, "ALTER ROLE app LOGIN")
        environment.reset()


def _redis_of(function: Function) -> Redis:
    return Redis("url", "", function.environ["REDIS_URL"])
