"""Draws the pictures of `warmfront cold`: imports as icicles, ways to start as stages, a jump in load over time."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter

from warmfront.report import figures
from warmfront.report.drawing import Picture, draw_series, legend, slug, stacks
from warmfront.report.figures import Index, number
from warmfront.report.theme import Theme, sheet
from warmfront.results import Anatomy, Cold, ImportNode, Result, Series

RAMP = "ramp "
DEEPEST = 9
SMALLEST_SHARE = 0.002
LETTER_IN = 0.072
WIDE = 20  # ratio of largest to smallest latency from which the axis is logarithmic
KINDS = {"own": "part2", "package": "part1", "standard": "part0", "runtime": "part4"}
KIND_TITLES = {"own": "own code", "package": "packages", "standard": "standard library", "runtime": "runtime client"}
# Fourteen stages in six colours: stages with the same remedy share one.
GROUPS = {
    "process, client": ("process_start", "runtime_client"),
    "imports": ("imports",),
    "to first /next": ("restore", "runtime", "init"),
    "connect": ("secret", "connect", "authentication"),
    "first query": ("prepare", "query", "first_query"),
    "handler, answer": ("dispatch", "handler", "answer", "rest"),
}


def cold_pictures(result: Result, order: Sequence[str]) -> list[Picture]:
    return [*_ways(result), *(_icicle(anatomy) for anatomy in result.anatomies), *_ramps(result, order)]


# Ways side by side


def _ways(result: Result) -> list[Picture]:
    if result.kind != "cold" or not result.cold:
        return []
    caption = (
        "Medians of each stage, from the spawn of the process (ready ahead: from the event) to the first byte of the first"
        " response. The figure at the end is their sum."
    )
    return [Picture("cold-ways", "cold", "Ways to start", caption, lambda theme: _draw_ways(theme, result))]


def _draw_ways(theme: Theme, result: Result) -> Figure:
    index = Index.of(result)
    groups = [
        name
        for name, stages in GROUPS.items()
        if any(stage in s for c in result.cold for s in c.samples for stage in stages)
    ]
    values = [[sum(_stage(index, cold, stage) for stage in GROUPS[name]) for name in groups] for cold in result.cold]
    figure, (axes,) = sheet(1.5 + 0.34 * len(values))
    stacks(theme, axes, values, groups)
    for place, row in enumerate(values):
        axes.text(sum(row), place, f" {number(sum(row))}", va="center", fontsize=9)
    axes.set_yticks(range(len(values)), [f"{cold.variant}, {cold.way}\nn = {cold.n}" for cold in result.cold])
    axes.set_xlim(right=1.1 * max(map(sum, values)))
    axes.set_xlabel("median, ms")
    legend(figure, axes)
    return figure


def _stage(index: Index, cold: Cold, stage: str) -> float:
    if not any(stage in sample for sample in cold.samples):
        return 0.0  # a sum of other stages
    workload = "cold" if cold.way == "on-demand" else f"cold {cold.way}"
    row = index.value(workload, cold.variant, f"cold_p50/{stage}")
    return row.value if row is not None else 0.0


# Icicles


def _icicle(anatomy: Anatomy) -> Picture:
    caption = (
        "Each bar is a package below the one that imported it first. Its width is the time of its import with everything below."
        " The part of a bar without others below it is its own time."
    )
    title = f"Imports of {anatomy.function}: {anatomy.n_modules} modules"
    return Picture(
        f"imports-{slug(anatomy.function)}", "cold", title, caption, lambda theme: _draw_icicle(theme, anatomy)
    )


def _draw_icicle(theme: Theme, anatomy: Anatomy) -> Figure:
    whole = sum(node.cumulative_ms for node in anatomy.imports)
    depth = min(DEEPEST, max((_depth(node, SMALLEST_SHARE * whole) for node in anatomy.imports), default=1))
    figure, (axes,) = sheet(1.15 + 0.3 * depth)
    at = 0.0
    for node in anatomy.imports:
        _bars(theme, axes, node, at, 0, whole)
        at += node.cumulative_ms
    axes.set_xlim(0, whole)
    axes.set_ylim(depth, 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    axes.set_xlabel("ms, cumulative")
    present = {kind for node in anatomy.imports for kind in _kinds(node)}
    for kind, role in KINDS.items():
        if kind in present:
            axes.plot([], [], "s", color=theme[role], label=KIND_TITLES[kind], markersize=7)
    legend(figure, axes)
    return figure


def _bars(theme: Theme, axes: Axes, node: ImportNode, left: float, level: int, whole: float) -> None:
    if node.cumulative_ms < SMALLEST_SHARE * whole or level >= DEEPEST:
        return
    colour = theme[KINDS.get(node.kind, "part5")]
    axes.add_patch(
        Rectangle(
            (left, level + 0.04), node.cumulative_ms, 0.92, facecolor=colour, edgecolor=theme["paper"], linewidth=0.8
        )
    )
    width_in = 4.9 * node.cumulative_ms / whole
    text = f"{node.name} {number(node.cumulative_ms)}"
    for label in (text, node.name, node.name.rpartition(".")[2]):
        if len(label) * LETTER_IN < width_in:
            axes.text(
                left + node.cumulative_ms / 2,
                level + 0.5,
                label,
                ha="center",
                va="center",
                fontsize=8,
                color=theme["paper"],
            )
            break
    at = left
    for child in node.children:
        _bars(theme, axes, child, at, level + 1, whole)
        at += child.cumulative_ms


def _depth(node: ImportNode, smallest: float) -> int:
    below = [_depth(child, smallest) for child in node.children if child.cumulative_ms >= smallest]
    return 1 + max(below, default=0)


def _kinds(node: ImportNode) -> set[str]:
    return {node.kind}.union(*(_kinds(child) for child in node.children))


# A jump of load


def is_ramp(series: Series) -> bool:
    return series.workload.startswith(RAMP)


def _ramps(result: Result, order: Sequence[str]) -> list[Picture]:
    own = [series for series in result.series if is_ramp(series)]
    caption = "Seconds after 50 callers start at once; each sends its next request when it gets a response. One panel per way to start."
    return [
        Picture(
            f"ramp-{slug(name)}",
            "time",
            f"0 to 50 callers: {name}",
            caption,
            _ramp_drawer([series for series in own if series.name == name], order),
        )
        for name in figures.unique(series.name for series in own)
    ]


def _ramp_drawer(series: Sequence[Series], order: Sequence[str]) -> Callable[[Theme], Figure]:
    def draw(theme: Theme) -> Figure:
        ways = figures.unique(own.workload for own in series)
        figure, panels = sheet(0.7 + 1.35 * len(ways), len(ways))
        furthest = max((own.t_s[-1] for own in series if own.t_s), default=1.0)
        values = [value for own in series for value in own.values if value > 0]
        wide = bool(values) and min(values) > 0.5 and max(values) > WIDE * min(values) and series[0].unit == "ms"
        for axes, way in zip(panels, ways, strict=True):
            draw_series(theme, axes, [own for own in series if own.workload == way], order)
            axes.set_ylabel(way.removeprefix(RAMP))
            if wide:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
                axes.set_ylim(min(values) / 1.3, max(values) * 1.3)
            else:
                axes.set_yscale("linear")
                axes.set_ylim(0, 1.05 * max(values, default=1.0))
            axes.set_xlim(0, furthest)
            axes.tick_params(labelbottom=axes is panels[-1])
        panels[-1].set_xlabel(f"seconds; {series[0].name}{', ' + series[0].unit if series[0].unit else ''}")
        legend(figure, panels[0])
        return figure

    return draw
