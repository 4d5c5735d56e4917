"""What an environment lives through between two invocations: its loop stands still, and the world does not."""

import asyncio
import json
import uuid

import asyncpg
import pytest
from warmfront.backing.postgres import Postgres

from tests.functions.conftest import Context, Function, load, shop_environ


def terminate_backends(server: Postgres, database: str) -> int:
    async def terminate() -> int:
        admin = await asyncpg.connect(server.admin_url())
        mine = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = $1"
        ended: int = await admin.fetchval(mine, database)
        await admin.close()
        return ended

    return asyncio.run(terminate())


@pytest.mark.parametrize("method", ["GET", "PATCH", "POST"])
def test_a_connection_ended_between_invocations_costs_no_request(
    pooled: Function, server: Postgres, method: str
) -> None:
    assert pooled.get("/products/1").status == 200
    assert terminate_backends(server, "pooled") == 1
    if method == "GET":
        assert pooled.get("/products/1").status == 200
    elif method == "PATCH":
        assert pooled.request("PATCH", "/products/1", body={"stock": 9}, headers={"if-match": "*"}).status == 200
    else:
        body = {"customer_id": 1, "lines": [{"product_id": 1, "quantity": 1}]}
        assert pooled.request("POST", "/orders", body=body).status == 201


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_the_server_between_invocations_costs_no_request(
    variant: Function, server: Postgres, mode: str
) -> None:
    assert variant.get("/products/1").status == 200
    server.restart("fast" if mode == "fast" else "immediate")
    assert variant.get("/products/1").status == 200


def test_an_order_with_a_key_is_placed_once_although_its_connection_broke(pooled: Function, server: Postgres) -> None:
    body = {"customer_id": 1, "lines": [{"product_id": 2, "quantity": 1}]}
    before = pooled.get("/products/2").json["stock"]
    headers = {"idempotency-key": str(uuid.uuid4())}
    first = pooled.request("POST", "/orders", body=body, headers=headers)
    terminate_backends(server, "pooled")
    assert pooled.request("POST", "/orders", body=body, headers=headers).text == first.text
    assert pooled.get("/products/2").json["stock"] == before - 1


def test_a_fresh_copy_of_the_database_is_found_by_an_environment_that_knew_the_old_one(
    pooled: Function, migrate: Function
) -> None:
    assert pooled.get("/products/3").status == 200
    migrate.invoke({"action": "reset", "databases": ["pooled"]})
    assert pooled.get("/products/3").json["version"] == 1


def test_an_invocation_with_no_time_left_answers_instead_of_being_killed(pooled: Function) -> None:
    reply = pooled.get("/products/1", context=Context(remaining_ms=150))
    assert (reply.status, reply.json["type"]) == (504, "urn:warmfront:problem:timed-out")
    assert pooled.get("/products/1").status == 200


def test_a_locked_row_is_waited_for_only_as_long_as_there_is_time(pooled: Function, server: Postgres) -> None:
    body = {"stock": 5}

    async def while_locked() -> int:
        admin = await asyncpg.connect(server.admin_url("pooled"))
        async with admin.transaction():
            await admin.execute("SELECT FROM products WHERE id = 4 FOR UPDATE")
            reply = await asyncio.to_thread(
                pooled.request,
                "PATCH",
                "/products/4",
                body=body,
                headers={"if-match": "*"},
                context=Context(remaining_ms=500),
            )
        await admin.close()
        return reply.status

    assert asyncio.run(while_locked()) == 504
    assert pooled.request("PATCH", "/products/4", body=body, headers={"if-match": "*"}).status == 200


def test_a_database_that_is_gone_is_a_503_that_tells_nothing_of_it(
    server: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://app:pw@127.0.0.1:1/there_is_none"
    environ = shop_environ(server, "there_is_none") | {"DATABASE_URL": url}
    pooled = load("pooled", "functions.pooled.app", environ)
    replies = [pooled.get("/products/1") for _ in range(8)]
    assert {reply.status for reply in replies} == {503}
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies)
    assert replies[-1].json["type"] == "urn:warmfront:problem:circuit-open"
    told = json.dumps([reply.text for reply in replies]) + capsys.readouterr().out
    for secret in ("there_is_none", environ["DATABASE_URL"], "127.0.0.1", "asyncpg", "SELECT"):
        assert secret not in told
