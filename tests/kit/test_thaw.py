"""Postgres and Redis restart while environments are frozen: the next request of each is answered as if nothing had been."""

import asyncio
import json
from collections import Counter
from typing import Literal

import pytest
from warmfront.lab.emulator_process import EmulatorProcess
from warmfront.lab.http_client import Reply
from warmfront.lab.postgres_faults import LockHeld

from tests.kit.bench import CARELESS, PATIENCE_S, Bench, frozen

AT_ONCE = 4
PATCH = json.dumps({"price_cents": 777}).encode()
ORDER = json.dumps({"customer_id": 1, "lines": [{"product_id": 3, "quantity": 1}]}).encode()


async def ask(emulator: EmulatorProcess, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
    client = emulator.client()
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.request(method, path, body=body, headers=sent, timeout_s=PATIENCE_S)
    finally:
        await client.close()


async def use_all_at_once(bench: Bench, emulator: EmulatorProcess, variant: str) -> list[int]:
    """So many environments, all with an open connection: held in their invocations by a lock until all are there."""
    lock = LockHeld(bench.stage.postgres.admin_url(variant), "SELECT FROM products WHERE id = 2 FOR UPDATE")
    await lock.apply()
    try:
        path = f"/{variant}/products/2"
        asked = [asyncio.create_task(ask(emulator, "PATCH", path, PATCH, if_match="*")) for _ in range(AT_ONCE)]
        await until_busy(emulator, variant.capitalize())
    finally:
        await lock.clear()
    return [(await each).status for each in asked]


async def until_busy(emulator: EmulatorProcess, function: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while Counter(e["phase"] for e in await emulator.environments(function))["invoke"] < AT_ONCE:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def restart_everything(bench: Bench, mode: Literal["fast", "immediate"]) -> None:
    stage = bench.stage
    await asyncio.gather(asyncio.to_thread(stage.postgres.restart, mode), asyncio.to_thread(stage.redis.restart, mode))


async def thawed(bench: Bench, variant: str, mode: Literal["fast", "immediate"]) -> Counter[int]:
    """The statuses of the first requests after it, as many at once as there are frozen environments."""
    emulator = await bench.serve()
    await bench.seed(variant)
    assert set(await use_all_at_once(bench, emulator, variant)) == {200}
    before = await frozen(emulator, variant.capitalize())
    assert len(before) == AT_ONCE
    assert (await ask(emulator, "GET", f"/{variant}/products/1")).status == 200
    before = await frozen(emulator, variant.capitalize())
    await restart_everything(bench, mode)
    wishes: list[tuple[str, str, bytes, dict[str, str]]] = [
        ("GET", f"/{variant}/products/1", b"", {}),
        ("POST", f"/{variant}/orders", ORDER, {"idempotency_key": f"thaw-{mode}"}),
        ("POST", f"/{variant}/orders", ORDER, {"idempotency_key": f"thaw-{mode}-other"}),
        ("PATCH", f"/{variant}/products/5", PATCH, {"if_match": "*"}),
    ]
    replies = await asyncio.gather(
        *(ask(emulator, method, path, body, **headers) for method, path, body, headers in wishes)
    )
    replies += [await ask(emulator, "GET", f"/{variant}/products/1")]
    assert list(await frozen(emulator, variant.capitalize())) == list(before), "no environment was replaced"
    return Counter(reply.status for reply in replies)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["pooled", "distributed"])
def test_a_restart_of_everything_while_frozen_costs_no_request(bench: Bench, variant: str) -> None:
    assert bench.run(thawed(bench, variant, "fast")) == {200: 3, 201: 2}


@pytest.mark.stress
@pytest.mark.parametrize("variant", ["pooled", "distributed"])
def test_ten_restarts_while_frozen_cost_no_request(bench: Bench, variant: str) -> None:
    async def again_and_again() -> Counter[int]:
        statuses: Counter[int] = Counter()
        for number in range(10):
            statuses += await thawed(bench, variant, "immediate" if number % 2 else "fast")
        return statuses

    assert bench.run(again_and_again(), within_s=150) == {200: 30, 201: 20}


@pytest.mark.stress
def test_a_pool_with_its_defaults_is_seen_to_fail_there(bench: Bench) -> None:
    """The control: asyncpg's own pool hands out a connection whose end nobody has read yet."""

    async def control() -> list[int]:
        emulator = await bench.serve(CARELESS)
        statuses = [(await ask(emulator, "GET", "/defaults/postgres")).status]
        await frozen(emulator, "Defaults")
        await restart_everything(bench, "fast")
        return [*statuses, (await ask(emulator, "GET", "/defaults/postgres")).status]

    assert bench.run(control()) == [200, 500]
