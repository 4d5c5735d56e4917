"""A deep page costs what the first one does where it is asked for by key, and more where rows are counted off."""

import json

import asyncpg
import pytest
from warmfront.lab.emulator_process import EmulatorProcess

from shared.shop import catalog
from tests.kit.bench import Bench
from tools.page_cost import LIMIT, PAGE, RATIO_MAX, VARIANTS, Cost, measure, table


def costs(bench: Bench, *, page: int, rounds: int, requests: int) -> dict[str, Cost]:
    async def measured() -> list[Cost]:
        emulator: EmulatorProcess = await bench.serve()
        await bench.seed(*VARIANTS, products=page * LIMIT + 20_000)
        return await measure(bench.stage, emulator, page=page, rounds=rounds, requests=requests)

    found = bench.run(measured(), within_s=150)
    print("\n" + "\n".join(table(found, page, f"{rounds} rounds of {requests} requests")))
    return {cost.variant: cost for cost in found}


async def buffers(bench: Bench, sql: str, *args: int) -> int:
    """How many pages of the database one run of it looks at: a cost that no busy machine changes."""
    connection = await asyncpg.connect(bench.stage.postgres.admin_url("pooled"))
    try:
        for _ in range(2):  # the first run also fills caches
            plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *args)
        top = json.loads(plan)[0]["Plan"]
        return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])
    finally:
        await connection.close()


def test_a_deep_page_looks_at_as_many_blocks_as_the_first_and_counting_off_at_all_before_it(bench: Bench) -> None:
    async def looked_at() -> dict[str, tuple[int, int]]:
        await bench.serve()
        await bench.seed("pooled", products=5_000)
        offset = "SELECT * FROM products ORDER BY id LIMIT $1 OFFSET $2"
        return {
            "key": (await buffers(bench, catalog.PAGE, 0, LIMIT), await buffers(bench, catalog.PAGE, 4_000, LIMIT)),
            "offset": (await buffers(bench, offset, LIMIT, 0), await buffers(bench, offset, LIMIT, 4_000)),
        }

    looked = bench.run(looked_at())
    assert looked["key"][1] <= RATIO_MAX * looked["key"][0] + 1
    assert looked["offset"][1] > 10 * looked["offset"][0]


@pytest.mark.stress
def test_page_4000_of_100000_products_costs_at_most_1_3_times_page_1_and_more_in_naive(bench: Bench) -> None:
    found = costs(bench, page=PAGE, rounds=30, requests=20)
    for variant in ("pooled", "distributed"):
        assert found[variant].cpu_ratio <= RATIO_MAX
        assert found[variant].latency_ratio <= RATIO_MAX
    assert found["naive"].cpu_ratio > RATIO_MAX
