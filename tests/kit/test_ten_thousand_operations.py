"""Ten thousand orders while backends are killed, answers are lost, rows are locked and transactions deadlock.

Twenty environments (a pool and a breaker each) in this process, behind a proxy; clients repeat with the same key until they
are answered. `pytest -s -m stress tests/kit/test_ten_thousand_operations.py` prints what was done.
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from warmfront.backing.postgres import Postgres

from shared.kit import environment
from shared.kit.breaker import BreakerSettings
from shared.kit.circuit import State
from shared.kit.deadline import Deadline
from shared.kit.idempotency import Claim
from shared.kit.postgres import Database
from shared.kit.problems import Contention, OutcomeUnknown, Problem
from shared.kit.settings import PostgresSettings
from shared.shop import orders
from shared.shop.contract import NewOrder, NewOrderLine
from tests.functions.conftest import load, shop_environ
from tests.kit.bench import meanwhile
from tests.kit.order_history import PLACED, Final, Order, Post, Told, violations
from tests.kit.test_exactly_once import ORDERS, wishes
from tests.shared.tcp_proxy import TcpProxy

ENVIRONMENTS = 20
PRODUCTS = 6
STOCK = 1_000_000
ORDERS_PER_FAULT = 20
LOCK_S = 0.15  # longer than an order waits for a row
LIMITS: dict[str, Any] = {
    "statement_timeout_s": 1.0,
    "lock_timeout_s": 0.1,
    "acquire_timeout_s": 5.0,
    "connect_timeout_s": 5.0,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres.start({"PATH": os.environ["PATH"]}, origin="wheel") as server:
        migrate = load("migrate", "functions.migrate.app", shop_environ(server, "postgres"))
        migrate.invoke({"action": "seed", "databases": ["shop"], "products": PRODUCTS, "orders": 1})
        environment.reset()
        yield server


@dataclass
class Scene:
    admin: Any
    proxy: TcpProxy
    databases: list[Database]
    did: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    placed: int = 0

    async def place(self, database: Database, post: Post) -> None:
        """Until it is placed, as a client with the key would."""
        lines = [NewOrderLine(product, quantity) for product, quantity in post.lines.items()]
        order = NewOrder(post.customer, lines)
        claim = Claim.of("orders", post.key, json.dumps(sorted(post.lines.items())).encode(), ttl_h=1)
        chance = random.Random(post.number)
        while not (post.told and post.told[-1].status == PLACED):
            assert len(post.told) < 500, f"post {post.number} is never answered: {Counter(post.told)}"
            if post.told:
                await asyncio.sleep(chance.uniform(0, 0.02))
            try:
                answer, _ = await database.run_with_key(Deadline(10.0), orders.place_with_event, claim, "alice", order)
            except Problem as problem:
                self.told[problem.type] += 1
                post.told.append(Told(problem.status))
                continue
            post.told.append(Told(PLACED, int(answer.resource), answer.replayed))
            self.placed += 1

    async def lock_rows(self) -> None:
        """Somebody who holds a row for longer than an order waits for it."""
        while True:
            with suppress(asyncpg.DeadlockDetectedError):
                async with self.admin.acquire() as connection, connection.transaction():
                    await connection.execute(
                        "SELECT FROM products WHERE id = $1 FOR UPDATE", random.randint(1, PRODUCTS)
                    )
                    self.did["locked"] += 1
                    await asyncio.sleep(LOCK_S)
            await asyncio.sleep(0.05)

    async def deadlock(self) -> None:
        """Somebody who locks rows the other way round than orders do."""
        while True:
            with suppress(asyncpg.DeadlockDetectedError):
                async with self.admin.acquire() as connection, connection.transaction():
                    for product in range(PRODUCTS, 0, -1):
                        await connection.execute("SELECT FROM products WHERE id = $1 FOR UPDATE", product)
                        await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)

    async def progress(self) -> None:
        """Waits for some orders to be placed: faults by the clock would leave a slow machine no time to place any."""
        placed = self.placed
        while self.placed < placed + ORDERS_PER_FAULT:  # noqa: ASYNC110 - the clients make it true
            await asyncio.sleep(0.01)

    async def kill(self) -> None:
        while True:
            await self.progress()
            sql = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                      WHERE datname = 'shop' AND usename = 'app' ORDER BY random() LIMIT 1"""
            self.did["killed"] += len(await self.admin.fetch(sql))

    async def lose_answers(self) -> None:
        while True:
            await self.progress()
            self.proxy.drop_answers(b"idempotency_keys", 2)


@asynccontextmanager
async def scene(server: Postgres, breaker: BreakerSettings) -> AsyncIterator[Scene]:
    async with TcpProxy(server.url("shop")) as proxy:
        admin = await asyncpg.create_pool(server.admin_url("shop"), min_size=3, max_size=3)
        await admin.execute("ALTER DATABASE shop SET deadlock_timeout = '20ms'")
        await admin.execute("TRUNCATE orders, order_lines, outbox, idempotency_keys")
        await admin.execute("UPDATE products SET stock = $1", STOCK)
        settings = PostgresSettings(url=proxy.url, breaker=breaker, **LIMITS)
        databases = [Database(settings, measure=lambda *_: None) for _ in range(ENVIRONMENTS)]
        try:
            yield Scene(admin, proxy, databases)
        finally:
            for database in databases:
                await database.aclose()
            await admin.close()


async def all_placed(scene: Scene, posts: list[Post]) -> None:
    left = iter(posts)

    async def environment_of(database: Database) -> None:
        for post in left:
            await scene.place(database, post)

    await asyncio.gather(*map(environment_of, scene.databases))


async def final(admin: Any) -> Final:
    found = {
        row["id"]: Order(
            row["customer_id"],
            {int(product): quantity for product, quantity in json.loads(row["lines"]).items()},
            row["total_cents"],
            row["lines_cents"],
        )
        for row in await admin.fetch(ORDERS)
    }
    after = dict(await admin.fetch("SELECT id, stock FROM products"))
    return Final(found, dict.fromkeys(after, STOCK), after)


async def deadlocks(admin: Any) -> int:
    await asyncio.sleep(1.1)  # backends report their statistics once a second
    found: int = await admin.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = 'shop'")
    return found


async def contention_alone(server: Postgres, operations: int) -> None:
    """The strictest breaker that there is: five failures in a minute, of however many calls."""
    async with scene(server, BreakerSettings(slow_s=0.9, call_timeout_s=1.0, window_s=60, failure_rate=0.01)) as stage:
        before = await deadlocks(stage.admin)
        posts = wishes(operations // 4, seed=1)
        async with meanwhile(stage.lock_rows()), meanwhile(stage.deadlock()):
            await all_placed(stage, posts)
        assert await deadlocks(stage.admin) > before, "nothing deadlocked: the test shows nothing"
        print(f"\n{operations} operations: {stage.did} {stage.told}")
        assert stage.told[Contention.type] > 0, "nobody waited too long: the test shows nothing"
        assert stage.told.keys() <= {Contention.type, "idempotency-key-in-flight"}
        for database in stage.databases:
            assert (database.breaker.state, database.breaker.snapshot().failures) == (State.CLOSED, 0)
        assert violations(posts, await final(stage.admin)) == []


async def everything_at_once(server: Postgres, operations: int) -> None:
    async with scene(
        server, BreakerSettings(slow_s=0.9, call_timeout_s=1.0, open_base_s=0.05, open_max_s=0.2)
    ) as stage:
        posts = wishes(operations // 4, seed=2)
        faults: tuple[Callable[[], Awaitable[None]], ...]
        faults = (stage.lock_rows, stage.deadlock, stage.kill, stage.lose_answers)
        async with meanwhile(all_of(faults)):
            await all_placed(stage, posts)
        stage.proxy.drop_answers(b"nothing", 0)
        events = await stage.admin.fetch("SELECT aggregate_id FROM outbox")
        result = await final(stage.admin)
        print(f"\n{operations} operations: {stage.did} lost answers {stage.proxy.dropped} {stage.told}")
        assert violations(posts, result) == []
        assert sorted(row["aggregate_id"] for row in events) == sorted(result.orders)
        assert len(result.orders) == operations // 4
        assert stage.did["killed"] > 0
        assert stage.proxy.dropped > 0
        assert stage.told[OutcomeUnknown.type] > 0, "no outcome was ever unknown: the test shows nothing"


async def all_of(faults: tuple[Callable[[], Awaitable[None]], ...]) -> None:
    async with asyncio.TaskGroup() as group:
        for fault in faults:
            group.create_task(_run(fault))


async def _run(fault: Callable[[], Awaitable[None]]) -> None:
    await fault()


def test_orders_that_wait_and_deadlock_open_no_circuit(server: Postgres) -> None:
    asyncio.run(contention_alone(server, 400))


def test_orders_whose_answers_are_lost_are_placed_once(server: Postgres) -> None:
    asyncio.run(everything_at_once(server, 800))


@pytest.mark.stress
def test_ten_thousand_operations_that_wait_and_deadlock_open_no_circuit(server: Postgres) -> None:
    asyncio.run(contention_alone(server, 10_000))


@pytest.mark.stress
def test_ten_thousand_operations_among_kills_and_lost_answers_are_placed_once(server: Postgres) -> None:
    asyncio.run(everything_at_once(server, 10_000))
