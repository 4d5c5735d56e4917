"""Measures what page 4,000 of the product list costs compared with page 1, in every variant, in interleaved blocks.

`python -m tools.page_cost` starts the servers and the emulator and sends requests over HTTP. CPU is that of Postgres and
the environments for a block of requests; latency is the client's. A ratio is page 4,000 to page 1 of the same round.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from warmfront.bench.run.accounting import process_cpu_s, tree_cpu_s
from warmfront.lab.emulator_process import EmulatorProcess, EmulatorSettings
from warmfront.lab.http_client import Client
from warmfront.lab.stage import Stage

TEMPLATE: Final = Path(__file__).parents[1] / "template.yaml"
VARIANTS: Final = ("naive", "pooled", "distributed")
LIMIT: Final = 20
PAGE: Final = 4_000
WALK_LIMIT: Final = 100
RATIO_MAX: Final = 1.3
WARM_UP: Final = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """One block of requests for one page."""

    cpu_us: float
    """Per request, of Postgres and environments."""
    latency_ms: float
    """The median of the block."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One variant's medians of both pages over all rounds, and the median of the rounds' ratios."""

    variant: str
    first: Sample
    deep: Sample
    cpu_ratio: float
    latency_ratio: float


async def measure(
    stage: Stage, emulator: EmulatorProcess, *, page: int, rounds: int, requests: int, seed: int = 1
) -> list[Cost]:
    chance = random.Random(seed)
    client = emulator.client()
    paths = {}
    for variant in VARIANTS:
        paths[variant, 1] = f"/{variant}/products?limit={LIMIT}"
        paths[variant, page] = await path_of(client, variant, page)
    for path in paths.values():
        await block(stage, emulator, client, path, WARM_UP)
    taken: dict[tuple[str, int], list[Sample]] = {key: [] for key in paths}
    for _ in range(rounds):
        for key in chance.sample(sorted(paths), len(paths)):
            taken[key].append(await block(stage, emulator, client, paths[key], requests))
    await client.close()
    return [cost(variant, taken[variant, 1], taken[variant, page]) for variant in VARIANTS]


async def path_of(client: Client, variant: str, page: int) -> str:
    """Return the path of PAGE, with the cursor that the API returned on the way there."""
    before = (page - 1) * LIMIT
    if variant == "naive":
        return f"/{variant}/products?limit={LIMIT}&cursor={before}"  # naive's cursor is the row's offset
    cursor = ""
    while before:
        limit = min(before, WALK_LIMIT)
        asked = f"/{variant}/products?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
        cursor = (await client.request("GET", asked)).json()["next_cursor"]
        before -= limit
    return f"/{variant}/products?limit={LIMIT}&cursor={cursor}"


async def block(stage: Stage, emulator: EmulatorProcess, client: Client, path: str, requests: int) -> Sample:
    before = await cpu_s(stage, emulator, path)
    latencies = []
    for _ in range(requests):
        began_s = time.perf_counter()
        reply = await client.request("GET", path)
        latencies.append((time.perf_counter() - began_s) * 1_000)
        assert reply.status == 200, reply.body
        assert len(reply.json()["items"]) == LIMIT
    used = await cpu_s(stage, emulator, path) - before
    return Sample(used / requests * 1e6, statistics.median(latencies))


async def cpu_s(stage: Stage, emulator: EmulatorProcess, path: str) -> float:
    """Return the CPU seconds of Postgres and of this function's environments. The emulator's own cost is left out."""
    pids = await emulator.environment_pids(path.split("/")[1].capitalize())
    assert stage.postgres.pid is not None
    return tree_cpu_s(stage.postgres.pid) + sum(process_cpu_s(pid) or 0.0 for pid in pids)


def cost(variant: str, first: Sequence[Sample], deep: Sequence[Sample]) -> Cost:
    def middle(samples: Sequence[Sample]) -> Sample:
        return Sample(
            statistics.median(each.cpu_us for each in samples), statistics.median(each.latency_ms for each in samples)
        )

    pairs = list(zip(first, deep, strict=True))
    cpu = statistics.median(late.cpu_us / early.cpu_us for early, late in pairs)
    latency = statistics.median(late.latency_ms / early.latency_ms for early, late in pairs)
    return Cost(variant, middle(first), middle(deep), cpu, latency)


async def run(args: argparse.Namespace) -> list[Cost]:
    async with Stage() as stage:
        emulator = await stage.emulator(EmulatorSettings(TEMPLATE, parameters=("ReservedConcurrency=8",)))
        seed = {"action": "seed", "databases": list(VARIANTS), "products": args.page * LIMIT + 20_000, "orders": 100}
        await emulator.invoke("Migrate", seed)
        return await measure(stage, emulator, page=args.page, rounds=args.rounds, requests=args.requests)


def table(costs: Sequence[Cost], page: int, design: str) -> list[str]:
    lines = [
        f"GET /products?limit={LIMIT}: page {page:,} (row {page * LIMIT:,}) over page 1, {design}",
        "",
        f"{'':14}{'CPU per request, us':^30}{'latency, ms':^30}",
        f"{'':14}{'page 1':>9}{f'page {page:,}':>11}{'ratio':>8}  {'page 1':>9}{f'page {page:,}':>11}{'ratio':>8}",
    ]
    for each in costs:
        cpu = f"{each.first.cpu_us:>9.0f}{each.deep.cpu_us:>11.0f}{each.cpu_ratio:>8.2f}"
        latency = f"{each.first.latency_ms:>9.2f}{each.deep.latency_ms:>11.2f}{each.latency_ratio:>8.2f}"
        lines.append(f"  {each.variant:<12}{cpu}  {latency}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.page_cost", description="Page 4,000 beside page 1.")
    parser.add_argument("--page", type=int, default=PAGE)
    parser.add_argument("--rounds", type=int, default=30, help="blocks of each page and variant (default: 30)")
    parser.add_argument("--requests", type=int, default=20, help="in each block (default: 20)")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    args = parser.parse_args()
    costs = asyncio.run(run(args))
    ratios = {each.variant: {"cpu": each.cpu_ratio, "latency": each.latency_ratio} for each in costs}
    if args.json:
        print(json.dumps(ratios))
    else:
        print("\n".join(table(costs, args.page, f"{args.rounds} rounds of {args.requests} requests")))
    within = all(max(ratios[variant].values()) <= RATIO_MAX for variant in ("pooled", "distributed"))
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
