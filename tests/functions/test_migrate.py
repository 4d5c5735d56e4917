"""Migrate: a schema step by step, the same seed every time, fresh copies in no time, and nothing of it in production."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from warmfront.backing.postgres import Postgres
from warmfront.emulator.template.source import read

from functions.migrate import schema
from tests.functions.conftest import ORDERS, PRODUCTS, VARIANTS, Context, Function, load, shop_environ


def ask(server: Postgres, database: str, sql: str, *args: Any) -> Any:
    async def fetch() -> Any:
        connection = await asyncpg.connect(server.url(database))
        try:
            return await connection.fetchval(sql, *args)
        finally:
            await connection.close()

    return asyncio.run(fetch())


CHECKSUM = """
    SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM (
        SELECT id, name, description, price_cents, stock, version::bigint FROM products
        UNION ALL SELECT id, status, created_at::text, customer_id, 0, total_cents FROM orders
        UNION ALL SELECT order_id, line_no::text, '', product_id, quantity, unit_price_cents FROM order_lines) t"""
CONSTRAINTS = """
    SELECT count(*) FROM pg_constraint WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace"""


def test_a_seed_holds_what_was_asked_for(migrate: Function, server: Postgres) -> None:
    del migrate
    assert ask(server, "shop_template", "SELECT count(*) FROM products") == PRODUCTS
    assert ask(server, "shop_template", "SELECT count(*) FROM orders") == ORDERS
    lines = "SELECT count(*) FROM order_lines GROUP BY order_id ORDER BY 1"
    assert ask(server, "shop_template", lines) == 1
    assert ask(server, "shop_template", f"{lines} DESC") == 20
    assert ask(server, "shop_template", "SELECT min(stock) FROM products") >= 1_000
    sums = "SELECT count(*) FROM orders o WHERE total_cents <> (SELECT sum(quantity * unit_price_cents) FROM order_lines WHERE order_id = o.id)"  # noqa: E501
    assert ask(server, "shop_template", sums) == 0


def test_the_same_numbers_make_the_same_data(migrate: Function, server: Postgres) -> None:
    before = ask(server, "shop_template", CHECKSUM)
    assert migrate.invoke({"action": "seed", "databases": ["pooled"], "products": 50, "orders": 50})["template"]["made"]
    assert ask(server, "pooled", CHECKSUM) != before
    again = {"action": "seed", "databases": ["pooled", "naive"], "products": PRODUCTS, "orders": ORDERS}
    assert migrate.invoke(again)["template"]["made"]
    assert migrate.invoke(again)["template"]["made"] is False
    assert ask(server, "shop_template", CHECKSUM) == ask(server, "pooled", CHECKSUM) == before


@pytest.mark.parametrize("logged_bytes_max", [0, 2**40])
def test_a_reset_undoes_what_was_written(
    migrate: Function, pooled: Function, server: Postgres, monkeypatch: pytest.MonkeyPatch, logged_bytes_max: int
) -> None:
    monkeypatch.setattr(migrate.module, "LOGGED_COPY_BYTES_MAX", logged_bytes_max)
    pooled.request("PATCH", "/products/9", body={"stock": 1}, headers={"if-match": "*"})
    report = migrate.invoke({"action": "reset", "databases": ["pooled"]})
    assert report["databases"]["pooled"]["copied"]
    assert ask(server, "pooled", CHECKSUM) == ask(server, "shop_template", CHECKSUM)


def test_new_rows_go_on_where_the_seed_ended(migrate: Function, server: Postgres) -> None:
    migrate.invoke({"action": "reset", "databases": ["pooled"]})
    insert = "INSERT INTO orders (customer_id, status, total_cents) VALUES (1, 'placed', 0) RETURNING id"
    assert ask(server, "pooled", insert) == ORDERS + 1


def test_only_naive_goes_without_constraints(migrate: Function, server: Postgres) -> None:
    migrate.invoke({"action": "reset", "databases": ["naive", "pooled"]})
    assert ask(server, "naive", CONSTRAINTS) == 0
    assert ask(server, "pooled", CONSTRAINTS) == len(schema.CONSTRAINTS)


def test_apply_brings_an_empty_and_an_up_to_date_database_to_the_same_schema(
    migrate: Function, server: Postgres
) -> None:
    event = {"action": "apply", "databases": ["brand_new"]}
    first, second = (migrate.invoke(event)["databases"]["brand_new"] for _ in range(2))
    assert (first["created"], first["steps"]) == (True, [number for number, _ in schema.STEPS])
    assert (second["created"], second["steps"]) == (False, [])
    columns = """
        SELECT string_agg(concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default), ', '
                          ORDER BY table_name, ordinal_position)
          FROM information_schema.columns WHERE table_schema = 'public'"""
    assert ask(server, "brand_new", columns) == ask(server, "pooled", columns)
    assert ask(server, "brand_new", CONSTRAINTS) == len(schema.CONSTRAINTS)


def test_apply_leaves_data_alone(migrate: Function, pooled: Function) -> None:
    reply = pooled.request("PATCH", "/products/10", body={"stock": 77}, headers={"if-match": "*"})
    migrate.invoke({"action": "apply", "databases": ["pooled"]})
    assert pooled.get("/products/10").json == reply.json


def keys(server: Postgres, *, expired: int, live: int) -> None:
    insert = """
        INSERT INTO idempotency_keys (scope, key, fingerprint, status, resource, body, expires_at)
        SELECT 'orders', $1 || n, '', 201, '', '', now() + $3 * interval '1 hour' FROM generate_series(1, $2::int) n"""
    ask(server, "pooled", insert, "old", expired, -1)
    ask(server, "pooled", insert, "new", live, 1)


def test_expired_keys_are_purged_in_small_deletions_and_live_ones_stay(
    server: Postgres, migrate: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In production as well: nothing that anybody will ask for again is touched."""
    migrate.invoke({"action": "reset", "databases": ["pooled"]})
    production = in_production(server)
    monkeypatch.setattr(production.module, "PURGE_ROWS", 10)
    keys(server, expired=25, live=3)
    event = {"action": "purge", "databases": ["pooled"]}
    asked: list[int] = []
    purge = production.module.idempotency.purge

    async def noted(connection: Any, at_most: int) -> int:
        asked.append(at_most)
        return int(await purge(connection, at_most))

    monkeypatch.setattr(production.module.idempotency, "purge", noted)
    for left_ms in (0, 2_000):
        assert production.invoke(event, Context(left_ms)) == {"action": "purge", "purged": {"pooled": 0}}
    assert asked == []
    assert production.invoke(event) == {"action": "purge", "purged": {"pooled": 25}}
    assert asked == [10, 10, 10]
    assert ask(server, "pooled", "SELECT count(*) FROM idempotency_keys") == 3
    assert production.invoke(event)["purged"] == {"pooled": 0}


def test_nothing_in_the_schema_makes_a_first_query_ask_the_catalogue(migrate: Function, server: Postgres) -> None:
    """asyncpg looks up types it does not know, 8 to 15 ms on the first query of every cold start."""
    del migrate
    own_types = """
        SELECT count(*) FROM information_schema.columns c JOIN pg_type t ON t.typname = c.udt_name
         WHERE c.table_schema = 'public' AND (t.typtype IN ('e', 'd', 'c') OR t.oid >= 16384)"""
    assert ask(server, "pooled", own_types) == 0


def in_production(server: Postgres) -> Function:
    """The function of stage prod, though the server of these tests has no TLS, without which prod refuses to start."""
    function = load("migrate", "functions.migrate.app", shop_environ(server, "postgres"))
    function.module.SETTINGS = msgspec.structs.replace(function.module.SETTINGS, stage="prod")  # type: ignore[attr-defined]
    return function


@pytest.mark.parametrize("action", ["seed", "reset"])
def test_in_production_no_data_is_replaced(server: Postgres, migrate: Function, action: str) -> None:
    del migrate
    production = in_production(server)
    with pytest.raises(production.module.Refused, match="refused while SHOP_STAGE is prod"):
        production.invoke({"action": action, "databases": ["pooled"]})
    assert production.invoke({"action": "apply", "databases": ["pooled"]})["databases"]["pooled"]["steps"] == []


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"action": "drop", "databases": ["pooled"]},
        {"action": "reset", "databases": []},
        {"action": "reset", "databases": ["postgres"]},
        {"action": "reset", "databases": ["shop_template"]},
        {"action": "reset", "databases": ['x"; DROP DATABASE pooled; --']},
        {"action": "reset", "databases": ["Pooled"]},
        {"action": "seed", "databases": ["pooled"], "products": 0},
        {"action": "seed", "databases": ["pooled"], "orders": -1},
        {"action": "seed", "databases": ["pooled"], "order": 1},
    ],
)
def test_a_wrong_event_is_refused_before_anything_is_touched(
    migrate: Function, server: Postgres, event: dict[str, Any]
) -> None:
    oid = "SELECT oid FROM pg_database WHERE datname = 'pooled'"
    before = ask(server, "postgres", oid)
    with pytest.raises((migrate.module.Refused, msgspec.ValidationError)):
        migrate.invoke(event)
    assert ask(server, "postgres", oid) == before


def test_the_templates_set_up_makes_every_variants_database() -> None:
    root, _ = read(Path(__file__).parents[2] / "template.yaml")
    given = [dict(entry["Event"]) for entry in root["Metadata"]["Warmfront"]["SetUp"] if entry["Function"] == "Migrate"]
    nowhere = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/postgres",
        "SHOP_CURSOR_KEY": "a key of the test's own",
        "SHOP_DB_SSL": "disable",
    }
    module = load("migrate", "functions.migrate.app", nowhere).module
    events = [msgspec.convert(event, module.Event) for event in given]
    assert [event.action for event in events] == ["seed"]
    for event in events:
        module._check(event)
        assert set(event.databases) == set(VARIANTS)
    assert events[-1].products >= 42  # the product that README.md asks for
