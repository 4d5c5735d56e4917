"""Thousands of requests that nobody waits for or that run out of time: nothing is left behind, and no answer is mixed up.

Three ways to be abandoned: the client hangs up in the middle; the database ends a statement that waits for a lock; the
invocation's own deadline ends it (a function timeout of a second, most of it reserve).
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from warmfront.lab.emulator_process import EmulatorProcess
from warmfront.lab.fault_actions import OnProxy
from warmfront.lab.http_client import Client, NoAnswer, Reply
from warmfront.lab.postgres_faults import LockHeld
from warmfront.lab.scene import LogPart
from warmfront.lab.stage import POSTGRES
from warmfront.lab.tcp_faults import TcpFault

from tests.kit.bench import (
    CARELESS,
    ENVIRONMENTS,
    PATIENCE_S,
    ROOT,
    TEMPLATE,
    Bench,
    Descriptors,
    descriptors,
    frozen,
    in_parallel,
)

LOCKED = 2
FIRST_FREE = 10
PRODUCTS = 2_000
WORKERS = ENVIRONMENTS
HANG_UP_MAX_S = 0.004
# To the Runtime API one; to Postgres and to Redis one, and one that was given up when the environment froze: its loop
# closes it as soon as it turns again.
SOCKETS_MAX = {"pooled": 1 + 2, "distributed": 1 + 2 + 2}
VARIABLES = {
    # The breaker looks on: else it would keep most of these requests away from what they are to wear out.
    "Pooled": {"SHOP_STATEMENT_TIMEOUT_MS": "40", "SHOP_BREAKER_SLOW_MS": "40", "SHOP_BREAKER_MODE": "observe"},
    "Distributed": {"SHOP_DEADLINE_RESERVE_MS": "920", "SHOP_BREAKER_MODE": "observe"},
}


@dataclass(frozen=True, slots=True)
class Left:
    """What an emulator and its environments hold on to while nothing runs."""

    environments: dict[int, Descriptors]
    emulator: Descriptors
    connections: int
    in_transaction: int


@dataclass
class Tally:
    statuses: Counter[object] = field(default_factory=Counter)
    abandoned: int = 0
    mixed_up: list[str] = field(default_factory=list)


def answers_another(path: str, price_cents: int | None, reply: Reply) -> str | None:
    """What a successful answer is about, if that is not what was asked."""
    if reply.status != 200:
        return None
    product = reply.json()
    asked = int(path.rpartition("/")[2])
    if product["id"] != asked or (price_cents is not None and product["price_cents"] != price_cents):
        return f"{path} with price {price_cents} was answered with {product['id']}, {product['price_cents']}"
    return None


async def one(client: Client, variant: str, number: int, chance: random.Random, tally: Tally) -> None:
    kind = chance.choices(("hangs up", "is locked", "reads", "writes"), (55, 20, 15, 10))[0]
    identity = LOCKED if kind == "is locked" else FIRST_FREE + number % (PRODUCTS - FIRST_FREE)
    price = None if kind in ("hangs up", "reads") else 1_000 + number
    path = f"/{variant}/products/{identity}"
    method, headers = ("GET", {}) if price is None else ("PATCH", {"If-Match": "*"})
    body = b"" if price is None else json.dumps({"price_cents": price}).encode()
    patience_s = chance.uniform(0, HANG_UP_MAX_S) if kind == "hangs up" else PATIENCE_S
    try:
        reply = await client.request(method, path, headers=headers, body=body, timeout_s=patience_s)
    except NoAnswer:
        assert kind == "hangs up", f"{path} was never answered"
        tally.statuses["hung up"] += 1
        tally.abandoned += 1
        return
    tally.statuses[reply.status] += 1
    tally.abandoned += reply.status in (503, 504)
    if (mistake := answers_another(path, price, reply)) is not None:
        tally.mixed_up.append(mistake)


async def wear_out(bench: Bench, emulator: EmulatorProcess, variant: str, *, abandoned: int, seed: int) -> Tally:
    tally = Tally()

    def numbers() -> Iterator[int]:
        number = 0
        while tally.abandoned < abandoned:
            number += 1
            yield number

    chance = random.Random(seed)

    async def work(_: int, client: Client, number: int) -> None:
        await one(client, variant, number, chance, tally)

    lock = LockHeld(bench.stage.postgres.admin_url(variant), f"SELECT FROM products WHERE id = {LOCKED} FOR UPDATE")
    await lock.apply()
    try:
        await in_parallel(WORKERS, numbers(), work, emulator)
    finally:
        await lock.clear()
    return tally


async def left(bench: Bench, emulator: EmulatorProcess, variant: str) -> Left:
    """Once nothing runs any more: an orphan ends within half a second of its client."""
    pids = await frozen(emulator, variant.capitalize())
    mine = f"FROM pg_stat_activity WHERE datname = '{variant}' AND usename = 'app'"
    async with asyncio.timeout(PATIENCE_S):
        while (await bench.query(variant, f"SELECT count(*) {mine} AND state = 'active'"))[0][0]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    ((connections, open_ones),) = await bench.query(
        variant, f"SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%') {mine}"
    )
    return Left({pid: descriptors(pid) for pid in pids}, descriptors(emulator.pid), connections, open_ones)


async def held(bench: Bench, template: Path, variant: str, *, abandoned: int) -> None:
    emulator = await bench.serve(template, variables=VARIABLES)
    await bench.seed(variant, products=PRODUCTS)
    await wear_out(bench, emulator, variant, abandoned=4 * WORKERS, seed=0)  # until every environment is there
    before = await left(bench, emulator, variant)
    log = LogPart(emulator.log_file)
    tally = await wear_out(bench, emulator, variant, abandoned=abandoned, seed=1)
    after = await left(bench, emulator, variant)
    print(f"\n{variant}: {dict(tally.statuses)}\n  before {before}\n  after  {after}")
    unforeseen = [line for line in log.text().splitlines() if '"unexpected error"' in line]
    assert tally.statuses[500] == 0, unforeseen[:3]
    assert tally.abandoned >= abandoned
    assert tally.statuses["hung up"] > 0
    assert tally.statuses[503] + tally.statuses[504] > 0, "nothing ran out of time: the test shows nothing"
    assert tally.statuses[200] > 0
    assert tally.mixed_up == []
    others = max(each.others for each in before.environments.values())
    for pid, each in after.environments.items():
        assert each.sockets <= SOCKETS_MAX[variant], f"environment {pid} holds {each}"
        assert each.others <= others, f"environment {pid} holds {each}"
    assert len(after.environments) == len(before.environments) == ENVIRONMENTS
    assert after.emulator.others <= before.emulator.others
    assert after.emulator.sockets <= before.emulator.sockets
    assert after.connections <= len(after.environments), "one connection of each environment, at most"
    assert after.in_transaction == before.in_transaction == 0


@pytest.fixture(scope="module")
def hasty() -> Iterator[Path]:
    """The template with functions that have one second; beside the original, whose paths are relative to it."""
    text = TEMPLATE.read_text(encoding="utf-8")
    assert text.count("    Timeout: 10\n") == 1
    copy = ROOT / f".template-hasty-{os.getpid()}.yaml"
    try:
        copy.write_text(text.replace("    Timeout: 10\n", "    Timeout: 1\n"))
        yield copy
    finally:
        copy.unlink(missing_ok=True)


@pytest.mark.slow
def test_requests_that_are_abandoned_leave_nothing_behind(bench: Bench, hasty: Path) -> None:
    bench.run(held(bench, hasty, "pooled", abandoned=200), within_s=60)


@pytest.mark.stress
@pytest.mark.parametrize("variant", ["pooled", "distributed"])
def test_ten_thousand_abandoned_requests_leave_nothing_behind(bench: Bench, hasty: Path, variant: str) -> None:
    bench.run(held(bench, hasty, variant, abandoned=10_000), within_s=165)


@pytest.mark.stress
def test_a_careless_pool_is_seen_to_keep_what_was_abandoned(bench: Bench) -> None:
    """The control: whoever runs out of time there leaves a connection with an open transaction."""

    async def control() -> list[int]:
        emulator = await bench.serve(CARELESS)
        fault = OnProxy(bench.stage.proxies, POSTGRES, TcpFault("latency", "downstream", settings={"delay_s": 0.6}))
        mine = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state LIKE 'idle in transaction%'"
        client, counts = emulator.client(), []
        await fault.apply()
        for _ in range(3):
            await client.request("GET", "/careless/leak", timeout_s=PATIENCE_S)
            counts.append((await bench.query("postgres", mine))[0][0])
        await fault.clear()
        await client.close()
        return counts

    assert bench.run(control(), within_s=60) == [1, 2, 3]


def test_an_answer_to_somebody_else_is_found() -> None:
    def reply(status: int, body: object) -> Reply:
        return Reply(status, {}, json.dumps(body).encode(), 0.0)

    mine = {"id": 7, "price_cents": 5}
    assert answers_another("/pooled/products/7", None, reply(200, mine)) is None
    assert answers_another("/pooled/products/7", 5, reply(200, mine)) is None
    assert answers_another("/pooled/products/7", 5, reply(504, {})) is None
    assert answers_another("/pooled/products/8", None, reply(200, mine)) is not None
    assert answers_another("/pooled/products/7", 6, reply(200, mine)) is not None
