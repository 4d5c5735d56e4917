"""What a client may conclude from a refusal of a write: done, not done, or unknown. Through the handlers, like a request."""

import asyncio
import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis

from shared.kit import environment
from tests.functions.conftest import Function, Reply, distributed_environ, load, payload
from tests.shared.tcp_proxy import TcpProxy, proxy_in_a_thread

BODY = {"customer_id": 1, "lines": [{"product_id": 21, "quantity": 1}]}


@pytest.fixture
def proxy(server: Postgres) -> Iterator[TcpProxy]:
    with proxy_in_a_thread(server.url("x")) as proxy:
        yield proxy


@pytest.fixture(params=["pooled", "distributed"])
def function(
    request: pytest.FixtureRequest, server: Postgres, redis: Redis, migrate: Function, proxy: TcpProxy
) -> Iterator[Function]:
    name: str = request.param
    migrate.invoke({"action": "reset", "databases": [name]})
    environ = distributed_environ(server, redis) | {"DATABASE_URL": proxy.url.replace("/x", f"/{name}")}
    yield load(name, f"functions.{name}.app", environ)
    environment.reset()


def ask(server: Postgres, function: Function, sql: str) -> Any:
    async def whole() -> Any:
        connection = await asyncpg.connect(server.admin_url(function.name))
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(whole())


def orders(server: Postgres, function: Function) -> int:
    return int(ask(server, function, "SELECT count(*) FROM orders WHERE id > 300"))


def problem(reply: Reply, status: int, kind: str) -> Any:
    document = reply.json
    assert (reply.status, document["type"]) == (status, f"urn:warmfront:problem:{kind}"), reply.text
    return document


def test_an_order_whose_answer_was_lost_is_placed_once_and_answered(
    function: Function, server: Postgres, proxy: TcpProxy
) -> None:
    proxy.drop_answers(b"idempotency_keys", 1)
    reply = function.request("POST", "/orders", body=BODY)
    assert (reply.status, reply.headers["idempotent-replayed"], proxy.dropped) == (201, "true", 1)
    assert orders(server, function) == 1


def test_an_order_whose_answers_were_lost_twice_may_be_sent_again_with_its_key_and_is_placed_once(
    function: Function, server: Postgres, proxy: TcpProxy
) -> None:
    proxy.drop_answers(b"idempotency_keys", 2)
    headers = {"idempotency-key": str(uuid.uuid4())}
    unknown = function.request("POST", "/orders", body=BODY, headers=headers)
    assert "same Idempotency-Key" in problem(unknown, 504, "outcome-unknown")["detail"]
    assert "retry-after" not in unknown.headers
    retried = function.request("POST", "/orders", body=BODY, headers=headers)
    assert (retried.status, retried.headers["idempotent-replayed"]) == (201, "true")
    assert orders(server, function) == 1


def test_a_change_whose_answer_was_lost_is_unknown_and_made_once(
    function: Function, server: Postgres, proxy: TcpProxy
) -> None:
    proxy.drop_answers(b"UPDATE products", 1)
    unknown = function.request("PATCH", "/products/5", body={"price_cents": 77}, headers={"if-match": "*"})
    assert "may have been done" in problem(unknown, 504, "outcome-unknown")["detail"]
    assert "retry-after" not in unknown.headers
    assert ask(server, function, "SELECT version FROM products WHERE id = 5") == 2


def test_an_order_without_a_key_is_refused_before_anything_is_done(function: Function, server: Postgres) -> None:
    event = payload("POST", f"/{function.name}/orders", body=BODY, headers={}, query={})
    result = function.invoke(event)
    problem(Reply(result["statusCode"], result["headers"], result["body"]), 400, "idempotency-key-required")
    assert orders(server, function) == 0


def test_a_key_is_the_same_quoted_and_bare(function: Function, server: Postgres) -> None:
    key = str(uuid.uuid4())
    first, second = (
        function.request("POST", "/orders", body=BODY, headers={"idempotency-key": each}) for each in (key, f'"{key}"')
    )
    assert (first.status, second.text) == (201, first.text)
    assert orders(server, function) == 1


def test_an_order_with_a_line_out_of_stock_and_another_of_no_product_names_the_product(function: Function) -> None:
    function.request("PATCH", "/products/22", body={"stock": 0}, headers={"if-match": "*"})
    lines = [{"product_id": 22, "quantity": 1}, {"product_id": 9999, "quantity": 1}]
    refused = problem(function.request("POST", "/orders", body=BODY | {"lines": lines}), 422, "invalid")
    assert [error["pointer"] for error in refused["errors"]] == ["#/lines/1/product_id"]


@pytest.mark.parametrize("encoded", [False, True])
def test_a_body_is_as_long_as_what_the_client_sent(function: Function, encoded: bool) -> None:
    """Base64 makes it a third longer on the way to the function; that is API Gateway's doing."""

    def post(text: str) -> int:
        key = {"idempotency-key": str(uuid.uuid4())}
        body = base64.b64encode(text.encode()).decode() if encoded else text
        event = payload("POST", f"/{function.name}/orders", body=body, headers=key, query={})
        return int(function.invoke({**event, "isBase64Encoded": encoded})["statusCode"])

    whole = json.dumps(BODY)
    assert post(whole.ljust(65_536)) == 201
    assert post(whole.ljust(65_537)) == 413
    assert post(json.dumps("€" * 30_000, ensure_ascii=False)) == 413  # 90,002 bytes
    assert post(json.dumps("€" * 20_000, ensure_ascii=False)) == 422  # 60,002 bytes
