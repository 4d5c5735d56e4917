"""The tables of the HTML report. Knows a result's records and the page's classes, and no picture."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from warmfront.report import cold_text, figures
from warmfront.report.figures import Index, number
from warmfront.results import Check, Comparison, Cost, Result, Summary

VERDICT_METRICS = ("p50", "p95", "p99", "p99.9", "max", "throughput", "errors", "cpu_per_request", "memory_peak")
FACT_MAX = 300  # letters: what is longer is data and no fact
OF_THE_MOMENT = {"pid", "port"}  # in the file, but of no use to a reader
UNITS = {"throughput": "", "errors": "", "cpu_per_request": "ms", "memory_peak": "MB"}


def nothing(result: Result, order: Sequence[str]) -> list[str]:
    del result, order
    return []


def verdict(result: Result, order: Sequence[str]) -> list[str]:
    index = Index.of(result)
    metrics = [metric for metric in VERDICT_METRICS if any(key[2] == metric for key in index.summaries)]
    rows = []
    for workload in index.warm_workloads():
        for place, variant in enumerate(index.variants(workload)):
            rows.append(_variant_row(index, workload, variant, metrics, order, first=place == 0))
        for pair in index.pairs(workload):
            rows += [_ratio_row(index, workload, pair, metrics, suffix) for suffix in ("", *figures.APART)]
    if not rows:
        return []
    heads = ["", *(_head(metric) for metric in metrics)]
    return [_table(heads, [row for row in rows if row])]


def _head(metric: str) -> str:
    unit = UNITS.get(metric, "ms")
    title = figures.TITLES.get(metric, metric)
    return f"{title}, {unit}" if unit else title


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f"<th>{escape(head)}</th>" for head in heads)
    return f'<div class="card"><table class="wide"><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _swatch(variant: str, order: Sequence[str]) -> str:
    if variant not in order:
        return ""
    return f'<i class="swatch" style="background: var(--v{order.index(variant) % 6})"></i>'


def _variant_row(
    index: Index, workload: str, variant: str, metrics: Sequence[str], order: Sequence[str], *, first: bool
) -> str:
    n = next((row.n for (name, own, _), row in index.summaries.items() if (name, own) == (workload, variant)), 0)
    name = f"{escape(workload)} <small class='muted'>n = {n:,}</small><br>{_swatch(variant, order)}{escape(variant)}"
    if not first:
        name = f"{_swatch(variant, order)}{escape(variant)} <small class='muted'>n = {n:,}</small>"
    cells = "".join(_cell(index.value(workload, variant, metric), metric) for metric in metrics)
    return f'<tr class="{"group" if first else ""}"><th>{name}</th>{cells}</tr>'


def _cell(row: Summary | None, metric: str) -> str:
    label = escape(_head(metric))
    if row is None:
        return f'<td class="none" data-label="{label}"></td>'
    kind = "doubt" if figures.too_few(row) else "bad" if metric == "errors" and row.value else ""
    value = f"{row.value:,.0f}" if metric == "errors" else number(row.value)
    around = ""
    if row.low is not None and row.high is not None and row.low < row.high:
        around = f" <small>{number(row.low)} – {number(row.high)}</small>"
    return f'<td class="{kind}" data-label="{label}">{value}{around}</td>'


def _ratio_row(index: Index, workload: str, pair: tuple[str, str], metrics: Sequence[str], suffix: str) -> str:
    found = [index.comparisons.get((workload, *pair, f"{metric}{suffix}")) for metric in metrics]
    if not any(found):
        return ""
    title = f"{escape(pair[1])}, times better than {escape(pair[0])}"
    if suffix:
        title = f"<span class='muted'>{figures.APART[suffix]}</span>"
    cells = "".join(_times(row, _head(metric)) for row, metric in zip(found, metrics, strict=True))
    return f'<tr class="ratio"><th>{title}</th>{cells}</tr>'


def _times(row: Comparison | None, label: str) -> str:
    if row is None:
        return f'<td class="none" data-label="{escape(label)}"></td>'
    kind = {"better": "good", "worse": "bad"}.get(row.verdict, "")
    around = f"<small>{number(row.low)} – {number(row.high)}</small>"
    return f'<td class="{kind}" data-label="{escape(label)}">{number(row.ratio)}× {around}</td>'


def cold(result: Result, order: Sequence[str]) -> list[str]:
    index = Index.of(result)
    stages = index.parts("cold_p50")
    rows = []
    for workload in index.cold_workloads():
        for place, variant in enumerate(index.variants(workload)):
            rows.append(_cold_row(index, workload, variant, stages, order, first=place == 0))
        rows += [_cold_ratio_row(index, workload, pair, stages) for pair in index.pairs(workload)]
    heads = ["", "p50, ms", "p95, ms", *(f"{stage.replace('_', ' ')} p50" for stage in stages)]
    found = [_table(heads, rows)] if rows else []
    told = (
        "\n\n".join("\n".join(lines) for lines in cold_text.sections(result) if lines) if result.kind == "cold" else ""
    )
    return [*found, *_ways(result.ways), *([f"<pre>{escape(told)}</pre>"] if told else [])]


def _cold_metrics(stages: Sequence[str]) -> dict[str, str]:
    return {"cold_p50": "p50, ms", "cold_p95": "p95, ms"} | {
        f"cold_p50/{stage}": f"{stage.replace('_', ' ')} p50" for stage in stages
    }


def _cold_row(
    index: Index, workload: str, variant: str, stages: Sequence[str], order: Sequence[str], *, first: bool
) -> str:
    cells = []
    for metric, label in _cold_metrics(stages).items():
        cells.append(
            _cell(index.value(workload, variant, metric), metric).replace(escape(_head(metric)), escape(label))
        )
    way = workload.removeprefix("cold").strip()
    n = index.summaries[(workload, variant, "cold_p50")].n
    name = f"{_swatch(variant, order)}{escape(variant)} {escape(way)} <small class='muted'>n = {n}</small>"
    return f'<tr class="{"group" if first else ""}"><th>{name}</th>{"".join(cells)}</tr>'


def _cold_ratio_row(index: Index, workload: str, pair: tuple[str, str], stages: Sequence[str]) -> str:
    cells = "".join(
        _times(index.comparisons.get((workload, *pair, metric)), label)
        for metric, label in _cold_metrics(stages).items()
    )
    return f'<tr class="ratio"><th>{escape(pair[1])}, times better than {escape(pair[0])}</th>{cells}</tr>'


def _ways(ways: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """The ways of being ready, one row each."""
    columns = figures.unique(
        (stage, share) for stages in ways.values() for stage, own in stages.items() for share in own
    )
    if not columns:
        return []
    heads = ["way", *(f"{stage.replace('_', ' ')} {share}" for stage, share in columns)]
    rows = []
    for way, stages in ways.items():
        values = [stages.get(stage, {}).get(share) for stage, share in columns]
        rows.append(_plain_row([way, *(number(value) if value is not None else "" for value in values)], heads))
    return [_table(heads, rows)]


def _plain_row(cells: Sequence[str], heads: Sequence[str], kinds: Sequence[str] = ()) -> str:
    first, *rest = cells
    kinds = kinds or [""] * len(rest)
    tds = "".join(
        f'<td class="{kind if text else "none"}" data-label="{escape(head)}">{escape(text)}</td>'
        for text, head, kind in zip(rest, heads[1:], kinds, strict=True)
    )
    return f"<tr><th>{escape(first)}</th>{tds}</tr>"


def cost(result: Result, order: Sequence[str]) -> list[str]:
    del order
    if not result.costs:
        return []
    parts = figures.unique(part for own in result.costs for part in own.memory_mb)
    architectures = figures.unique(name for own in result.costs for name in own.usd_per_million)
    heads = ["variant", "requests/s", "environments", "connections", "memory, MB", *(f"{part}, MB" for part in parts)]
    heads += ["GB-seconds per million", *(f"USD per million, {name}" for name in architectures)]
    rows = [_plain_row(_cost_cells(own, parts, architectures), heads) for own in result.costs]
    source = figures.unique(f"Prices of {own.priced_on} {own.price_source}".strip() for own in result.costs)
    return [_table(heads, rows), f'<p class="muted">{escape("; ".join(source))}</p>']


def _cost_cells(own: Cost, parts: Sequence[str], architectures: Sequence[str]) -> list[str]:
    known = [own.offered_rate, own.environments, own.connections, sum(own.memory_mb.values())]
    known += [own.memory_mb.get(part, 0.0) for part in parts]
    dollars = [f"{own.usd_per_million[name]:.2f}" if name in own.usd_per_million else "" for name in architectures]
    cells = [number(value) for value in (*known, own.gb_seconds_per_million)]
    return [f"{own.workload} {own.variant}", *cells, *dollars]


def load(result: Result, order: Sequence[str]) -> list[str]:
    """What `size` said beside what came, and how far off each formula was."""
    del order
    found = []
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
            _plain_row(
                [
                    f"{own.workload} {own.variant}",
                    number(own.rate),
                    f"{own.formula}, {own.servers} cores",
                    number(own.predicted_p99_ms),
                    number(own.measured_p99_ms),
                    "" if own.low is None or own.high is None else f"{number(own.low)} – {number(own.high)}",
                    f"{own.predicted_p99_ms / own.measured_p99_ms - 1.0:+.0%}",
                    f"{own.n:,}",
                ],
                heads,
            )
            for own in result.sized
        ]
        found.append(_table(heads, rows))
    formulas = figures.unique(f"{own.formula} {own.metric}" for sweep in result.sweeps for own in sweep.predictions)
    if formulas:
        heads = ["typical error below the knee", "knee, requests/s", *formulas]
        rows = []
        for sweep in result.sweeps:
            errors = {f"{own.formula} {own.metric}": own.error for own in sweep.predictions}
            told = [f"{error:.0%}" if (error := errors.get(name)) is not None else "" for name in formulas]
            rows.append(_plain_row([f"{sweep.workload} {sweep.variant}", number(sweep.knee_rate), *told], heads))
        found.append(_table(heads, rows))
    return found


def worth(result: Result, order: Sequence[str]) -> list[str]:
    """The trade-off of the variants in words and measured figures, then what each costs at rates that were not run."""
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
        rows.append(_plain_row([f"{own.rate:,.0f}", *cells], heads))
    advice = "".join(f"<li>{escape(line)}</li>" for line in _advice(result))
    return [*found, f"<ul>{advice}</ul>" if advice else "", _table(heads, rows)]


def _trade_offs(result: Result, order: Sequence[str]) -> list[str]:
    told = [own for own in result.variants if own.complexity or own.best_for]
    index = Index.of(result)
    workload = next(iter(index.warm_workloads()), None)
    if not told or workload is None:
        return []
    heads = ["", "p50, ms", "p99, ms", "requests/s", "CPU per request, ms", "complexity", "best for"]
    rows = []
    for own in sorted(told, key=lambda own: order.index(own.name)):
        figures_of = [
            index.value(workload, own.name, metric) for metric in ("p50", "p99", "throughput", "cpu_per_request")
        ]
        cells = [number(row.value) if row else "" for row in figures_of]
        kinds = [*("" for _ in cells), "left", "left"]
        rows.append(_plain_row([f"{own.name} ({workload})", *cells, own.complexity, own.best_for], heads, kinds))
    return [_table(heads, rows)]


def _advice(result: Result) -> list[str]:
    """Rate by rate, from the figures: where the rate is low, nothing is to be had but latency."""
    variants = figures.unique(own.variant for own in result.worth)
    by_rate = {(own.rate, own.variant): own for own in result.worth}
    told = []
    for rate in figures.unique(own.rate for own in result.worth):
        old = by_rate.get((rate, variants[0]))
        for new in [by_rate[rate, name] for name in variants[1:] if (rate, name) in by_rate]:
            if old is None:
                continue
            name = next(iter(old.usd_per_month))
            saved = old.usd_per_month[name] - new.usd_per_month[name]
            told.append(
                f"At {rate:,.0f}/s {new.variant} saves {saved:,.2f} USD a month ({name}), "
                f"{old.connections - new.connections:,.0f} connections and {number(old.p50_ms - new.p50_ms)} ms of each "
                f"request against {old.variant}."
            )
    return told


def growth(result: Result, order: Sequence[str]) -> list[str]:
    del order
    if not result.growth:
        return []
    found = []
    for size_name in figures.unique(own.size_name for own in result.growth):
        own_rows = [own for own in result.growth if own.size_name == size_name]
        sizes = sorted({size for own in own_rows for size in own.sizes})
        heads = ["", *(f"{size:,.0f} {size_name}" for size in sizes), "fitted"]
        rows = []
        for own in own_rows:
            at = dict(zip(own.sizes, own.values, strict=True))
            cells = [f"{number(at[size])} {own.unit}" if size in at else "" for size in sizes]
            rows.append(_plain_row([f"{own.name}, {own.variant}", *cells, own.fitted], heads))
        found.append(_table(heads, rows))
    return found


def experiments(result: Result, order: Sequence[str]) -> list[str]:
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
        rows.append(_plain_row([one.name, *cells], heads, kinds))
    learned = [
        f"<div><h3>{escape(one.name)}</h3>{_facts(one.lessons)}</div>" for one in result.experiments if one.lessons
    ]
    return [_table(heads, rows), f'<div class="columns">{"".join(learned)}</div>' if learned else ""]


def noise(result: Result, order: Sequence[str]) -> list[str]:
    del order
    index = Index.of(result)
    metrics = figures.unique(row.metric for row in result.comparisons if row.same_variant)
    heads = ["", *(figures.TITLES.get(metric, metric) for metric in metrics)]
    rows = []
    for workload in index.warm_workloads():
        for pair in index.pairs(workload, same=True):
            found = [index.comparisons.get((workload, *pair, metric)) for metric in metrics]
            cells = "".join(_times(row, head) for row, head in zip(found, heads[1:], strict=True))
            rows.append(f"<tr><th>{escape(workload)} · {escape(pair[0])} against itself</th>{cells}</tr>")
    return [_table(heads, rows)] if rows else []


def check_text(check: Check) -> str:
    unit = f" {check.unit}" if check.unit not in ("", "1") else ""
    told = f"{check.name}: {number(check.figure)}{unit}, the limit is {number(check.limit)}{unit}"
    return f"{told}; {check.advice}" if check.advice and not check.passed else told


def run(result: Result, order: Sequence[str]) -> list[str]:
    """What was run, on what, and how to run it again."""
    del order
    found = []
    if result.validity.checks:
        heads = ["check", "figure", "limit", "unit", "verdict"]
        rows = [
            _plain_row(
                [own.name, number(own.figure), number(own.limit), own.unit, "passed" if own.passed else "failed"],
                heads,
                ["", "", "", "good" if own.passed else "bad"],
            )
            for own in result.validity.checks
        ]
        found.append(_table(heads, rows))
    found.append(f"<h3>To run it again</h3><pre>{escape(result.command)}</pre>")
    parts = {"Machine": result.machine, "Backing services": result.backing}
    parts |= {"Settings": result.settings, "Versions": result.versions}
    lists = "".join(f"<div><h3>{title}</h3>{_facts(facts)}</div>" for title, facts in parts.items() if facts)
    return [*found, f'<div class="columns">{lists}</div>']


def _facts(facts: Mapping[str, Any]) -> str:
    items = [(name.replace("_", " "), _fact(value)) for name, value in facts.items() if value is not None]
    items = [(name, text if len(text) <= FACT_MAX else "in the result file") for name, text in items]
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in items)}</dl>"


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_fact(own)}" for name, own in value.items() if name not in OF_THE_MOMENT)
    if isinstance(value, list | tuple):
        return ", ".join(_fact(own) for own in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
