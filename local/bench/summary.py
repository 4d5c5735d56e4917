"""Blocks and cold starts in, summaries and comparisons out. Knows the result's records, not how they were measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from local.bench import stats
from local.bench.stats import Estimate, IntArray, PooledBlocks
from local.results import Block, Cold, Comparison, Summary

PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
COLD_PERCENTILES = {"cold_p50": 0.50, "cold_p95": 0.95}
COLD_WORKLOAD = "cold"
WHOLE_COLD_START = "spawn_to_first_byte"
INIT_STAGES = ("process_start", "imports", "runtime")
HIGHER_IS_BETTER = frozenset({"throughput"})
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one variant, before it is written down."""

    metric: str
    unit: str
    estimate: Estimate
    n: int


Figures = dict[str, Figure]


def summarise(
    blocks: Sequence[Block],
    *,
    floor: Mapping[str, float] | None = None,
    resamples: int = stats.RESAMPLES,
    seed: int = 0,
) -> tuple[tuple[Summary, ...], tuple[Comparison, ...]]:
    """Every workload's variants, each against the first one named, and each against itself (the A/A rows).

    `floor`: metric -> what the emulator alone costs, in the metric's unit; the metrics named in it are repeated net of
    it as `<metric>_net`.
    """
    summaries: list[Summary] = []
    comparisons: list[Comparison] = []
    for workload, by_variant in _by_workload(blocks).items():
        figures = {
            name: _figures(own, floor or {}, _drawn(own, by_variant, resamples, seed))
            for name, own in by_variant.items()
        }
        for name, own in by_variant.items():
            summaries += summary_rows(workload, name, figures[name])
            summaries += _counted(workload, name, own)
        baseline = next(iter(by_variant))
        for candidate in [name for name in by_variant if name != baseline]:
            comparisons += compare_figures(workload, baseline, candidate, figures[baseline], figures[candidate])
        for name, own in by_variant.items():
            comparisons += same_variant_rows(workload, name, own, resamples=resamples, seed=seed)
    return tuple(summaries), tuple(comparisons)


def _by_workload(blocks: Iterable[Block]) -> dict[str, dict[str, list[Block]]]:
    found: dict[str, dict[str, list[Block]]] = {}
    for block in blocks:
        if block.latency_us:
            found.setdefault(block.workload, {}).setdefault(block.variant, []).append(block)
    for by_variant in found.values():
        for own in by_variant.values():
            own.sort(key=lambda block: (block.index, block.order))
    return found


def _drawn(own: Sequence[Block], all_variants: Mapping[str, Sequence[Block]], resamples: int, seed: int) -> IntArray:
    """The same draws for all variants whose rounds are the same: block i of one ran beside block i of the other."""
    rounds = {tuple(block.index for block in blocks) for blocks in all_variants.values()}
    paired = len(rounds) == 1
    own_seed = seed if paired else seed + 1 + sum(map(ord, own[0].variant))
    return draws_or_one(len(own), resamples, own_seed)


def draws_or_one(blocks: int, resamples: int, seed: int) -> IntArray:
    """One block has no spread to show: its interval collapses onto its value."""
    return stats.draws(blocks, resamples, seed) if blocks > 1 else np.ones((1, 1), dtype=np.int64)


def figures_of(blocks: Sequence[Block], *, resamples: int = stats.RESAMPLES, seed: int = 0) -> Figures:
    """The metrics of one variant's blocks, drawn with a seed of its own: for comparing two separate runs."""
    return _figures(blocks, {}, draws_or_one(len(blocks), resamples, seed))


def _figures(blocks: Sequence[Block], floor: Mapping[str, float], drawn: IntArray) -> Figures:
    pooled = PooledBlocks([block.latency_us for block in blocks])
    requests = [block.requests for block in blocks]
    n = sum(requests)
    found = [
        Figure(name, "ms", _in_ms(stats.percentile_estimate(pooled, q, drawn)), len(pooled))
        for name, q in PERCENTILES.items()
    ]
    seconds = [block.duration_s for block in blocks]
    if sum(seconds) > 0:
        found.append(Figure("throughput", "1/s", stats.quotient_estimate(requests, seconds, drawn), n))
    found += _cpu_figures(blocks, requests, drawn)
    found += _memory_figures(blocks, drawn)
    net = [_net(figure, floor[figure.metric]) for figure in found if figure.metric in floor]
    return {figure.metric: figure for figure in [*found, *net]}


def _in_ms(estimate: Estimate) -> Estimate:
    return Estimate(estimate.value / 1000.0, estimate.resampled / 1000.0, estimate.blocks)


def _net(figure: Figure, floor: float) -> Figure:
    return Figure(f"{figure.metric}_net", figure.unit, figure.estimate.less(floor), figure.n)


def _cpu_figures(blocks: Sequence[Block], requests: Sequence[int], drawn: IntArray) -> list[Figure]:
    parts = sorted({part for block in blocks for part in block.cpu_s})
    if not parts or sum(requests) == 0:
        return []
    n = sum(requests)
    whole = [1000.0 * sum(block.cpu_s.values()) for block in blocks]
    found = [Figure("cpu_per_request", "ms", stats.quotient_estimate(whole, requests, drawn), n)]
    for part in parts:
        spent = [1000.0 * block.cpu_s.get(part, 0.0) for block in blocks]
        found.append(Figure(f"cpu_per_request/{part}", "ms", stats.quotient_estimate(spent, requests, drawn), n))
    return found


def _memory_figures(blocks: Sequence[Block], drawn: IntArray) -> list[Figure]:
    """The mean over blocks of each block's peak: a maximum over all of them would have no interval."""
    held = [block.memory_pss_bytes or {} for block in blocks]
    if not any(held):
        return []
    known = [1.0 if parts else 0.0 for parts in held]
    whole = [sum(parts.values()) / MIB for parts in held]
    found = [Figure("memory_peak", "MB", stats.quotient_estimate(whole, known, drawn), int(sum(known)))]
    for part in sorted({part for parts in held for part in parts}):
        own = [parts.get(part, 0) / MIB for parts in held]
        found.append(Figure(f"memory_peak/{part}", "MB", stats.quotient_estimate(own, known, drawn), int(sum(known))))
    return found


def summary_rows(workload: str, variant: str, figures: Figures) -> list[Summary]:
    rows = []
    for figure in figures.values():
        around = figure.estimate.interval()
        rows.append(
            Summary(workload, variant, figure.metric, figure.unit, around.value, around.low, around.high, figure.n)
        )
    return rows


def _counted(workload: str, variant: str, blocks: Sequence[Block]) -> list[Summary]:
    """Figures that are what they are: no interval."""
    n = sum(block.requests for block in blocks)
    largest = max(max(block.latency_us) for block in blocks) / 1000.0
    errors = sum(block.errors for block in blocks)
    return [
        Summary(workload, variant, "max", "ms", largest, n=n),
        Summary(workload, variant, "errors", "1", float(errors), n=n),
    ]


def compare_figures(workload: str, baseline: str, candidate: str, old: Figures, new: Figures) -> list[Comparison]:
    rows = []
    for metric, of_baseline in old.items():
        of_candidate = new.get(metric)
        if of_candidate is None or of_baseline.estimate.value <= 0 or of_candidate.estimate.value <= 0:
            continue  # a net figure that vanishes below the floor has no ratio
        above, below = of_baseline.estimate, of_candidate.estimate
        if metric in HIGHER_IS_BETTER:
            above, below = below, above
        times = stats.ratio(above, below)
        rows.append(
            Comparison(
                workload=workload,
                metric=metric,
                unit=of_baseline.unit,
                baseline=baseline,
                candidate=candidate,
                baseline_value=of_baseline.estimate.value,
                candidate_value=of_candidate.estimate.value,
                ratio=times.value,
                low=times.low,
                high=times.high,
            )
        )
    return rows


def same_variant_rows(
    workload: str, variant: str, blocks: Sequence[Block], *, resamples: int = stats.RESAMPLES, seed: int = 0
) -> list[Comparison]:
    """A/A: neighbouring rounds of one variant against each other, which of the two comes first drawn at random.

    Half the blocks on each side, so the noise floor shown is wider than that of a whole comparison, never narrower.
    """
    pairs = len(blocks) // 2
    if pairs < 2:
        return []
    swapped = np.random.default_rng(seed).integers(0, 2, pairs)
    first = [blocks[2 * pair + int(swap)] for pair, swap in enumerate(swapped)]
    second = [blocks[2 * pair + 1 - int(swap)] for pair, swap in enumerate(swapped)]
    drawn = stats.draws(pairs, resamples, seed)
    return compare_figures(workload, variant, variant, _figures(first, {}, drawn), _figures(second, {}, drawn))


def summarise_cold(
    cold: Sequence[Cold], *, resamples: int = stats.RESAMPLES, seed: int = 0
) -> tuple[tuple[Summary, ...], tuple[Comparison, ...]]:
    """Cold starts by themselves, never among warm ones. Each is a fresh process, so each is a block of its own."""
    summaries: list[Summary] = []
    comparisons: list[Comparison] = []
    by_way: dict[str, dict[str, Figures]] = {}
    for order, one in enumerate(cold):
        figures = _cold_figures(one, draws_or_one(len(one.samples), resamples, seed + order))
        workload = COLD_WORKLOAD if one.way == "on-demand" else f"{COLD_WORKLOAD} {one.way}"
        summaries += summary_rows(workload, one.variant, figures)
        by_way.setdefault(workload, {})[one.variant] = figures
    for workload, by_variant in by_way.items():
        baseline = next(iter(by_variant))
        for candidate in [name for name in by_variant if name != baseline]:
            comparisons += compare_figures(workload, baseline, candidate, by_variant[baseline], by_variant[candidate])
    return tuple(summaries), tuple(comparisons)


def _cold_figures(cold: Cold, drawn: IntArray) -> Figures:
    stages = list(dict.fromkeys(stage for sample in cold.samples for stage in sample))
    whole = {metric: _cold_estimate(cold, (WHOLE_COLD_START,), q, drawn) for metric, q in COLD_PERCENTILES.items()}
    found = {metric: Figure(metric, cold.unit, estimate, len(cold.samples)) for metric, estimate in whole.items()}
    for metric, q in COLD_PERCENTILES.items():
        parts: dict[str, Sequence[str]] = {stage: (stage,) for stage in stages if stage != WHOLE_COLD_START}
        if "init" not in parts and any(stage in parts for stage in INIT_STAGES):
            parts["init"] = INIT_STAGES
        for stage, of in parts.items():
            name = f"{metric}/{stage}"
            found[name] = Figure(name, cold.unit, _cold_estimate(cold, of, q, drawn), len(cold.samples))
    return found


def _cold_estimate(cold: Cold, stages: Sequence[str], q: float, drawn: IntArray) -> Estimate:
    """In microseconds while it is sorted, as warm latencies are, then back in the samples' own unit."""
    values = [round(1000.0 * sum(sample.get(stage, 0.0) for stage in stages)) for sample in cold.samples]
    estimate = stats.percentile_estimate(PooledBlocks([[value] for value in values]), q, drawn)
    return _in_ms(estimate)
