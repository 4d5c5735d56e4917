"""Draws the pictures over time: the run block by block, series during a run, and the lab's experiments."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from warmfront.report import figures
from warmfront.report.drawing import Picture, draw_series, legend, plain_log, shade, slug
from warmfront.report.pictures_cold import is_ramp
from warmfront.report.theme import Theme, sheet
from warmfront.results import Block, Experiment, Result, Series, Span


def time_pictures(result: Result, order: Sequence[str]) -> list[Picture]:
    found = []
    blocks = [block for block in result.blocks if block.latency_us]
    if len(blocks) > 3:
        caption = "Line: the median of each block; dots: its p99. Workloads one after the other, variants interleaved."
        found.append(
            Picture("blocks", "time", "Block by block", caption, lambda theme: _block_times(theme, blocks, order))
        )
    plain = [series for series in result.series if not is_ramp(series)]
    for name in figures.unique(series.name for series in plain):
        own = [series for series in plain if series.name == name]
        spans = result.spans
        found.append(
            Picture(
                f"series-{slug(name)}",
                "time",
                name.capitalize(),
                _span_caption(spans),
                _series_drawer(own, spans, order),
            )
        )
    return found


def _block_times(theme: Theme, blocks: Sequence[Block], order: Sequence[str]) -> Figure:
    figure, (axes, speed) = sheet(4.2, 2)
    speed.sharex(axes)
    for place, variant in enumerate(order):
        own = sorted((block for block in blocks if block.variant == variant), key=lambda block: block.started_s)
        middle = [block.started_s + block.duration_s / 2 for block in own]
        colour = theme.variant(place)
        p50, p99 = ([_block_percentile(block, q) for block in own] for q in (0.50, 0.99))
        for start, end in _runs([block.workload for block in own]):
            axes.plot(middle[start:end], p50[start:end], color=colour, linewidth=1.4, label="" if start else variant)
        axes.plot(middle, p99, "o", color=colour, markersize=2.2, markeredgewidth=0, alpha=0.7)
    _workload_names(theme, axes, blocks)
    axes.set_ylabel("latency, ms")
    plain_log(axes, "y")
    axes.tick_params(labelbottom=False)
    spins = [(block.started_s, block.spin_ms) for block in blocks if block.spin_ms > 0]
    speed.plot([at for at, _ in spins], [spin for _, spin in spins], ".", color=theme["muted"], markersize=3)
    speed.set_ylim(bottom=0)
    speed.set_ylabel("spin, ms")
    speed.set_xlabel("seconds into the run")
    legend(figure, axes)
    return figure


def _block_percentile(block: Block, q: float) -> float:
    return float(np.quantile(block.latency_us, q, method="inverted_cdf")) / 1000.0


def _runs(names: Sequence[str]) -> list[tuple[int, int]]:
    """Return (start, end) of each sequence of equal names."""
    starts = [place for place in range(len(names)) if place == 0 or names[place] != names[place - 1]]
    return list(pairwise([*starts, len(names)]))


def _workload_names(theme: Theme, axes: Axes, blocks: Sequence[Block]) -> None:
    begins: dict[str, float] = {}
    for block in blocks:
        begins[block.workload] = min(begins.get(block.workload, block.started_s), block.started_s)
    last = max(block.started_s + block.duration_s for block in blocks)
    room_end = -1.0
    for workload, start in sorted(begins.items(), key=lambda item: item[1]):
        axes.axvline(start, color=theme["muted"], linewidth=0.7, linestyle=(0, (3, 2)))
        if start >= room_end:  # a name that would cover its neighbour is left out
            axes.annotate(
                workload, (start, 1.0), xycoords=("data", "axes fraction"), xytext=(2, 1), textcoords="offset points",
                fontsize=8, color=theme["muted"], va="bottom",
            )  # fmt: skip
            room_end = start + last * 0.021 * len(workload)


def _span_caption(spans: Sequence[Span]) -> str:
    kinds = figures.unique(f"{span.kind}: {span.label}" for span in spans)
    return f"Shaded: {'; '.join(kinds)}." if kinds else ""


def _series_drawer(series: Sequence[Series], spans: Sequence[Span], order: Sequence[str]) -> Callable[[Theme], Figure]:
    def draw(theme: Theme) -> Figure:
        figure, (axes,) = sheet(2.6)
        shade(theme, axes, spans)
        draw_series(theme, axes, series, order)
        axes.set_xlabel("seconds into the run")
        legend(figure, axes)
        return figure

    return draw


def experiment_pictures(result: Result, order: Sequence[str]) -> list[Picture]:
    return [
        Picture(f"experiment-{slug(one.name)}", "lab", one.name, one.question, _experiment_drawer(one, order))
        for one in result.experiments
        if one.series
    ]


def _experiment_drawer(one: Experiment, order: Sequence[str]) -> Callable[[Theme], Figure]:
    names = figures.unique(series.name for series in one.series)

    def draw(theme: Theme) -> Figure:
        figure, panels = sheet(0.9 + 1.5 * len(names), len(names))
        for panel, name in zip(panels, names, strict=True):
            shade(theme, panel, one.spans)
            draw_series(theme, panel, [series for series in one.series if series.name == name], order)
            panel.sharex(panels[0])
            panel.tick_params(labelbottom=panel is panels[-1])
        panels[-1].set_xlabel("seconds")
        legend(figure, _fullest(panels))
        return figure

    return draw


def _fullest(panels: Sequence[Axes]) -> Axes:
    return max(panels, key=lambda panel: len(panel.get_legend_handles_labels()[1]))
