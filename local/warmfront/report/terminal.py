"""Prints a saved result as text tables, with colours on a terminal."""

import io
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from warmfront.report import cold_text, figures
from warmfront.report.colour import wants_colour
from warmfront.report.figures import Index, number
from warmfront.results import Check, Comparison, Result, Sized, Summary

WIDTH = 118
RATIO_METRICS = ("p50", "p95", "p99", "throughput", "cpu_per_request", "memory_peak")
RATIO_TITLES = ("p50", "p95", "p99", "requests/s", "CPU/request", "memory")
EQUAL_LOAD = "memory_at_equal_load"
LABEL, CELL, COLD_LABEL = 28, 15, 24
GROWTH_LABEL, GROWTH_CELL = 44, 12
LATENCIES = ("p50", "p95", "p99", "max")
VERDICT_STYLES = {"better": "green", "worse": "red", "not significant": "dim"}
OUTCOME_STYLES = {"pass": "green", "fail": "red", "error": "red"}

type Line = str | Text


def show(result: Result, stream: TextIO | None = None) -> None:
    """Print a result to a stream, standard output by default."""
    stream = stream or sys.stdout
    stream.write(render(result, colour=wants_colour(stream)))


def render(result: Result, *, colour: bool = False) -> str:
    """Return all tables of a result as text, at most WIDTH columns wide.

    Args:
        result: any kind of result.
        colour: add ANSI colours; without them percentiles of too few samples are in brackets instead of grey.
    """
    index = Index.of(result)
    sections: list[Sequence[Line]]
    if result.kind == "cold":
        sections = [_head(result), *map(_headed, cold_text.sections(result)), _foot(result, colour)]
    else:
        sections = [
            _head(result),
            _warm(index, colour),
            _cold(index, colour),
            _ratios(index),
            _costs(result),
            _growth(result),
            _experiments(result),
            _foot(result, colour),
        ]
    text = Text("\n\n").join(_joined(section) for section in sections if section)
    return _with_codes(text) if colour else f"{text.plain}\n"


def _joined(lines: Sequence[Line]) -> Text:
    return Text("\n").join(Text(line) if isinstance(line, str) else line for line in lines)


def _with_codes(text: Text) -> str:
    """The text with ANSI codes, whatever the environment says: the caller has decided for colours."""
    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=True, color_system="standard", no_color=False, highlight=False)
    console.print(text, soft_wrap=True)
    return buffer.getvalue()


def _headed(lines: Sequence[str]) -> list[Line]:
    return [Text(lines[0], "bold"), *lines[1:]] if lines else []


def _figure(row: Summary | None, width: int, *, colour: bool) -> Text:
    """A figure, right-aligned; with too few samples it is grey, or in brackets without colours."""
    if row is None:
        return Text("-".rjust(width))
    if not figures.too_few(row):
        return Text(number(row.value).rjust(width))
    return Text(number(row.value).rjust(width), "dim") if colour else Text(f"({number(row.value)})".rjust(width))


def _head(result: Result) -> list[Line]:
    title = (f"Warmfront {result.kind}", "bold")
    lines: list[Line] = [Text.assemble(title, f"  {figures.day_and_time(result.created)}  {result.command}")]
    commit = result.versions.get("commit")
    machine = figures.machine_line(result.machine)
    lines.append(f"{machine}, commit {commit}" if commit else machine)
    backing = figures.backing_line(result.backing)
    return [line for line in [*lines, backing] if line]


def _warm(index: Index, colour: bool) -> list[Line]:
    workloads = index.warm_workloads()
    if not workloads:
        return []
    name = max(9, *(len(workload) for workload in workloads)) + 1
    variant = max(12, *(len(variant) + 1 for workload in workloads for variant in index.variants(workload)))
    parts = index.parts("cpu_per_request")
    before = name + variant + 8
    above = "latency, ms".rjust(before + 28).ljust(before + 44) + ("CPU, ms per request" if parts else "").rjust(30)
    head = "workload".ljust(name) + "variant".ljust(variant) + "n".rjust(8)
    head += "".join(metric.rjust(7) for metric in LATENCIES) + "req/s".rjust(8) + "errors".rjust(8)
    head += "all".rjust(7) + "".join(_short(part).rjust(6) for part in parts) + "mem, MB".rjust(8)
    lines: list[Line] = [Text(above.rstrip(), "dim"), Text(head, "bold")]
    for workload in workloads:
        for order, own in enumerate(index.variants(workload)):
            label = ("" if order else workload).ljust(name) + own.ljust(variant)
            lines.append(_warm_row(index, workload, own, label, colour))
    return lines


def _short(part: str) -> str:
    return {"emulator": "emul", "environments": "envs", "postgres": "pg"}.get(part, part)[:6]


def _warm_row(index: Index, workload: str, variant: str, label: str, colour: bool) -> Text:
    def row(metric: str) -> Summary | None:
        return index.value(workload, variant, metric)

    p50, errors = row("p50"), row("errors")
    line = Text(label + (f"{p50.n:,}" if p50 else "-").rjust(8))
    for metric in LATENCIES:
        line.append_text(_figure(row(metric), 7, colour=colour))
    line.append_text(_figure(row("throughput"), 8, colour=colour))
    line.append((f"{errors.value:,.0f}" if errors else "-").rjust(8), "bold red" if errors and errors.value else "")
    line.append_text(_figure(row("cpu_per_request"), 7, colour=colour))
    for part in index.parts("cpu_per_request"):
        line.append_text(Text.assemble(_figure(row(f"cpu_per_request/{part}"), 6, colour=colour), style="dim"))
    return line.append_text(_figure(row("memory_peak"), 8, colour=colour))


def _cold(index: Index, colour: bool) -> list[Line]:
    workloads = index.cold_workloads()
    if not workloads:
        return []
    stages = [stage for stage in index.parts("cold_p50") if stage != "init"]
    head = (
        "cold start, ms".ljust(COLD_LABEL) + "n".rjust(5) + "".join(t.rjust(7) for t in ("p50", "init", "p95", "init"))
    )
    head += "  p50 of:" + "".join(_stage_title(stage).rjust(_stage_width(stage)) for stage in stages)
    lines: list[Line] = [Text(head, "bold")]
    for workload in workloads:
        lines += [_cold_row(index, workload, variant, stages, colour) for variant in index.variants(workload)]
    return lines


def _stage_title(stage: str) -> str:
    return {"process_start": "process", "first_query": "query"}.get(stage, stage.replace("_", " "))


def _stage_width(stage: str) -> int:
    return max(7, len(_stage_title(stage)) + 2)


def _cold_row(index: Index, workload: str, variant: str, stages: Sequence[str], colour: bool) -> Text:
    p50 = index.value(workload, variant, "cold_p50")
    way = workload.removeprefix("cold").strip()
    label = f"{variant} {way}".strip()[: COLD_LABEL - 1].ljust(COLD_LABEL)
    line = Text(label + (f"{p50.n}" if p50 else "-").rjust(5))
    for metric in ("cold_p50", "cold_p50/init", "cold_p95", "cold_p95/init"):
        line.append_text(_figure(index.value(workload, variant, metric), 7, colour=colour))
    line.append(" " * len("  p50 of:"))
    for stage in stages:
        row = index.value(workload, variant, f"cold_p50/{stage}")
        line.append_text(_figure(row, _stage_width(stage), colour=colour))
    return line


def _ratios(index: Index) -> list[Line]:
    pairs = [(workload, pair) for workload in index.warm_workloads() for pair in index.pairs(workload)]
    cold = [(workload, pair) for workload in index.cold_workloads() for pair in index.pairs(workload)]
    equal: list[Line] = [*_equal_load(index)]
    if not pairs and not cold:
        return equal
    heads = "".join(title.rjust(CELL) for title in RATIO_TITLES)
    baselines = figures.unique(pair[0] for _, pair in [*pairs, *cold])
    than = f"times better than {baselines[0]}" if len(baselines) == 1 else "times better"
    lines: list[Line] = [Text(_label(than) + heads, "bold")]
    for workload, pair in pairs:
        lines.append(_ratio_row(index, workload, pair, RATIO_METRICS))
        # All ratios of the first workload only; those of the others are in the HTML report.
        lines += _apart_rows(index, workload, pair) if workload == pairs[0][0] else []
    aims = "".join((f"{figures.AIMS[m]:.0f}" if m in figures.AIMS else "").rjust(CELL) for m in RATIO_METRICS)
    lines.append(Text("the aim".ljust(LABEL) + aims, "dim"))
    lines += _noise_floor(index)
    lines += equal
    return lines + [_cold_ratio(index, workload, pair) for workload, pair in cold]


def _equal_load(index: Index) -> list[str]:
    """Return a line for each pair, and an A/A line as the noise floor."""
    rows = [row for row in index.comparisons.values() if row.metric == EQUAL_LOAD]
    others, same = [row for row in rows if not row.same_variant], [row for row in rows if row.same_variant]
    return [_single_ratio(row) for row in [*others, *same[-1:]]]


def _ratio_row(
    index: Index,
    workload: str,
    pair: tuple[str, str],
    metrics: Sequence[str],
    title: str | None = None,
) -> Text:
    line = Text(_label(f"{workload} {pair[1]}" if title is None else title))
    for metric in metrics:
        line.append_text(_ratio_cell(index.comparisons.get((workload, *pair, metric))))
    return line


def _apart_rows(index: Index, workload: str, pair: tuple[str, str]) -> list[Text]:
    found = []
    for suffix, title in figures.APART.items():
        metrics = [f"{metric}{suffix}" for metric in RATIO_METRICS]
        if any((workload, *pair, metric) in index.comparisons for metric in metrics):
            found.append(_ratio_row(index, workload, pair, metrics, title=f"  {title}"))
    return found


def _label(text: str) -> str:
    return text[: LABEL - 1].ljust(LABEL)


def _ratio_cell(row: Comparison | None) -> Text:
    if row is None:
        return Text("-".rjust(CELL))
    text = f"{_brief(row.ratio)} {_brief(row.low)}–{_brief(row.high)}".rjust(CELL)
    return Text(text, VERDICT_STYLES.get(row.verdict, ""))


def _brief(value: float) -> str:
    return f"{value:.2f}" if value < 2 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _single_ratio(row: Comparison) -> str:
    aim = f"  the aim {figures.AIMS[row.metric]:.0f}" if row.metric in figures.AIMS else ""
    values = f"{number(row.baseline_value)} / {number(row.candidate_value)} {row.unit}"
    if row.same_variant:
        return _label(f"A/A {row.workload} {row.candidate}") + f"{row.metric} {figures.times(row)}"
    return _label(f"{row.workload} {row.candidate}") + f"{row.metric} {figures.times(row)}  ({values}){aim}"


def _cold_ratio(index: Index, workload: str, pair: tuple[str, str]) -> str:
    found = [index.comparisons.get((workload, *pair, metric)) for metric in ("cold_p50", "cold_p95")]
    parts = [f"{row.metric.removeprefix('cold_')} {figures.times(row)}" for row in found if row]
    return _label(f"{workload} {pair[1]}") + "   ".join(parts)


def _noise_floor(index: Index) -> list[Text]:
    """Return one A/A row: the last variant of the first workload, whose figures are smallest and so noisiest."""
    for workload in index.warm_workloads():
        pairs = index.pairs(workload, same=True)
        if pairs:
            title = f"A/A {workload} {pairs[-1][0]}"
            return [_ratio_row(index, workload, pairs[-1], RATIO_METRICS, title=title)]
    return []


def _costs(result: Result) -> list[Line]:
    """Return the costs at the highest offered rate, and the knees. Curves over rates are in the HTML report."""
    lines: list[Line] = []
    if result.costs:
        heads = ("environments", "connections", "memory MB", "GB-s/million", "USD/million")
        highest = max(cost.offered_rate for cost in result.costs)
        title = f"at {number(highest)} requests/s, each"
        lines.append(Text(title.ljust(LABEL) + "".join(head.rjust(CELL) for head in heads), "bold"))
        for cost in result.costs:
            if cost.offered_rate == highest:
                shown = (cost.environments, cost.connections, sum(cost.memory_mb.values()), cost.gb_seconds_per_million)
                dollars = ", ".join(f"{value:.2f}" for value in cost.usd_per_million.values())
                cells = "".join(number(value).rjust(CELL) for value in shown)
                lines.append(_label(f"{cost.workload} {cost.variant}") + cells + dollars.rjust(CELL))
    knees = [f"{own.variant} {number(own.knee_rate)}/s" for own in result.sweeps if own.knee_rate is not None]
    lines += [f"knee: {', '.join(knees)}"] if knees else []
    return [*lines, *map(_sized, result.sized), *_models(result), *_worth(result)]


def _sized(own: Sized) -> str:
    off = own.predicted_p99_ms / own.measured_p99_ms - 1.0
    around = f" [{number(own.low)}, {number(own.high)}]" if own.low is not None and own.high is not None else ""
    text = f"70 % of the knee, {number(own.rate)}/s: p99 {number(own.predicted_p99_ms)} ms by {own.formula}, "
    text += f"{own.servers} cores; {number(own.measured_p99_ms)}{around} measured: {off:+.0%}"
    return _label(f"size: {own.workload} {own.variant}") + text


def _models(result: Result) -> list[str]:
    """Return the typical error of each formula below the knee."""
    found = []
    for sweep in result.sweeps:
        errors = [f"{own.formula} {own.metric} {own.error:.0%}" for own in sweep.predictions if own.error is not None]
        if errors:
            found.append(
                _label(f"{sweep.workload} {sweep.variant}") + f"typical error of the models: {', '.join(errors)}"
            )
    return found


def _worth(result: Result) -> list[str]:
    """Return what the last variant saves compared with the first at each rate, to show when it is not worth it."""
    variants = figures.unique(own.variant for own in result.worth)
    if len(variants) < 2:
        return []
    by_rate = {(own.rate, own.variant): own for own in result.worth}
    savings = []
    for rate in figures.unique(own.rate for own in result.worth):
        old, new = by_rate.get((rate, variants[0])), by_rate.get((rate, variants[1]))
        if old and new:
            name = next(iter(old.usd_per_month))
            saved = old.usd_per_month[name] - new.usd_per_month[name]
            savings.append(f"{rate:,.0f}/s {number(saved)} USD, {old.connections - new.connections:.0f}")
    return (
        [_label(f"worth: {variants[1]} saves") + f"a month, and connections: {'; '.join(savings)}"] if savings else []
    )


def _growth(result: Result) -> list[Line]:
    """Return a line for each figure: its value at each size, and the growth order fitted to them."""
    lines: list[Line] = []
    for size_name in figures.unique(own.size_name for own in result.growth):
        rows = [own for own in result.growth if own.size_name == size_name]
        sizes = sorted({size for own in rows for size in own.sizes})
        head = f"by {size_name}".ljust(GROWTH_LABEL) + "".join(f"{size:,.0f}".rjust(GROWTH_CELL) for size in sizes)
        lines.append(Text(head + "fitted".rjust(GROWTH_CELL), "bold"))
        for own in rows:
            at = dict(zip(own.sizes, own.values, strict=True))
            cells = (f"{number(at[size])} {own.unit}" if size in at else "" for size in sizes)
            label = f"{own.name}, {own.variant}"[: GROWTH_LABEL - 1].ljust(GROWTH_LABEL)
            lines.append(label + "".join(cell.rjust(GROWTH_CELL) for cell in cells) + own.fitted.rjust(GROWTH_CELL))
    return lines


def _experiments(result: Result) -> list[Line]:
    if not result.experiments:
        return []
    variants = figures.unique(own.variant for one in result.experiments for own in one.variants)
    width = max(12, min(24, (WIDTH - 34) // (len(variants) + 1)))
    head = "experiment".ljust(34) + "".join(t.ljust(width) for t in ("control", *variants))
    lines: list[Line] = [Text(head, "bold")]
    for one in result.experiments:
        verdicts = {own.variant: own for own in one.variants}
        line = Text(one.name[:33].ljust(34))
        for own in (one.control, *(verdicts.get(variant) for variant in variants)):
            text = f"{own.verdict} {own.figure}".strip() if own else "-"
            line.append(text[: width - 1].ljust(width), OUTCOME_STYLES.get(own.verdict if own else "", "dim"))
        line.rstrip()
        lines.append(line)
    return lines


def _foot(result: Result, colour: bool) -> list[Line]:
    checks = result.validity.checks
    failed = [check for check in checks if not check.passed]
    if result.validity.valid:
        names = f" ({len(checks)} checks: {', '.join(check.name for check in checks)})" if checks else ""
        lines: list[Line] = [Text.assemble(("valid", "bold green"), names)]
    else:
        lines = [Text.assemble(("NOT VALID", "bold red"), ": do not quote these figures")]
    lines += [Text.assemble("  ", ("failed", "red"), f" {_folded(_check(check), 9)}") for check in failed]
    lines += [_note(_folded(warning, 7)) for warning in result.warnings]
    index = Index.of(result)
    if result.comparisons:
        what = "first invocations" if result.kind == "cold" else "blocks"
        lines.append(f"  intervals: 95 %, by bootstrap over {what}")
    if result.kind != "cold" and any(
        figures.too_few(row) for row in index.summaries.values() if row.metric in LATENCIES
    ):
        marked = "grey" if colour else "in brackets"
        lines.append(_note(f"{marked}: fewer than {figures.SAMPLES_BEYOND} samples lie beyond this percentile"))
    return lines


def _note(text: str) -> Text:
    return Text.assemble("  ", ("note", "yellow"), f" {text}")


def _folded(text: str, indent: int) -> str:
    return f"\n{' ' * indent}".join(textwrap.wrap(text, WIDTH - indent)) or text


def _check(check: Check) -> str:
    unit = f" {check.unit}" if check.unit not in ("", "1") else ""
    text = f"{check.name}: {number(check.figure)}{unit}, the limit is {number(check.limit)}{unit}"
    return f"{text}; {check.advice}" if check.advice else text
