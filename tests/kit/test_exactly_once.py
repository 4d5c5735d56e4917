"""Duplicate POSTs while environments are killed and connections reset: each key takes effect once, and everybody hears.

`pytest -s -m stress tests/kit/test_exactly_once.py` prints what was done and what the checker found.
"""

import asyncio
import itertools
import json
import random
import signal
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import pytest
from warmfront.lab.emulator_process import EmulatorProcess
from warmfront.lab.http_client import Client, NoAnswer
from warmfront.lab.postgres_faults import BackendsTerminated
from warmfront.lab.process_faults import send
from warmfront.lab.stage import POSTGRES
from warmfront.lab.tcp_faults import TcpFault

from tests.kit.bench import Bench, in_parallel, meanwhile
from tests.kit.order_history import NO_ANSWER, PLACED, Final, Order, Post, Told, Violation, violations

COPIES = 4
PRODUCTS = 6
STOCK = 5_000
FIRST_CUSTOMER = 1_000_000
ATTEMPTS_MAX = 200
PAUSE_MAX_S = 0.15
HASTY_SHARE = 0.05
"""So many attempts hang up in the middle and ask again."""
ORDERS = f"""
    SELECT o.id, o.customer_id, o.total_cents, coalesce(sum(l.quantity * l.unit_price_cents), 0)::bigint AS lines_cents,
           coalesce(json_object_agg(l.product_id, l.quantity) FILTER (WHERE l.order_id IS NOT NULL), '{{}}')::text AS lines
      FROM orders o LEFT JOIN order_lines l ON l.order_id = o.id WHERE o.customer_id >= {FIRST_CUSTOMER} GROUP BY o.id"""


@dataclass
class Havoc:
    """What was broken meanwhile, at random moments."""

    bench: Bench
    emulator: EmulatorProcess
    function: str
    seed: int
    done: Counter[str] = field(default_factory=Counter)

    async def rage(self) -> None:
        chance = random.Random(f"havoc {self.seed}")
        for number in itertools.count():
            await asyncio.sleep(chance.uniform(0.05, 0.25))
            kind = chance.choices(("killed", "reset", "terminated"), (5, 3, 1))[0]
            if kind == "killed":
                pids = [*await self.emulator.environment_pids(self.function)]
                pids += await self.emulator.environment_pids("Relay")
                self.done[kind] += send(chance.sample(sorted(pids), min(1, len(pids))), signal.SIGKILL)
            elif kind == "reset":
                proxies = self.bench.stage.proxies
                await proxies.add(POSTGRES, "havoc", TcpFault("reset", share=0.5, seed=number))
                await proxies.remove(POSTGRES, "havoc")
                self.done[kind] += 1
            else:
                fault = BackendsTerminated(self.bench.stage.postgres.admin_url(), role="app")
                await fault.apply()
                self.done[kind] += fault.terminated


def wishes(keys: int, seed: int) -> list[Post]:
    """Each key `COPIES` times, in any order; two products each, of few: the rows are hot."""
    chance = random.Random(f"wishes {seed}")
    posts = []
    for number in range(keys):
        lines = {product: chance.randint(1, 3) for product in sorted(chance.sample(range(1, PRODUCTS + 1), 2))}
        posts += [Post(0, f"k-{seed}-{number}", FIRST_CUSTOMER + number, lines) for _ in range(COPIES)]
    chance.shuffle(posts)
    for number, post in enumerate(posts):
        post.number = number
    return posts


async def place(client: Client, path: str, post: Post) -> None:
    """Until somebody answers for good, as a client with the key would."""
    chance = random.Random(f"{post.key} {post.number}")
    lines = [{"product_id": product, "quantity": quantity} for product, quantity in post.lines.items()]
    body = json.dumps({"customer_id": post.customer, "lines": lines}).encode()
    while not (post.told and post.told[-1].status in (PLACED, 400, 422)):
        assert len(post.told) < ATTEMPTS_MAX, f"post {post.number} is never answered: {Counter(post.told)}"
        if post.told:
            await asyncio.sleep(chance.uniform(0, PAUSE_MAX_S))
        hasty = chance.random() < HASTY_SHARE
        try:
            reply = await client.request(
                "POST", path, headers={"Idempotency-Key": post.key}, body=body, timeout_s=0.01 if hasty else 10
            )
        except NoAnswer:
            post.told.append(Told(NO_ANSWER))
            continue
        identity = int(reply.json()["id"]) if reply.status == PLACED else None
        post.told.append(Told(reply.status, identity, "idempotent-replayed" in reply.headers))


async def relay(client: Client) -> int:
    """One run of it; how many events are still waiting, or -1 if it failed."""
    with suppress(NoAnswer):
        reply = await client.request("POST", "/2015-03-31/functions/Relay/invocations", body=b"{}", timeout_s=60)
        if reply.status == 200 and "x-amz-function-error" not in reply.headers:
            return int(reply.json()["pending"])
    return -1


async def relay_again_and_again(emulator: EmulatorProcess) -> None:
    client = emulator.client()
    try:
        while True:
            await relay(client)
            await asyncio.sleep(0.1)
    finally:
        await client.close()


async def end_state(bench: Bench, database: str, before: dict[int, int], delivered: list[str]) -> Final:
    rows = await bench.query(database, ORDERS)
    orders = {
        row["id"]: Order(
            row["customer_id"],
            {int(product): quantity for product, quantity in json.loads(row["lines"]).items()},
            row["total_cents"],
            row["lines_cents"],
        )
        for row in rows
    }
    after = await stock(bench, database)
    if database != "distributed":
        return Final(orders, before, after)
    events = {row["id"]: row["aggregate_id"] for row in await bench.query(database, "SELECT * FROM outbox")}
    messages = [json.loads(body) for body in delivered]
    return Final(orders, before, after, events, [(int(each["id"]), int(each["subject"])) for each in messages])


async def stock(bench: Bench, database: str) -> dict[int, int]:
    return dict(await bench.query(database, f"SELECT id, stock FROM products WHERE id <= {PRODUCTS}"))


async def everything_at_once(bench: Bench, variant: str, *, keys: int, workers: int, seed: int) -> list[Violation]:
    tells = variant == "distributed"
    emulator = await bench.serve(aws=tells)
    await bench.seed(variant)
    queue = await bench.queue(emulator) if tells else None
    await bench.query(variant, f"UPDATE products SET stock = {STOCK} WHERE id <= {PRODUCTS} RETURNING 1")
    before = await stock(bench, variant)
    if queue is not None:
        queue.take_all()
    posts = wishes(keys, seed)
    havoc = Havoc(bench, emulator, variant.capitalize(), seed)

    async def work(_: int, client: Client, post: Post) -> None:
        await place(client, f"/{variant}/orders", post)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(meanwhile(havoc.rage()))
        if tells:
            await stack.enter_async_context(meanwhile(relay_again_and_again(emulator)))
        await in_parallel(workers, posts, work, emulator)
    delivered: list[str] = []
    if queue is not None:
        client = emulator.client()
        while await relay(client) != 0:
            pass
        await client.close()
        delivered = await asyncio.to_thread(queue.take_all)
        queue.close()
    final = await end_state(bench, variant, before, delivered)
    found = violations(posts, final)
    report(variant, posts, havoc, final, found)
    assert {post.told[-1].status for post in posts} == {PLACED}
    assert havoc.done["killed"] > 0, "no environment was killed: the test shows nothing"
    assert havoc.done["reset"] + havoc.done["terminated"] > 0, "no connection was broken: the test shows nothing"
    return found


def report(variant: str, posts: list[Post], havoc: Havoc, final: Final, found: list[Violation]) -> None:
    answers = Counter(told.status or "no answer" for post in posts for told in post.told)
    print(f"\n{variant}: {len(posts)} posts of {len({post.key for post in posts})} keys, broken: {dict(havoc.done)}")
    print(f"  answers {dict(answers)}; orders {len(final.orders)}; violations {dict(Counter(v.law for v in found))}")
    print(f"  events {len(final.events or ())}, delivered {len(final.delivered)}")


@pytest.mark.slow
def test_each_of_many_duplicates_takes_effect_once_while_things_break(bench: Bench) -> None:
    assert bench.run(everything_at_once(bench, "distributed", keys=40, workers=20, seed=1), within_s=60) == []


@pytest.mark.slow
def test_the_same_in_naive_is_seen_to_break_the_laws(bench: Bench) -> None:
    found = bench.run(everything_at_once(bench, "naive", keys=15, workers=20, seed=2), within_s=60)
    broken = {violation.law for violation in found}
    assert {"every key took effect at most once", "stock is conserved"} <= broken


@pytest.mark.stress
@pytest.mark.parametrize("variant", ["pooled", "distributed"])
def test_a_thousand_duplicates_from_fifty_workers_take_effect_once_each(bench: Bench, variant: str) -> None:
    assert bench.run(everything_at_once(bench, variant, keys=250, workers=50, seed=3), within_s=150) == []


@pytest.mark.stress
def test_a_thousand_duplicates_from_fifty_workers_break_naive(bench: Bench) -> None:
    found = bench.run(everything_at_once(bench, "naive", keys=250, workers=50, seed=3), within_s=150)
    assert len({violation.law for violation in found}) >= 3
