"""The verdict of a benchmark in one screen: naive against pooled, cold start against warm pool, and whether to believe it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmfront.report import figures
from warmfront.report.figures import COLD_TO_WARM, number
from warmfront.results import Comparison, Result

WIDTH = 100
ROWS = (
    ("p50", "latency, median"),
    ("p99", "latency, 99th percentile"),
    ("throughput", "requests per second"),
    ("cpu_per_request", "CPU per request"),
    ("gb_seconds", "Lambda memory billed"),
    ("usd_per_million", "Lambda cost"),
)
UNITS = {"1/s": "", "GB-s/million": "GB-s per million requests", "USD/million": "USD per million requests"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of figures: both values in `unit`, and how many times better the second one is, with its 95 % interval."""

    title: str
    unit: str
    before: float
    after: float
    times: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ColdRow:
    """First request of a fresh environment and the median of the same caller's next ones, in ms."""

    variant: str
    way: str
    first_ms: float
    next_ms: float
    times: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the screen and the head of the HTML report show."""

    title: str
    about: str
    baseline: str
    candidate: str
    rows: tuple[Row, ...]
    cold: tuple[ColdRow, ...]
    others: str
    validity: str
    valid: bool
    more: tuple[str, ...]


def verdict_of(result: Result) -> Verdict | None:
    """The verdict of a benchmark's first workload; None for results that compare no two variants under load."""
    pairs = [
        (row.workload, row.baseline, row.candidate)
        for row in result.comparisons
        if row.metric == "p50" and not row.same_variant
    ]
    if result.kind != "bench" or not pairs:
        return None
    workload, baseline, _ = pairs[0]
    candidates = figures.unique(candidate for name, own, candidate in pairs if (name, own) == (workload, baseline))
    candidate = candidates[0]
    found = {row.metric: row for row in result.comparisons if _is(row, workload, baseline, candidate)}
    rows = tuple(_row(title, found[metric]) for metric, title in ROWS if metric in found)
    return Verdict(
        title=f"{_described(result, workload)}: {baseline} against {candidate}",
        about=_about(result, workload),
        baseline=baseline,
        candidate=candidate,
        rows=rows,
        cold=tuple(_cold_row(row) for row in result.comparisons if row.metric == COLD_TO_WARM),
        others=_others(result, workload, pairs, candidates),
        validity=_validity(result),
        valid=result.validity.valid,
        more=result.warnings[:2],
    )


def _described(result: Result, workload: str) -> str:
    texts = result.settings.get("descriptions")
    text = texts.get(workload) if isinstance(texts, dict) else None
    return f"{workload} ({text})" if text else workload


def _is(row: Comparison, workload: str, baseline: str, candidate: str) -> bool:
    return (row.workload, row.baseline, row.candidate) == (workload, baseline, candidate)


def _row(title: str, row: Comparison) -> Row:
    unit = UNITS.get(row.unit, row.unit)
    return Row(title, unit, row.baseline_value, row.candidate_value, row.ratio, row.low, row.high)


def _cold_row(row: Comparison) -> ColdRow:
    variant, _, way = row.baseline.partition(" cold")
    return ColdRow(variant, way.strip() or "on-demand", row.baseline_value, row.candidate_value, row.ratio)


def _about(result: Result, workload: str) -> str:
    own = [block for block in result.blocks if block.workload == workload]
    variants = {block.variant for block in own}
    each = sum(block.requests for block in own) // max(1, len(variants))
    rounds = len({block.index for block in own})
    return f"{result.settings.get('workers', '?')} callers, {each:,} requests each, in {rounds} rounds of alternating blocks"


def _others(result: Result, workload: str, pairs: Sequence[tuple[str, str, str]], candidates: Sequence[str]) -> str:
    """Requests per second of the other workloads, and of the other variants on this one: how many times as many."""
    rows = [row for row in result.comparisons if row.metric == "throughput" and not row.same_variant]
    rates = {(row.workload, row.candidate): row.ratio for row in rows}
    elsewhere = [name for name, _, own in pairs if name != workload and own == candidates[0] and (name, own) in rates]
    texts = [f"{name} {_times(rates[name, candidates[0]])}" for name in elsewhere]
    texts += [
        f"{own} ({workload}) {_times(rates[workload, own])}" for own in candidates[1:] if (workload, own) in rates
    ]
    return ", ".join(texts)


def _validity(result: Result) -> str:
    failed = [check for check in result.validity.checks if not check.passed]
    if not failed:
        return f"valid run: {len(result.validity.checks)} checks passed"
    return f"NOT VALID, do not quote these figures: {'; '.join(f'{check.name}: {check.advice}' for check in failed)}"


def _times(value: float) -> str:
    return f"{value:.2f}x" if value < 2 else f"{value:.1f}x" if value < 100 else f"{value:.0f}x"


def show_verdict(result: Result, stream: TextIO, *, path: str, colour: bool) -> bool:
    """Write the screen to `stream`, at most 30 lines of 100 columns. False when this result has no verdict.

    `path`: of the saved result, for the line that says where the full tables are.
    """
    verdict = verdict_of(result)
    if verdict is None:
        return False
    console = Console(file=stream, width=WIDTH, force_terminal=colour, no_color=not colour, highlight=False)
    console.print(Text.assemble(("Warmfront bench", "bold"), f"  {figures.day_and_time(result.created)}"))
    console.print(f"{figures.short_machine_line(result.machine)}; {figures.backing_line(result.backing)}", style="dim")
    console.print()
    console.print(Text(verdict.title, "bold"))
    console.print(verdict.about, style="dim")
    console.print(_figures_table(verdict))
    if verdict.cold:
        console.print()
        console.print(
            Text("cold start against warm pool", "bold"),
            "(one caller: first request of a new environment, then the next)",
        )
        console.print(_cold_table(verdict))
    if verdict.others:
        console.print()
        console.print(f"requests per second elsewhere: {verdict.others}")
    console.print()
    console.print(Text(verdict.validity, "green" if verdict.valid else "bold red"))
    for warning in verdict.more:
        console.print(f"note: {warning}", style="dim")
    console.print(f"all tables: warmfront report {path} --details    as a page: warmfront report {path} --html")
    return True


def _table(*heads: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(heads[0], min_width=26)
    for head in heads[1:]:
        table.add_column(head, justify="right")
    return table


def _figures_table(verdict: Verdict) -> Table:
    table = _table("", verdict.baseline, verdict.candidate, "", "times better", "95 % interval")
    table.columns[3].justify = "left"
    for row in verdict.rows:
        interval = f"{_times(row.low)} to {_times(row.high)}"
        style = "green" if row.low > 1 else "red" if row.high < 1 else ""
        table.add_row(
            row.title, number(row.before), number(row.after), row.unit, Text(_times(row.times), style), interval
        )
    return table


def _cold_table(verdict: Verdict) -> Table:
    table = _table("", "first request", "next ones, median", "", "cold / warm")
    table.columns[3].justify = "left"
    for row in verdict.cold:
        title = f"{row.variant}, {WAYS.get(row.way, row.way)}"
        table.add_row(title, number(row.first_ms), number(row.next_ms), "ms", _times(row.times))
    return table


WAYS = {"on-demand": "on demand", "snap-start": "SnapStart"}
