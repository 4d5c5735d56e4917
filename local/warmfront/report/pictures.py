"""Draws the pictures of a report, each from one part of a result."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from warmfront.report import figures
from warmfront.report.drawing import POINTS, Picture, colour_of, forest, legend, plain_log, slug, stacks
from warmfront.report.figures import Index
from warmfront.report.pictures_cold import cold_pictures
from warmfront.report.pictures_load import cost_pictures, growth_pictures, sweep_pictures
from warmfront.report.pictures_time import experiment_pictures, time_pictures
from warmfront.report.theme import Theme, sheet
from warmfront.results import Block, Result

NINES = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)


def pictures(result: Result) -> list[Picture]:
    """Return all pictures for which the result has data, in the report's order."""
    order = variant_order(result)
    return [
        *_ratio_pictures(result),
        *_percentile_pictures(result, order),
        *_cpu_pictures(result),
        *_cold_pictures(result, order),
        *cold_pictures(result, order),
        *time_pictures(result, order),
        *sweep_pictures(result, order),
        *cost_pictures(result, order),
        *growth_pictures(result, order),
        *_noise_pictures(result),
        *experiment_pictures(result, order),
    ]


def variant_order(result: Result) -> list[str]:
    """Return the variants in the order that assigns their colours, the same for every picture."""
    named = [variant.name for variant in result.variants]
    seen = [block.variant for block in result.blocks] + [row.variant for row in result.cold]
    lab = [own.variant for one in result.experiments for own in one.variants]
    curves = [own.variant for own in result.sweeps] + [own.variant for own in result.costs]
    lines = [own.variant for own in result.growth] + [own.variant for own in result.series]
    return [name for name in figures.unique([*named, *seen, *lab, *curves, *lines]) if name]


# Ratios


def _ratio_pictures(result: Result) -> list[Picture]:
    shown = [
        row
        for row in result.comparisons
        if not row.same_variant
        and row.metric in ("p50", "p99", "throughput", "cpu_per_request", "memory_at_equal_load")
    ]
    if not shown:
        return []
    baselines = figures.unique(row.baseline for row in shown)
    caption = "Dot: the ratio; bar: its 95 % interval. Right of 1 is better, for every metric."
    title = f"Times better than {', '.join(baselines)}"
    return [Picture("ratios", "verdict", title, caption, lambda theme: forest(theme, shown, variant_order(result)))]


def _noise_pictures(result: Result) -> list[Picture]:
    rows = [row for row in result.comparisons if row.same_variant and row.metric in ("p50", "p99", "cpu_per_request")]
    if not rows:
        return []
    caption = (
        "A variant compared with itself in neighbouring rounds: the true ratio is 1, and the length of a bar is this machine's "
        "noise with half of the blocks."
    )
    order = variant_order(result)
    return [Picture("noise", "noise", "Noise floor (A/A)", caption, lambda theme: forest(theme, rows, order))]


# Percentiles


def _percentile_pictures(result: Result, order: Sequence[str]) -> list[Picture]:
    found = []
    for workload in figures.unique(block.workload for block in result.blocks):
        own = [block for block in result.blocks if block.workload == workload and block.latency_us]
        if not own:
            continue
        caption = "Every percentile at once; dotted where fewer than 15 requests lie beyond it. Both axes logarithmic."
        name = f"percentiles-{slug(workload)}"
        found.append(
            Picture(name, "latency", f"{workload}: latency by percentile", caption, _percentile_drawer(own, order))
        )
    return found


def _percentile_drawer(blocks: Sequence[Block], order: Sequence[str]) -> Callable[[Theme], Figure]:
    def draw(theme: Theme) -> Figure:
        figure, (axes,) = sheet(3.3)
        furthest = 2.0
        for place, variant in enumerate(order):
            own = [np.asarray(block.latency_us) for block in blocks if block.variant == variant]
            if own:
                furthest = max(
                    furthest, _percentile_curve(axes, np.sort(np.concatenate(own)), variant, theme.variant(place))
                )
        nines = [q for q in NINES if -np.log10(1 - q) <= furthest + 0.01]
        axes.set_xticks([float(-np.log10(1 - q)) for q in nines], [f"{100 * q:g} %" for q in nines])
        axes.set_xlim(0, furthest)
        axes.set_xlabel("percentile")
        axes.set_ylabel("latency, ms")
        plain_log(axes, "y")
        legend(figure, axes)
        return figure

    return draw


def _percentile_curve(axes: Axes, sorted_us: NDArray[np.int64], variant: str, colour: str) -> float:
    n = sorted_us.size
    furthest = max(1.0, float(np.log10(n)))
    nines = np.linspace(0.0, furthest, min(POINTS, n))
    q = 1.0 - 10.0**-nines
    ranks = np.clip(np.ceil(q * n - 1e-9 * n).astype(np.int64), 1, n)
    ms = sorted_us[ranks - 1] / 1000.0
    trusted = n * (1.0 - q) >= figures.SAMPLES_BEYOND
    last = int(trusted.sum())
    axes.plot(nines[:last], ms[:last], color=colour, label=f"{variant} (n = {n:,})")
    axes.plot(nines[max(0, last - 1) :], ms[max(0, last - 1) :], color=colour, linewidth=1.2, linestyle=(0, (1, 1.5)))
    return furthest


# CPU by part


def _cpu_pictures(result: Result) -> list[Picture]:
    index = Index.of(result)
    parts = index.parts("cpu_per_request")
    rows = [
        (workload, variant)
        for workload in index.warm_workloads()
        for variant in index.variants(workload)
        if index.value(workload, variant, "cpu_per_request")
    ]
    if not parts or not rows:
        return []

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = sheet(1.1 + 0.23 * len(rows))
        values = [[_value(index, *row, f"cpu_per_request/{part}") for part in parts] for row in rows]
        stacks(theme, axes, values, parts)
        axes.set_yticks(range(len(rows)), [f"{workload} · {variant}" for workload, variant in rows])
        axes.set_xlabel("CPU per request, ms")
        legend(figure, axes)
        return figure

    caption = "Where a request's CPU time went: measured for each part, exited processes included."
    return [Picture("cpu", "verdict", "CPU per request by part", caption, draw)]


def _value(index: Index, workload: str, variant: str, metric: str) -> float:
    row = index.value(workload, variant, metric)
    return row.value if row else 0.0


# Cold starts


def _cold_pictures(result: Result, order: Sequence[str]) -> list[Picture]:
    if not result.cold or result.kind == "cold":
        return []
    strips = (
        "Every cold start is a dot (a fresh process each); warm requests are 200 evenly spaced ones. Two distributions."
    )
    split = "Medians of each stage, from the spawn of the process to the first byte of its first response."
    return [
        Picture("cold-warm", "cold", "Cold and warm", strips, lambda theme: _strips(theme, result, order)),
        Picture("cold-stages", "cold", "Where a cold start goes", split, lambda theme: _cold_stages(theme, result)),
    ]


def _cold_title(variant: str, way: str) -> str:
    return variant if way == "on-demand" else f"{variant}, {way}"


def _strips(theme: Theme, result: Result, order: Sequence[str]) -> Figure:
    rows: list[tuple[str, str, NDArray[np.float64], int]] = []
    first = next((block.workload for block in result.blocks), "")
    for cold in result.cold:
        values = np.array([sample.get("spawn_to_first_byte", sum(sample.values())) for sample in cold.samples])
        rows.append((f"{_cold_title(cold.variant, cold.way)} cold", cold.variant, values, len(values)))
    for variant in figures.unique(cold.variant for cold in result.cold):
        own = [b.latency_us for b in result.blocks if b.workload == first and b.variant == variant]
        if own:
            warm = np.sort(np.concatenate([np.asarray(block) for block in own])) / 1000.0
            rows.append((f"{variant} warm ({first})", variant, warm, warm.size))
    figure, (axes,) = sheet(1.0 + 0.42 * len(rows))
    jitter = np.random.default_rng(0)  # only moves dots apart in the drawing
    for place, (_, variant, values, _) in enumerate(rows):
        shown = values[np.linspace(0, values.size - 1, min(POINTS, values.size)).astype(int)]
        colour = colour_of(theme, variant, order)
        y = place + jitter.uniform(-0.26, 0.26, shown.size)
        axes.plot(shown, y, "o", color=colour, alpha=0.5, markersize=2.6, markeredgewidth=0)
        axes.plot([np.median(values)] * 2, [place - 0.34, place + 0.34], color=theme["ink"], linewidth=1.6)
    axes.set_yticks(range(len(rows)), [f"{title}\nn = {n:,}" for title, _, _, n in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("ms; the line is the median")
    axes.grid(visible=False, axis="y")
    plain_log(axes, "x")
    return figure


def _cold_stages(theme: Theme, result: Result) -> Figure:
    stages = figures.unique(
        stage for cold in result.cold for sample in cold.samples for stage in sample if stage != "spawn_to_first_byte"
    )
    values = [
        [float(np.median([sample.get(stage, 0.0) for sample in cold.samples])) for stage in stages]
        for cold in result.cold
    ]
    figure, (axes,) = sheet(1.3 + 0.36 * len(values))
    stacks(theme, axes, values, stages)
    titles = [f"{_cold_title(cold.variant, cold.way)}\nn = {len(cold.samples)}" for cold in result.cold]
    axes.set_yticks(range(len(values)), titles)
    axes.set_xlabel(f"median, {result.cold[0].unit}")
    legend(figure, axes)
    return figure
