"""The tables of the HTML report, made from a result's records."""

from collections.abc import Mapping, Sequence
from typing import Any

from warmfront.report import cold_text, figures
from warmfront.report.figures import Index, number
from warmfront.report.page_parts import Cell, Facts, Lines, Part, Row, Table, row_of
from warmfront.results import Check, Comparison, Cost, Result, Summary

VERDICT_METRICS = ("p50", "p95", "p99", "p99.9", "max", "throughput", "errors", "cpu_per_request", "memory_peak")
FACT_MAX = 300  # characters: longer values are data and stay in the result file
OF_THE_MOMENT = {"pid", "port"}  # in the result file, but of no use to a reader
UNITS = {"throughput": "", "errors": "", "cpu_per_request": "ms", "memory_peak": "MB"}


def nothing(result: Result, order: Sequence[str]) -> list[Part]:
    del result, order
    return []


def verdict(result: Result, order: Sequence[str]) -> list[Part]:
    index = Index.of(result)
    metrics = [metric for metric in VERDICT_METRICS if any(key[2] == metric for key in index.summaries)]
    rows = []
    for workload in index.warm_workloads():
        for place, variant in enumerate(index.variants(workload)):
            rows.append(_variant_row(index, workload, variant, metrics, order, first=place == 0))
        for pair in index.pairs(workload):
            rows += _ratio_rows(index, workload, pair, metrics)
    if not rows:
        return []
    heads = ["", *(_head(metric) for metric in metrics)]
    return [Table(heads, rows)]


def _head(metric: str) -> str:
    unit = UNITS.get(metric, "ms")
    title = figures.TITLES.get(metric, metric)
    return f"{title}, {unit}" if unit else title


def _swatch(variant: str, order: Sequence[str]) -> int | None:
    """The place of the variant's colour in the palette."""
    return order.index(variant) % 6 if variant in order else None


def _variant_row(
    index: Index, workload: str, variant: str, metrics: Sequence[str], order: Sequence[str], *, first: bool
) -> Row:
    n = next((row.n for (name, own, _), row in index.summaries.items() if (name, own) == (workload, variant)), 0)
    cells = [_cell(index.value(workload, variant, metric), metric) for metric in metrics]
    kind, above = ("group", workload) if first else ("", "")
    return Row(variant, cells, kind, note=f"n = {n:,}", above=above, swatch=_swatch(variant, order))


def _cell(row: Summary | None, metric: str) -> Cell:
    if row is None:
        return Cell(kind="none")
    kind = "doubt" if figures.too_few(row) else "bad" if metric == "errors" and row.value else ""
    value = f"{row.value:,.0f}" if metric == "errors" else number(row.value)
    known = row.low is not None and row.high is not None and row.low < row.high
    return Cell(value, kind, f"{number(row.low)} – {number(row.high)}" if known else "")


def _ratio_rows(index: Index, workload: str, pair: tuple[str, str], metrics: Sequence[str]) -> list[Row]:
    """How many times better, then the same in other ways: round by round, net of the emulator."""
    rows = []
    for suffix in ("", *figures.APART):
        found = [index.comparisons.get((workload, *pair, f"{metric}{suffix}")) for metric in metrics]
        if any(found):
            title = figures.APART[suffix] if suffix else f"{pair[1]}, times better than {pair[0]}"
            rows.append(Row(title, [_times(row) for row in found], "ratio apart" if suffix else "ratio"))
    return rows


def _times(row: Comparison | None) -> Cell:
    if row is None:
        return Cell(kind="none")
    kind = {"better": "good", "worse": "bad"}.get(row.verdict, "")
    return Cell(f"{number(row.ratio)}×", kind, f"{number(row.low)} – {number(row.high)}")


def cold(result: Result, order: Sequence[str]) -> list[Part]:
    index = Index.of(result)
    stages = index.parts("cold_p50")
    rows = []
    for workload in index.cold_workloads():
        for place, variant in enumerate(index.variants(workload)):
            rows.append(_cold_row(index, workload, variant, stages, order, first=place == 0))
        rows += [_cold_ratio_row(index, workload, pair, stages) for pair in index.pairs(workload)]
    found: list[Part] = [Table(["", *_cold_metrics(stages).values()], rows)] if rows else []
    if result.ways:
        found += _ways(result.ways)
    if result.kind == "cold":
        text = "\n\n".join("\n".join(lines) for lines in cold_text.sections(result) if lines)
        found += [Lines([text], "pre")] if text else []
    return found


def _cold_metrics(stages: Sequence[str]) -> dict[str, str]:
    return {"cold_p50": "p50, ms", "cold_p95": "p95, ms"} | {
        f"cold_p50/{stage}": f"{stage.replace('_', ' ')} p50" for stage in stages
    }


def _cold_row(
    index: Index, workload: str, variant: str, stages: Sequence[str], order: Sequence[str], *, first: bool
) -> Row:
    cells = [_cell(index.value(workload, variant, metric), metric) for metric in _cold_metrics(stages)]
    way = workload.removeprefix("cold").strip()
    n = index.summaries[(workload, variant, "cold_p50")].n
    kind = "group" if first else ""
    return Row(f"{variant} {way}".strip(), cells, kind, note=f"n = {n}", swatch=_swatch(variant, order))


def _cold_ratio_row(index: Index, workload: str, pair: tuple[str, str], stages: Sequence[str]) -> Row:
    cells = [_times(index.comparisons.get((workload, *pair, metric))) for metric in _cold_metrics(stages)]
    return Row(f"{pair[1]}, times better than {pair[0]}", cells, "ratio")


def _ways(ways: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[Part]:
    """Rows for the ways to start, one each."""
    columns = figures.unique(
        (stage, share) for stages in ways.values() for stage, own in stages.items() for share in own
    )
    if not columns:
        return []
    heads = ["way", *(f"{stage.replace('_', ' ')} {share}" for stage, share in columns)]
    rows = []
    for way, stages in ways.items():
        values = [stages.get(stage, {}).get(share) for stage, share in columns]
        rows.append(row_of([way, *(number(value) if value is not None else "" for value in values)]))
    return [Table(heads, rows)]


def cost(result: Result, order: Sequence[str]) -> list[Part]:
    del order
    if not result.costs:
        return []
    parts = figures.unique(part for own in result.costs for part in own.memory_mb)
    architectures = figures.unique(name for own in result.costs for name in own.usd_per_million)
    heads = ["variant", "requests/s", "environments", "connections", "memory, MB", *(f"{part}, MB" for part in parts)]
    heads += ["GB-seconds per million", *(f"USD per million, {name}" for name in architectures)]
    rows = [row_of(_cost_cells(own, parts, architectures)) for own in result.costs]
    source = figures.unique(f"Prices of {own.priced_on} {own.price_source}".strip() for own in result.costs)
    return [Table(heads, rows), Lines(["; ".join(source)], "note")]


def _cost_cells(own: Cost, parts: Sequence[str], architectures: Sequence[str]) -> list[str]:
    known = [own.offered_rate, own.environments, own.connections, sum(own.memory_mb.values())]
    known += [own.memory_mb.get(part, 0.0) for part in parts]
    dollars = [f"{own.usd_per_million[name]:.2f}" if name in own.usd_per_million else "" for name in architectures]
    cells = [number(value) for value in (*known, own.gb_seconds_per_million)]
    return [f"{own.workload} {own.variant}", *cells, *dollars]


def load(result: Result, order: Sequence[str]) -> list[Part]:
    """Tables of what `warmfront size` predicted beside what was measured, and the error of each formula."""
    del order
    found: list[Part] = []
    if result.sized:
        heads = [
            "70 % of the knee",
            "requests/s",
            "formula",
            "p99 predicted, ms",
            "p99 measured, ms",
            "95 % interval",
            "off",
            "n",
        ]
        rows = [
            row_of(
                [
                    f"{own.workload} {own.variant}",
                    number(own.rate),
                    f"{own.formula}, {own.servers} cores",
                    number(own.predicted_p99_ms),
                    number(own.measured_p99_ms),
                    "" if own.low is None or own.high is None else f"{number(own.low)} – {number(own.high)}",
                    f"{own.predicted_p99_ms / own.measured_p99_ms - 1.0:+.0%}",
                    f"{own.n:,}",
                ]
            )
            for own in result.sized
        ]
        found.append(Table(heads, rows))
    formulas = figures.unique(f"{own.formula} {own.metric}" for sweep in result.sweeps for own in sweep.predictions)
    if formulas:
        heads = ["typical error below the knee", "knee, requests/s", *formulas]
        rows = []
        for sweep in result.sweeps:
            errors = {f"{own.formula} {own.metric}": own.error for own in sweep.predictions}
            errors_shown = [f"{error:.0%}" if (error := errors.get(name)) is not None else "" for name in formulas]
            rows.append(row_of([f"{sweep.workload} {sweep.variant}", number(sweep.knee_rate), *errors_shown]))
        found.append(Table(heads, rows))
    return found


def worth(result: Result, order: Sequence[str]) -> list[Part]:
    """The variants' trade-offs in words and measured figures, then what each costs at rates that were not run."""
    found = _trade_offs(result, order)
    if not result.worth:
        return found
    architectures = figures.unique(name for own in result.worth for name in own.usd_per_month)
    heads = ["requests/s", "variant", "environments", "connections", "database cores", "p50, ms"]
    heads += [f"USD a month, {name}" for name in architectures]
    rows = []
    for own in result.worth:
        cores = "" if own.database_cores is None else number(own.database_cores)
        dollars = [f"{own.usd_per_month[name]:,.2f}" if name in own.usd_per_month else "" for name in architectures]
        whole = [f"{own.environments:,.0f}", f"{own.connections:,.0f}"]
        cells = [own.variant, *whole, cores, number(own.p50_ms), *dollars]
        rows.append(row_of([f"{own.rate:,.0f}", *cells]))
    advice = _advice(result)
    return [*found, *([Lines(advice)] if advice else []), Table(heads, rows)]


def _trade_offs(result: Result, order: Sequence[str]) -> list[Part]:
    described = [own for own in result.variants if own.complexity or own.best_for]
    index = Index.of(result)
    workload = next(iter(index.warm_workloads()), None)
    if not described or workload is None:
        return []
    heads = ["", "p50, ms", "p99, ms", "requests/s", "CPU per request, ms", "requests/s per core of Postgres"]
    heads += ["complexity", "best for"]
    rows = []
    for own in sorted(described, key=lambda own: order.index(own.name)):
        figures_of = [
            index.value(workload, own.name, metric) for metric in ("p50", "p99", "throughput", "cpu_per_request")
        ]
        cells = [number(row.value) if row else "" for row in figures_of]
        cells.append(_carried(index, workload, own.name))
        kinds = [*("" for _ in cells), "left", "left"]
        rows.append(row_of([f"{own.name} ({workload})", *cells, own.complexity, own.best_for], kinds))
    return [Table(heads, rows)]


def _carried(index: Index, workload: str, variant: str) -> str:
    """How many requests a second one core of Postgres can serve: what is left where the database is what all share."""
    used = index.value(workload, variant, "cpu_per_request/postgres")
    return number(1000.0 / used.value) if used is not None and used.value > 0 else ""


def _advice(result: Result) -> list[str]:
    """Sentences on what is saved at each rate. At low rates, latency is all there is to gain."""
    variants = figures.unique(own.variant for own in result.worth)
    by_rate = {(own.rate, own.variant): own for own in result.worth}
    sentences = []
    for rate in figures.unique(own.rate for own in result.worth):
        old = by_rate.get((rate, variants[0]))
        for new in [by_rate[rate, name] for name in variants[1:] if (rate, name) in by_rate]:
            if old is None:
                continue
            name = next(iter(old.usd_per_month))
            saved = old.usd_per_month[name] - new.usd_per_month[name]
            sentences.append(
                f"At {rate:,.0f}/s {new.variant} saves {saved:,.2f} USD a month ({name}), "
                f"{old.connections - new.connections:,.0f} connections and {number(old.p50_ms - new.p50_ms)} ms of each "
                f"request against {old.variant}."
            )
    return sentences


def growth(result: Result, order: Sequence[str]) -> list[Part]:
    del order
    if not result.growth:
        return []
    found: list[Part] = []
    for size_name in figures.unique(own.size_name for own in result.growth):
        own_rows = [own for own in result.growth if own.size_name == size_name]
        sizes = sorted({size for own in own_rows for size in own.sizes})
        heads = ["", *(f"{size:,.0f} {size_name}" for size in sizes), "fitted"]
        rows = []
        for own in own_rows:
            at = dict(zip(own.sizes, own.values, strict=True))
            cells = [f"{number(at[size])} {own.unit}" if size in at else "" for size in sizes]
            rows.append(row_of([f"{own.name}, {own.variant}", *cells, own.fitted]))
        found.append(Table(heads, rows))
    return found


def experiments(result: Result, order: Sequence[str]) -> list[Part]:
    if not result.experiments:
        return []
    seen = figures.unique(own.variant for one in result.experiments for own in one.variants)
    variants = [name for name in order if name in seen]
    heads = ["experiment", "control", *variants]
    rows = []
    for one in result.experiments:
        by_variant = {own.variant: own for own in one.variants}
        verdicts = [one.control, *(by_variant.get(variant) for variant in variants)]
        cells = [f"{own.verdict} {own.figure}".strip() if own else "" for own in verdicts]
        if one.control.name:
            cells[0] = f"{one.control.name}: {cells[0]}"
        kinds = [
            {"pass": "good", "fail": "bad", "error": "bad"}.get(own.verdict if own else "", "muted") for own in verdicts
        ]
        rows.append(row_of([one.name, *cells], kinds))
    learned = [(one.name, _facts(one.lessons)) for one in result.experiments if one.lessons]
    return [Table(heads, rows), *([Facts(learned)] if learned else [])]


def noise(result: Result, order: Sequence[str]) -> list[Part]:
    del order
    index = Index.of(result)
    metrics = figures.unique(row.metric for row in result.comparisons if row.same_variant)
    heads = ["", *(figures.TITLES.get(metric, metric) for metric in metrics)]
    rows = []
    for workload in index.warm_workloads():
        for pair in index.pairs(workload, same=True):
            found = [index.comparisons.get((workload, *pair, metric)) for metric in metrics]
            rows.append(Row(f"{workload} · {pair[0]} against itself", [_times(row) for row in found]))
    return [Table(heads, rows)] if rows else []


def check_text(check: Check) -> str:
    unit = f" {check.unit}" if check.unit not in ("", "1") else ""
    text = f"{check.name}: {number(check.figure)}{unit}, the limit is {number(check.limit)}{unit}"
    return f"{text}; {check.advice}" if check.advice and not check.passed else text


def run(result: Result, order: Sequence[str]) -> list[Part]:
    """What was run, on which machine, and how to run it again."""
    del order
    found: list[Part] = []
    if result.validity.checks:
        heads = ["check", "figure", "limit", "unit", "verdict"]
        rows = [
            row_of(
                [own.name, number(own.figure), number(own.limit), own.unit, "passed" if own.passed else "failed"],
                ["", "", "", "good" if own.passed else "bad"],
            )
            for own in result.validity.checks
        ]
        found.append(Table(heads, rows))
    found.append(Lines([result.command], "pre", "To run it again"))
    parts = {"Machine": result.machine, "Backing services": result.backing}
    parts |= {"Settings": result.settings, "Versions": result.versions}
    return [*found, Facts([(title, _facts(facts)) for title, facts in parts.items() if facts])]


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    items = [(name.replace("_", " "), _fact(value)) for name, value in facts.items() if value is not None]
    return [(name, text if len(text) <= FACT_MAX else "in the result file") for name, text in items]


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(own)}" for name, own in value.items() if name not in OF_THE_MOMENT)
    if isinstance(value, list | tuple):
        return ", ".join(_fact(own) for own in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
