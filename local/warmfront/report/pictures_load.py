"""Draws the pictures of load: the knee, the needs at equal load, and growth with size."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from warmfront.report import figures
from warmfront.report.drawing import Picture, colour_of, legend, plain_log, slug, stacks
from warmfront.report.figures import number
from warmfront.report.theme import Theme, sheet
from warmfront.results import Cost, Growth, Result, Sweep

# name -> how matplotlib draws it
STYLES: tuple[tuple[str, Any], ...] = (("solid", "-"), ("dashed", (0, (4, 2))), ("dotted", (0, (1, 1.5))))


def sweep_pictures(result: Result, order: Sequence[str]) -> list[Picture]:
    sweeps = [sweep for sweep in result.sweeps if sweep.points]
    if not sweeps:
        return []
    formulas = figures.unique(own.formula for sweep in sweeps for own in sweep.predictions)
    caption = "Points: measured rates that the generator could send. Vertical line: the knee."
    if formulas:
        styled = [f"{formula} ({STYLES[place % len(STYLES)][0]})" for place, formula in enumerate(formulas)]
        caption += f" Thin lines: predicted by {', '.join(styled)}."
    return [
        Picture("knee", "load", "The knee: throughput and p99", caption, lambda theme: _knee(theme, sweeps, order)),
    ]


def _knee(theme: Theme, sweeps: Sequence[Sweep], order: Sequence[str]) -> Figure:
    figure, (rate, tail) = sheet(4.8, 2)
    tail.sharex(rate)
    highest = max(point.p99_ms for sweep in sweeps for point in sweep.points)
    formulas = figures.unique(own.formula for sweep in sweeps for own in sweep.predictions)
    for sweep in sweeps:
        colour = colour_of(theme, sweep.variant, order)
        offered = [point.offered_rate for point in sweep.points]
        rate.plot(
            offered,
            [point.throughput for point in sweep.points],
            "o-",
            color=colour,
            markersize=3.5,
            label=sweep.variant,
        )
        tail.plot(offered, [point.p99_ms for point in sweep.points], "o-", color=colour, markersize=3.5)
        for own in sweep.predictions:
            panel = tail if own.metric == "p99" else rate
            inside = [(at, value) for at, value in zip(own.rates, own.values, strict=True) if value <= highest * 1.3]
            style = STYLES[formulas.index(own.formula) % len(STYLES)][1]
            at, values = [at for at, _ in inside], [value for _, value in inside]
            panel.plot(at, values, color=colour, linewidth=0.9, alpha=0.8, linestyle=style)
        for panel in (rate, tail):
            if sweep.knee_rate is not None:
                panel.axvline(sweep.knee_rate, color=colour, linewidth=1, linestyle=(0, (4, 2)))
    rate.set_ylabel("answered, 1/s")
    rate.tick_params(labelbottom=False)
    tail.set_ylabel("p99, ms")
    tail.set_xlabel("offered, requests/s")
    for panel in (rate, tail):
        plain_log(panel, "x")
        plain_log(panel, "y")
    legend(figure, rate)
    return figure


def cost_pictures(result: Result, order: Sequence[str]) -> list[Picture]:
    if not result.costs:
        return []
    caption = "Concurrency is rate times latency: a slow handler needs more environments, and each holds memory and connections."
    rates = figures.unique(cost.offered_rate for cost in result.costs)
    if len(rates) > 1:
        return [
            Picture(
                "cost", "cost", "What equal load needs", caption, lambda theme: _cost_curves(theme, result.costs, order)
            )
        ]
    return [Picture("cost", "cost", "What equal load needs", caption, lambda theme: _cost_stacks(theme, result.costs))]


def _cost_curves(theme: Theme, costs: Sequence[Cost], order: Sequence[str]) -> Figure:
    figure, (memory, needed) = sheet(4.4, 2)
    needed.sharex(memory)
    for variant in figures.unique(cost.variant for cost in costs):
        own = sorted((cost for cost in costs if cost.variant == variant), key=lambda cost: cost.offered_rate)
        colour = colour_of(theme, variant, order)
        rates = [cost.offered_rate for cost in own]
        memory.plot(
            rates, [sum(cost.memory_mb.values()) for cost in own], "o-", color=colour, markersize=4, label=variant
        )
        needed.plot(rates, [cost.environments for cost in own], "o-", color=colour, markersize=4)
    memory.set_ylabel("memory, MB")
    memory.tick_params(labelbottom=False)
    needed.set_ylabel("environments")
    needed.set_xlabel("offered, requests/s")
    for panel in (memory, needed):
        panel.set_ylim(bottom=0)
    legend(figure, memory)
    return figure


def _cost_stacks(theme: Theme, costs: Sequence[Cost]) -> Figure:
    parts = figures.unique(part for cost in costs for part in cost.memory_mb)
    figure, (axes,) = sheet(1.3 + 0.36 * len(costs))
    stacks(theme, axes, [[cost.memory_mb.get(part, 0.0) for part in parts] for cost in costs], parts)
    axes.set_yticks(range(len(costs)), [f"{cost.workload} · {cost.variant}" for cost in costs])
    axes.set_xlabel(f"memory at {number(costs[0].offered_rate)} requests/s, MB")
    legend(figure, axes)
    return figure


def growth_pictures(result: Result, order: Sequence[str]) -> list[Picture]:
    found = []
    for name in figures.unique(own.name for own in result.growth):
        own = [growth for growth in result.growth if growth.name == name]
        fitted = "; ".join(f"{growth.variant}: {growth.fitted}" for growth in own if growth.fitted)
        caption = f"Fitted: {fitted}." if fitted else ""
        found.append(
            Picture(f"growth-{slug(name)}", "growth", name[0].upper() + name[1:], caption, _growth_drawer(own, order))
        )
    return found


def _growth_drawer(growth: Sequence[Growth], order: Sequence[str]) -> Callable[[Theme], Figure]:
    def draw(theme: Theme) -> Figure:
        figure, (axes,) = sheet(2.8)
        for own in growth:
            colour = colour_of(theme, own.variant, order)
            axes.plot(own.sizes, own.values, "o-", color=colour, markersize=4, label=own.variant)
            if len(own.low) == len(own.sizes) == len(own.high):
                axes.fill_between(own.sizes, own.low, own.high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlabel(growth[0].size_name)
        axes.set_ylabel(growth[0].unit)
        axes.set_ylim(bottom=0)
        plain_log(axes, "x", subs=(1.0,) if max(growth[0].sizes) > 1000 else (1.0, 2.0, 5.0))
        legend(figure, axes)
        return figure

    return draw
