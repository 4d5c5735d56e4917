"""Many environments at once, against one database: as many connections, each as an environment would use its own."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from warmfront.backing.postgres import Postgres

from shared.kit.idempotency import Answer, Claim
from shared.kit.pool import Connection
from shared.kit.problems import KeyInFlight, VersionMismatch
from shared.shop import catalog, orders
from shared.shop.contract import NewOrder, NewOrderLine, ProductChange
from shared.shop.problems import OutOfStock
from tests.functions.conftest import Function

ENVIRONMENTS = 12


async def connect(server: Postgres) -> Connection:
    """Bounded, so that a wait that should not be there is a failure and not a test without end."""
    return await asyncpg.connect(server.url("pooled"), command_timeout=20)


@pytest.fixture
def at_once(server: Postgres, migrate: Function) -> Callable[..., list[Any]]:
    """Runs `work(connection, number)` on so many connections at the same time; errors are results."""
    migrate.invoke({"action": "reset", "databases": ["pooled"]})

    def run(work: Callable[[Connection, int], Awaitable[Any]], times: int = ENVIRONMENTS) -> list[Any]:
        async def whole() -> list[Any]:
            connections = [await connect(server) for _ in range(ENVIRONMENTS)]

            async def environment(number: int) -> list[Any]:
                numbers = range(number, times, ENVIRONMENTS)
                return [await outcome(work(connections[number], n)) for n in numbers]

            done = await asyncio.gather(*(environment(number) for number in range(ENVIRONMENTS)))
            await asyncio.gather(*(connection.close() for connection in connections))
            return [result for results in done for result in results]

        return asyncio.run(whole())

    return run


async def outcome(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except Exception as error:
        return error


SUBJECT = "alice"


def claim(key: str | None = None, content: bytes = b"") -> Claim:
    """Without a key it gets one of its own."""
    return Claim.of("POST /pooled/orders", key or str(uuid.uuid4()), content, ttl_h=24)


def order(*lines: tuple[int, int]) -> NewOrder:
    return NewOrder(1, [NewOrderLine(product_id, quantity) for product_id, quantity in lines])


async def total(connection: Connection, sql: str, *args: Any) -> int:
    return int(await connection.fetchval(sql, *args))


def one(at_once: Callable[..., list[Any]], sql: str, *args: Any) -> int:
    async def ask(connection: Connection, _: int) -> int:
        return await total(connection, sql, *args)

    (answer,) = at_once(ask, 1)
    return int(answer)


def test_duplicates_at_the_same_time_make_one_order(at_once: Callable[..., list[Any]]) -> None:
    keys = [str(uuid.uuid4()) for _ in range(20)]
    before = one(at_once, "SELECT stock FROM products WHERE id = 40")

    async def place(connection: Connection, number: int) -> Answer:
        return await orders.place(connection, claim(keys[number % len(keys)]), SUBJECT, order((40, 1)))

    results = at_once(place, 400)
    answers = [result for result in results if isinstance(result, Answer)]
    assert all(isinstance(result, Answer | KeyInFlight) for result in results)
    assert len({answer.body for answer in answers}) == len(keys)
    assert sum(not answer.replayed for answer in answers) == len(keys)
    assert one(at_once, "SELECT stock FROM products WHERE id = 40") == before - len(keys)
    assert one(at_once, "SELECT count(*) FROM idempotency_keys WHERE key = ANY ($1)", keys) == len(keys)


def test_a_request_whose_twin_is_still_running_is_told_so_and_waits_for_nothing(
    at_once: Callable[..., list[Any]], server: Postgres
) -> None:
    del at_once

    async def test() -> None:
        first, second = [await connect(server) for _ in range(2)]
        async with first.transaction():
            placed = await orders.place(first, claim("twin"), SUBJECT, order((41, 1)))
            with pytest.raises(KeyInFlight) as refused:
                await orders.place(second, claim("twin"), SUBJECT, order((41, 1)))
            assert refused.value.headers["retry-after"] == "1"
        replay = await orders.place(second, claim("twin"), SUBJECT, order((41, 1)))
        assert (replay.body, replay.replayed) == (placed.body, True)
        await first.close()
        await second.close()

    asyncio.run(test())


def test_a_twin_that_finished_after_we_looked_undoes_our_effect_and_gives_its_answer(
    at_once: Callable[..., list[Any]], server: Postgres
) -> None:
    """The race between the look at the key and the lock, held open: the first try sees the database as of before."""

    class LooksTooEarly:
        def __init__(self, connection: Connection, twin: Connection) -> None:
            self._connection, self._twin = connection, twin
            self.tries = 0

        async def fetchrow(self, *args: Any) -> Any:
            self.tries += 1
            if self.tries > 1:
                return await self._connection.fetchrow(*args)
            async with self._connection.transaction(isolation="repeatable_read"):
                await self._connection.fetchval("SELECT 1 FROM products LIMIT 1")
                await orders.place(self._twin, claim("late"), SUBJECT, order((43, 1)))
                return await self._connection.fetchrow(*args)

    async def test() -> None:
        ours, twin = [await connect(server) for _ in range(2)]
        early = LooksTooEarly(ours, twin)
        answer = await orders.place(early, claim("late"), SUBJECT, order((42, 1)))
        assert early.tries == 2
        assert answer.replayed
        await ours.close()
        await twin.close()

    before = one(at_once, "SELECT stock FROM products WHERE id = 42")
    asyncio.run(test())
    assert one(at_once, "SELECT stock FROM products WHERE id = 42") == before
    assert one(at_once, "SELECT count(*) FROM orders WHERE id > 300") == 1


def test_a_key_that_has_expired_may_be_used_again(at_once: Callable[..., list[Any]], server: Postgres) -> None:
    del at_once

    async def test() -> None:
        connection = await connect(server)
        first = await orders.place(connection, claim("old"), SUBJECT, order((44, 1)))
        await connection.execute("UPDATE idempotency_keys SET expires_at = now() WHERE key = 'old'")
        second = await orders.place(connection, claim("old", b"another body"), SUBJECT, order((44, 1)))
        assert not second.replayed
        assert second.resource != first.resource
        await connection.close()

    asyncio.run(test())


def test_stock_is_never_sold_twice_and_never_below_zero(at_once: Callable[..., list[Any]]) -> None:
    async def scarce(connection: Connection, _: int) -> None:
        await connection.execute("UPDATE products SET stock = 50 WHERE id IN (50, 51)")

    at_once(scarce, 1)

    async def place(connection: Connection, number: int) -> Answer:
        # Half of them name the products the other way round: a lock order of their own would be a deadlock.
        lines = [(50, 1), (51, 1)] if number % 2 else [(51, 1), (50, 1)]
        return await orders.place(connection, claim(), SUBJECT, order(*lines))

    results = at_once(place, 240)
    kinds = Counter(type(result) for result in results)
    assert kinds == {Answer: 50, OutOfStock: 190}
    assert one(at_once, "SELECT sum(stock) FROM products WHERE id IN (50, 51)") == 0
    sold = "SELECT sum(quantity) FROM order_lines WHERE order_id > 300 AND product_id IN (50, 51)"
    assert one(at_once, sold) == 100


def test_what_is_sold_and_what_is_left_add_up(at_once: Callable[..., list[Any]]) -> None:
    before = one(at_once, "SELECT sum(stock) FROM products")

    async def place(connection: Connection, number: int) -> Answer:
        first = 100 + number % 7
        return await orders.place(connection, claim(), SUBJECT, order((first + 7, 2), (first, 1), (first + 14, 3)))

    results = at_once(place, 240)
    assert all(isinstance(result, Answer) for result in results)
    assert one(at_once, "SELECT sum(stock) FROM products") == before - 240 * 6
    total_of_lines = "SELECT sum(quantity * unit_price_cents) FROM order_lines WHERE order_id > 300"
    assert one(at_once, total_of_lines) == one(at_once, "SELECT sum(total_cents) FROM orders WHERE id > 300")


def test_of_many_changes_based_on_one_version_one_is_made(at_once: Callable[..., list[Any]]) -> None:
    async def change(connection: Connection, number: int) -> Any:
        return await catalog.change(connection, 60, [1], ProductChange(price_cents=1_000 + number))

    results = at_once(change)
    made = [result for result in results if not isinstance(result, Exception)]
    refused = [result for result in results if isinstance(result, VersionMismatch)]
    assert (len(made), len(refused)) == (1, ENVIRONMENTS - 1)
    assert one(at_once, "SELECT price_cents FROM products WHERE id = 60") == made[0].price_cents
    assert one(at_once, "SELECT version FROM products WHERE id = 60") == 2


def test_changes_that_read_again_when_refused_lose_nothing(at_once: Callable[..., list[Any]]) -> None:
    async def add_one(connection: Connection, _: int) -> None:
        while True:
            product = await catalog.product(connection, 61)
            try:
                await catalog.change(connection, 61, [product.version], ProductChange(stock=product.stock + 1))
            except VersionMismatch:
                continue
            return

    before = one(at_once, "SELECT stock FROM products WHERE id = 61")
    at_once(add_one, 60)
    assert one(at_once, "SELECT stock FROM products WHERE id = 61") == before + 60


def test_the_same_order_takes_one_round_trip(at_once: Callable[..., list[Any]], server: Postgres) -> None:
    del at_once
    asked: list[str] = []

    class Counting:
        def __init__(self, connection: Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            async def ask(*args: Any) -> Any:
                asked.append(name)
                return await getattr(self._connection, name)(*args)

            return ask

    async def test() -> None:
        connection = await connect(server)
        for key in (None, "trip", "trip"):
            await orders.place(Counting(connection), claim(key), SUBJECT, order((70, 1), (71, 1)))
        await connection.close()

    asyncio.run(test())
    assert asked == ["fetchrow"] * 3
