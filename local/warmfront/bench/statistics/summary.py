"""Computes summaries and comparisons with confidence intervals from blocks and cold starts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from warmfront.bench.statistics import percentiles
from warmfront.bench.statistics.percentiles import Estimate, FloatArray, IntArray, PooledBlocks
from warmfront.results import Block, Cold, Comparison, Summary

PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
COLD_PERCENTILES = {"cold_p50": 0.50, "cold_p95": 0.95}
COLD_WORKLOAD = "cold"
COLD_TO_WARM = "cold_to_warm"
WHOLE_COLD_START = "spawn_to_first_byte"
INIT_STAGES = ("process_start", "runtime_client", "imports", "restore", "runtime")
HIGHER_IS_BETTER = frozenset({"throughput"})
NOISE_FLOOR_METRICS = ("p50", "p95", "p99", "throughput", "cpu_per_request", "memory_peak")
ROUND_METRICS = ("p50", "p95", "p99", "throughput", "cpu_per_request")
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one variant, with its resampled values."""

    metric: str
    unit: str
    estimate: Estimate
    n: int
    per_block: FloatArray  # the metric of each block alone; NaN where the block has none


Figures = dict[str, Figure]


def summarise(
    blocks: Sequence[Block],
    variants: Sequence[str],
    *,
    floor: Mapping[str, float] | None = None,
    resamples: int = percentiles.RESAMPLES,
    seed: int = 0,
) -> tuple[tuple[Summary, ...], tuple[Comparison, ...]]:
    """Summarise every workload's variants, and compare each with the first of `variants` and with itself (A/A rows).

    Args:
        blocks: the timed blocks of all workloads and variants.
        variants: variant names; the first is the baseline.
        floor: metric -> cost of the emulator alone, in the metric's unit. These metrics are repeated without that cost as
            `<metric>_net`.
        resamples: bootstrap resamples.
        seed: of the resampling.
    """
    summaries: list[Summary] = []
    comparisons: list[Comparison] = []
    for workload, by_variant in _by_workload(blocks, variants).items():
        rounds = {tuple(block.index for block in own) for own in by_variant.values()}
        shared = _draws(len(next(iter(rounds))), resamples, seed) if len(rounds) == 1 else None
        figures = {}
        for order, (name, own) in enumerate(by_variant.items()):
            drawn = shared if shared is not None else _draws(len(own), resamples, seed + order)
            figures[name] = _figures(own, floor or {}, drawn)
            summaries += [*_summary_rows(workload, name, figures[name]), *_counted(workload, name, own)]
        baseline, *candidates = by_variant
        for name in candidates:
            comparisons += compare_figures(workload, baseline, name, figures[baseline], figures[name], drawn=shared)
            if shared is not None:
                comparisons += round_by_round(workload, baseline, name, figures[baseline], figures[name], shared)
        for name, own in by_variant.items():
            comparisons += same_variant_rows(workload, name, own, resamples=resamples, seed=seed)
    return tuple(summaries), tuple(comparisons)


def with_reruns(
    blocks: Sequence[Block], rerun: Sequence[Block], variants: Sequence[str], *, seed: int = 0
) -> tuple[Comparison, ...]:
    """Return comparisons that include the discarded blocks, as `<metric>_all`, for workloads in which blocks were re-run.

    Args:
        blocks: the blocks that count.
        rerun: the blocks that a machine stall hit and that were replaced.
        variants: variant names; the first is the baseline.
        seed: of the resampling.
    """
    touched = {block.workload for block in rerun if block.variant in variants}
    every = [block for block in (*blocks, *rerun) if block.workload in touched and block.variant in variants]
    _, comparisons = summarise(every, variants, seed=seed)
    return tuple(
        replace(row, metric=f"{row.metric}_all")
        for row in comparisons
        if not row.same_variant and "/" not in row.metric and not row.metric.endswith("_rounds")
    )


def _by_workload(blocks: Iterable[Block], variants: Sequence[str]) -> dict[str, dict[str, list[Block]]]:
    """workload -> variant -> blocks, in the order of `variants` (the blocks were run in random order)."""
    place = {variant: order for order, variant in enumerate(variants)}
    own_blocks = [block for block in blocks if block.latency_us]
    found: dict[str, dict[str, list[Block]]] = {
        workload: {} for workload in dict.fromkeys(b.workload for b in own_blocks)
    }
    for block in sorted(own_blocks, key=lambda block: place[block.variant]):
        found[block.workload].setdefault(block.variant, []).append(block)
    for by_variant in found.values():
        for own in by_variant.values():
            own.sort(key=lambda block: (block.index, block.order))
    return found


def _draws(blocks: int, resamples: int, seed: int) -> IntArray:
    """Resamples of blocks; a single block has no spread, so its interval is its value."""
    return percentiles.draws(blocks, resamples, seed) if blocks > 1 else np.ones((1, 1), dtype=np.int64)


def figures_of(blocks: Sequence[Block], *, resamples: int = percentiles.RESAMPLES, seed: int = 0) -> Figures:
    """Return the metrics of one variant's blocks, for comparing two separate runs (give each its own seed)."""
    return _figures(blocks, {}, _draws(len(blocks), resamples, seed))


def _figures(blocks: Sequence[Block], floor: Mapping[str, float], drawn: IntArray) -> Figures:
    requests = [block.requests for block in blocks]
    found = _latency_figures(blocks, drawn)
    found += _quotients("throughput", "1/s", {"": requests}, [block.duration_s for block in blocks], requests, drawn)
    found += _cpu_figures(blocks, [block.answered for block in blocks], drawn)
    found += _memory_figures(blocks, drawn)
    net = [_net(figure, floor[figure.metric]) for figure in found if figure.metric in floor]
    return {figure.metric: figure for figure in [*found, *net]}


def _latency_figures(blocks: Sequence[Block], drawn: IntArray) -> list[Figure]:
    arrays = [np.asarray(block.latency_us, dtype=np.int64) for block in blocks]
    pooled = PooledBlocks(arrays)
    found = []
    for name, q in PERCENTILES.items():
        per_block = np.array([percentiles.percentile(array, q) for array in arrays]) / 1000.0
        estimate = _in_ms(percentiles.percentile_estimate(pooled, q, drawn))
        found.append(Figure(name, "ms", estimate, len(pooled), per_block))
    return found


def _in_ms(estimate: Estimate) -> Estimate:
    return Estimate(estimate.value / 1000.0, estimate.resampled / 1000.0, estimate.blocks)


def _net(figure: Figure, floor: float) -> Figure:
    return Figure(f"{figure.metric}_net", figure.unit, figure.estimate.minus(floor), figure.n, figure.per_block - floor)


def _quotients(
    metric: str,
    unit: str,
    parts: Mapping[str, Sequence[float]],
    denominators: Sequence[float],
    counts: Sequence[float],
    drawn: IntArray,
) -> list[Figure]:
    """One figure for each part, named `metric/part`; the part "" is the metric itself."""
    below = np.asarray(denominators, dtype=np.float64)
    if below.sum() <= 0:
        return []
    found = []
    for part, numerators in parts.items():
        above = np.asarray(numerators, dtype=np.float64)
        per_block = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
        name = f"{metric}/{part}" if part else metric
        estimate = percentiles.quotient_estimate(above, below, drawn)
        found.append(Figure(name, unit, estimate, int(sum(counts)), per_block))
    return found


def _cpu_figures(blocks: Sequence[Block], requests: Sequence[int], drawn: IntArray) -> list[Figure]:
    names = sorted({part for block in blocks for part in block.cpu_s})
    if not names:
        return []
    parts: dict[str, Sequence[float]] = {"": [1000.0 * sum(block.cpu_s.values()) for block in blocks]}
    parts |= {name: [1000.0 * block.cpu_s.get(name, 0.0) for block in blocks] for name in names}
    return _quotients("cpu_per_request", "ms", parts, requests, requests, drawn)


def _memory_figures(blocks: Sequence[Block], drawn: IntArray) -> list[Figure]:
    """The mean of the blocks' memory peaks, because a maximum over all blocks would have no interval."""
    held = [block.memory_pss_bytes or {} for block in blocks]
    known = [1.0 if parts else 0.0 for parts in held]
    parts: dict[str, Sequence[float]] = {"": [sum(own.values()) / MIB for own in held]}
    for name in sorted({name for own in held for name in own}):
        parts[name] = [own.get(name, 0) / MIB for own in held]
    return _quotients("memory_peak", "MB", parts, known, known, drawn)


def _summary_rows(workload: str, variant: str, figures: Figures) -> list[Summary]:
    rows = []
    for figure in figures.values():
        around = figure.estimate.interval()
        rows.append(
            Summary(workload, variant, figure.metric, figure.unit, around.value, around.low, around.high, figure.n)
        )
    return rows


def _counted(workload: str, variant: str, blocks: Sequence[Block]) -> list[Summary]:
    """Counted figures, which have no interval."""
    n = sum(block.requests for block in blocks)
    largest = max(max(block.latency_us) for block in blocks) / 1000.0
    errors = sum(block.errors for block in blocks)
    return [
        Summary(workload, variant, "max", "ms", largest, n=n),
        Summary(workload, variant, "errors", "1", float(errors), n=n),
    ]


def compare_figures(
    workload: str, baseline: str, candidate: str, old: Figures, new: Figures, *, drawn: IntArray | None = None
) -> list[Comparison]:
    """Compare two variants metric by metric.

    Args:
        workload: name for the rows.
        baseline: name of the first variant.
        candidate: name of the second variant.
        old: figures of the baseline.
        new: figures of the candidate.
        drawn: the resamples that both share, if round i of one ran next to round i of the other; else None.
    """
    rows = []
    for metric, of_baseline in old.items():
        of_candidate = new.get(metric)
        if of_candidate is None or of_baseline.estimate.value <= 0 or of_candidate.estimate.value <= 0:
            continue  # a net figure at or below 0 has no ratio
        above, below = of_baseline, of_candidate
        if metric in HIGHER_IS_BETTER:
            above, below = below, above
        times = percentiles.ratio(above.estimate, below.estimate)
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
                verdict="" if "/" in metric else _claim(above, below, drawn),
            )
        )
    return rows


def round_by_round(
    workload: str, baseline: str, candidate: str, old: Figures, new: Figures, drawn: IntArray
) -> list[Comparison]:
    """Compare two variants by the typical ratio of their rounds, as `<metric>_rounds`, where every round has both.

    A machine that is slow for a second slows several blocks of a fast variant but only part of one block of a slow one. In
    percentiles over all requests this appears as a tail of the fast variant; here it affects one round of many.
    """
    rows = []
    for metric in ROUND_METRICS:
        if metric not in old or metric not in new or drawn.shape[1] < 2:
            continue
        above, below = old[metric], new[metric]
        values = float(np.median(above.per_block)), float(np.median(below.per_block))
        if metric in HIGHER_IS_BETTER:
            above, below = below, above
        if not (np.all(above.per_block > 0) and np.all(below.per_block > 0)):
            continue
        times = percentiles.typical_ratio(above.per_block, below.per_block, drawn)
        rows.append(
            Comparison(
                workload, f"{metric}_rounds", above.unit, baseline, candidate, *values, times.value, times.low, times.high,
                _claim(above, below, drawn),
            )
        )  # fmt: skip
    return rows


def _claim(above: Figure, below: Figure, drawn: IntArray | None) -> percentiles.Claim:
    """The claim from the ratios of paired rounds where all have one, else from the pooled ratio; one round claims nothing."""
    if min(above.per_block.size, below.per_block.size) < 2:
        return "not significant"
    if drawn is not None and drawn.shape[1] > 1 and np.all(above.per_block > 0) and np.all(below.per_block > 0):
        return percentiles.claim(
            percentiles.typical_ratio(above.per_block, below.per_block, drawn, percentiles.CLAIM_CONFIDENCE)
        )
    return percentiles.claim(percentiles.ratio(above.estimate, below.estimate, percentiles.CLAIM_CONFIDENCE))


def same_variant_rows(
    workload: str, variant: str, blocks: Sequence[Block], *, resamples: int = percentiles.RESAMPLES, seed: int = 0
) -> list[Comparison]:
    """Compare neighbouring rounds of one variant with each other (A/A), in random order within each pair.

    Each side has half the blocks, so the noise shown is larger than that of a whole comparison, never smaller.
    """
    pairs = len(blocks) // 2
    if pairs < 2:
        return []
    swapped = np.random.default_rng(seed).integers(0, 2, pairs)
    first = [blocks[2 * pair + int(swap)] for pair, swap in enumerate(swapped)]
    second = [blocks[2 * pair + 1 - int(swap)] for pair, swap in enumerate(swapped)]
    drawn = percentiles.draws(pairs, resamples, seed)
    old, new = (_figures(half, {}, drawn) for half in (first, second))
    shown = {metric: old[metric] for metric in NOISE_FLOOR_METRICS if metric in old}
    return compare_figures(workload, variant, variant, shown, new, drawn=drawn)


def summarise_cold(
    cold: Sequence[Cold], *, resamples: int = percentiles.RESAMPLES, seed: int = 0
) -> tuple[tuple[Summary, ...], tuple[Comparison, ...]]:
    """Summarise and compare cold starts, separately from warm requests. Each is a fresh process, so each counts as a block."""
    summaries: list[Summary] = []
    comparisons: list[Comparison] = []
    by_way: dict[str, dict[str, Figures]] = {}
    for order, one in enumerate(cold):
        figures = cold_figures_of(one, resamples=resamples, seed=seed + order)
        workload = cold_workload(one)
        summaries += _summary_rows(workload, one.variant, figures)
        by_way.setdefault(workload, {})[one.variant] = figures
    for workload, by_variant in by_way.items():
        baseline = next(iter(by_variant))
        for candidate in [name for name in by_variant if name != baseline]:
            comparisons += compare_figures(workload, baseline, candidate, by_variant[baseline], by_variant[candidate])
    return tuple(summaries), tuple(comparisons)


def cold_to_warm(
    cold: Sequence[Cold], workload: str, *, resamples: int = percentiles.RESAMPLES, seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare the first request of a fresh environment with the median of the same caller's next requests.

    Returns:
        One row for each variant and way to start: `baseline` is "VARIANT cold" or "VARIANT cold WAY", `candidate` is
        "VARIANT warm"; values are milliseconds. The interval resamples cold starts together with the requests after them.
    """
    rows = []
    for one in cold:
        if not one.next_us or len(one.next_us) != len(one.samples):
            continue
        drawn = _draws(len(one.samples), resamples, seed)
        first = PooledBlocks([[round(1000.0 * sample[WHOLE_COLD_START])] for sample in one.samples])
        after = PooledBlocks(one.next_us)
        above, below = (_in_ms(percentiles.percentile_estimate(pooled, 0.5, drawn)) for pooled in (first, after))
        times = percentiles.ratio(above, below)
        way = "" if one.way == "on-demand" else f" {one.way}"
        rows.append(
            Comparison(
                workload, COLD_TO_WARM, "ms", f"{one.variant} cold{way}", f"{one.variant} warm",
                above.value, below.value, times.value, times.low, times.high,
            )
        )  # fmt: skip
    return tuple(rows)


def cold_workload(cold: Cold) -> str:
    """Return the workload name of cold starts: "cold", or "cold WAY" for another way than on demand."""
    return COLD_WORKLOAD if cold.way == "on-demand" else f"{COLD_WORKLOAD} {cold.way}"


def cold_figures_of(cold: Cold, *, resamples: int = percentiles.RESAMPLES, seed: int = 0) -> Figures:
    """Return the figures of one variant's cold starts: the whole and each stage."""
    return _cold_figures(cold, _draws(len(cold.samples), resamples, seed))


def _cold_figures(cold: Cold, drawn: IntArray) -> Figures:
    stages = dict.fromkeys(stage for sample in cold.samples for stage in sample)
    parts: dict[str, Sequence[str]] = {"": (WHOLE_COLD_START,)}
    parts |= {stage: (stage,) for stage in stages if stage != WHOLE_COLD_START}
    if "init" not in parts and any(stage in parts for stage in INIT_STAGES):
        parts["init"] = INIT_STAGES
    found = {}
    for part, stages_summed in parts.items():
        values = np.array([sum(sample.get(stage, 0.0) for stage in stages_summed) for sample in cold.samples])
        # PooledBlocks sorts integers: thousandths of the samples' unit, as for warm latencies.
        pooled = PooledBlocks([[round(1000.0 * value)] for value in values])
        for metric, q in COLD_PERCENTILES.items():
            name = f"{metric}/{part}" if part else metric
            estimate = _in_ms(percentiles.percentile_estimate(pooled, q, drawn))
            found[name] = Figure(name, cold.unit, estimate, values.size, values)
    return found
