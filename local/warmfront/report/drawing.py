"""Drawing helpers for the pictures: axes, legends, bars and shaded spans."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from warmfront.report import figures
from warmfront.report.theme import Theme, sheet
from warmfront.results import Comparison, Series, Span

NARROW = 3.0
POINTS = 200  # of a curve; the result file keeps every sample


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a report. `draw` makes the figure for a theme; `section` is where the report shows it."""

    name: str
    section: str
    title: str
    caption: str
    draw: Callable[[Theme], Figure]


def slug(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower())


def colour_of(theme: Theme, variant: str, order: Sequence[str]) -> str:
    """Return a variant's colour, the same in every picture; other names get the text colour."""
    return theme.variant(order.index(variant)) if variant in order else theme["ink"]


def plain_log(axes: Axes, which: str, *, subs: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """Make an axis logarithmic, with plain numbers as labels."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if axis.get_data_interval()[1] <= 0:
        return  # no positive values
    low, high = axis.get_data_interval()
    if low > 0 and high < NARROW * low:
        if which == "y":
            axes.set_ylim(bottom=0)  # too narrow for two logarithmic labels, and a cut axis would exaggerate
        return
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    if high / max(low, 1e-12) > 300:
        subs = (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1000 else f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def legend(figure: Figure, axes: Axes) -> None:
    """Place the legend above the picture, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside upper left", ncols=min(3, len(labels)), handlelength=1.4)


def forest(theme: Theme, rows: Sequence[Comparison], order: Sequence[str]) -> Figure:
    """Draw a line for each workload and metric, with a bar for each candidate."""
    lines = figures.unique((row.workload, row.metric) for row in rows)
    candidates = figures.unique(row.candidate for row in rows)
    shift = 0.24 if len(candidates) > 1 else 0.0
    figure, (axes,) = sheet(1.1 + (0.22 + 0.07 * len(candidates)) * len(lines))
    for place, candidate in enumerate(candidates):
        colour = colour_of(theme, candidate, order)
        above = shift * (place - (len(candidates) - 1) / 2)
        label: str | None = candidate
        for row in [own for own in rows if own.candidate == candidate]:
            at = lines.index((row.workload, row.metric)) + above
            axes.plot([row.low, row.high], [at, at], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([row.ratio], [at], "o", color=colour, markersize=4.5, label=label)
            label = None
    axes.axvline(1.0, color=theme["ink"], linewidth=1)
    axes.set_yticks(
        range(len(lines)), [f"{workload} · {figures.TITLES.get(metric, metric)}" for workload, metric in lines]
    )
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("times better")
    plain_log(axes, "x")
    legend(figure, axes)
    return figure


def stacks(theme: Theme, axes: Axes, values: Sequence[Sequence[float]], parts: Sequence[str]) -> None:
    left = np.zeros(len(values))
    for place, part in enumerate(parts):
        widths = np.array([row[place] for row in values])
        label = part.replace("_", " ")
        axes.barh(range(len(values)), widths, 0.62, left=left, color=theme.part(place), label=label)
        left += widths
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def draw_series(theme: Theme, axes: Axes, series: Sequence[Series], order: Sequence[str]) -> None:
    several = len({own.workload for own in series}) > 1
    for own in series:
        colour = colour_of(theme, own.variant, order)
        step = max(1, len(own.t_s) // POINTS)
        label = " ".join(part for part in (own.variant, own.workload if several else "") if part) or own.name
        axes.plot(own.t_s[::step], own.values[::step], color=colour, label=label)
    unit = series[0].unit
    axes.set_ylabel(series[0].name if unit in ("", "1") else f"{series[0].name}, {unit}")
    values = [value for own in series for value in own.values]
    if values and min(values) > 0 and max(values) > 50 * min(values):
        plain_log(axes, "y")
    else:
        axes.set_ylim(bottom=0)


def shade(theme: Theme, axes: Axes, spans: Sequence[Span]) -> None:
    """Shade faults over the whole height, and an open breaker as a band at the top, because the two overlap."""
    labelled = set()
    first = {(span.kind, span.label): span.variant for span in reversed(spans)}
    for span in spans:
        breaker = span.kind == "breaker"
        if not breaker and first[span.kind, span.label] != span.variant:
            continue  # each variant had the fault at the same time of its own run: shade it once
        text = f"{span.kind} {span.label}" if breaker else span.kind
        label = None if text in labelled else text
        labelled.add(text)
        if breaker:
            axes.axvspan(span.start_s, span.end_s, ymin=0.95, color=theme["breaker"], linewidth=0, label=label)
        else:
            axes.axvspan(span.start_s, span.end_s, color=theme["fault"], alpha=0.16, linewidth=0, label=label)
