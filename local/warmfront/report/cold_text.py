"""Prints a result of `warmfront cold`: ways to start side by side, the stages of a first invocation, the tree of imports."""

from collections.abc import Sequence

from warmfront.report import figures
from warmfront.report.figures import Index, number
from warmfront.results import Anatomy, Cold, Comparison, ImportNode, Result, Summary

WHOLE = "spawn_to_first_byte"
INIT = ("process_start", "runtime_client", "imports", "restore", "runtime", "init")
AHEAD = ("provisioned", "managed")
TITLES = {
    "process_start": "process start",
    "runtime_client": "runtime client",
    "imports": "imports and module code",
    "restore": "after-restore hooks",
    "runtime": "to the first /next",
    "init": "init",
    "dispatch": "event handed over",
    "secret": "secret",
    "connect": "connect",
    "authentication": "authentication",
    "prepare": "first prepare",
    "query": "first query",
    "handler": "handler itself",
    "answer": "answer to first byte",
}
BAR = 40
LINES_MAX = 26
SMALLEST_SHARE = 0.015
NAME, COLUMN = 62, 11


def title(stage: str) -> str:
    return TITLES.get(stage, stage.replace("_", " "))


def sections(result: Result) -> list[list[str]]:
    """Return the sections in reading order, without those that were not measured."""
    index = Index.of(result)
    return [
        ways_table(result, index),
        *(stage_lines(result, index, cold) for cold in result.cold),
        *(anatomy_lines(anatomy) for anatomy in result.anatomies),
        verdict_lines(result, index),
        thaw_table(result, index),
        ramp_table(result, index),
    ]


# Ways side by side


def ways_table(result: Result, index: Index) -> list[str]:
    """Return a table by function and way: how long the first caller waits, and the next one."""
    heads = ("n", "p50", "[95 %]", "p95", "ready", "init", "connect", "query", "warm p50", "[95 %]")
    widths = (5, 9, 15, 8, 8, 8, 9, 8, 10, 14)
    line = "first byte, ms".ljust(26) + "".join(head.rjust(width) for head, width in zip(heads, widths, strict=True))
    lines = [line]
    for cold in result.cold:
        cells = [
            f"{cold.n}",
            *_cold_cells(index, cold),
            *_warm_cells(index.value(f"warm {cold.way}", cold.variant, "p50")),
        ]
        name = f"{cold.variant[:12]} {cold.way}".ljust(26)
        lines.append(name + "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))
    if any(cold.way in AHEAD for cold in result.cold):
        lines.append("(ready ahead of the event: provisioned and managed; their first byte is counted from the event)")
    return lines


def _workload(cold: Cold) -> str:
    return "cold" if cold.way == "on-demand" else f"cold {cold.way}"


def _cold_cells(index: Index, cold: Cold) -> list[str]:
    def of(metric: str) -> Summary | None:
        return index.value(_workload(cold), cold.variant, metric)

    whole = of("cold_p50")
    connect = [of(f"cold_p50/{stage}") for stage in ("connect", "authentication")]
    query = [of(f"cold_p50/{stage}") for stage in ("prepare", "query")]
    return [
        _number(whole),
        _interval(whole),
        _number(of("cold_p95")),
        _number(index.value(f"ready {cold.way}", cold.variant, "p50")),
        _number(of("cold_p50/init")),
        _sum(connect),
        _sum(query),
    ]


def _warm_cells(row: Summary | None) -> list[str]:
    return [_number(row), _interval(row)]


def _number(row: Summary | None) -> str:
    return number(row.value) if row is not None else "-"


def _sum(rows: Sequence[Summary | None]) -> str:
    known = [row.value for row in rows if row is not None]
    return number(sum(known)) if known else "-"


def _interval(row: Summary | None) -> str:
    if row is None or row.low is None or row.high is None:
        return "-"
    return f"[{number(row.low)}, {number(row.high)}]"


# Stages


def stages_of(index: Index, cold: Cold) -> list[tuple[str, float]]:
    """Return (stage, median in ms) in chronological order."""
    names = figures.unique(name for sample in cold.samples for name in sample if name != WHOLE)
    ordered = [name for name in TITLES if name in names] + [name for name in names if name not in TITLES]
    rows = [(name, index.value(_workload(cold), cold.variant, f"cold_p50/{name}")) for name in ordered]
    return [(name, row.value) for name, row in rows if row is not None]


def stage_lines(result: Result, index: Index, cold: Cold) -> list[str]:
    """Return lines with the median of each stage of a first invocation and a bar."""
    stages = stages_of(index, cold)
    row = index.value(_workload(cold), cold.variant, "cold_p50")
    whole = row.value if row is not None else 0.0
    about = next((each.description for each in result.variants if each.name == cold.variant), "")
    lines = [f"{cold.variant}, {cold.way}: {about}", f"  {'p50 of ' + str(cold.n):<28}{'ms':>8}"]
    ready = False
    for name, value in stages:
        if not ready and name not in INIT and any(stage in INIT for stage, _ in stages):
            ready = True
            lines.append(_stage("ready", sum(v for n, v in stages if n in INIT), None))
        lines.append(
            _stage("fork" if (name, cold.way) == ("process_start", "snap-start") else title(name), value, whole)
        )
    bare = index.comparisons.get(("interpreter", cold.variant, "python -c pass", "cold_p50"))
    against = f"  {figures.times(bare)} x `python -c pass` ({number(bare.candidate_value)} ms)" if bare else ""
    name = "event to first byte" if cold.way in AHEAD else "spawn to first byte"
    lines.append(_stage(name, whole, None) + (against if cold.way == "on-demand" else ""))
    warm = index.value(f"warm {cold.way}", cold.variant, "p50")
    if warm is not None:
        invoke = sum(value for stage, value in stages if stage not in INIT)
        more = f"  the first invocation by itself takes {number(max(0.0, invoke - warm.value))} ms more"
        lines.append(_stage("a warm invocation", warm.value, None) + more)
    return lines


def _stage(name: str, value: float, whole: float | None) -> str:
    bar = "█" * round(BAR * value / whole) if whole else ""
    return f"  {name:<28}{number(value):>8}  {bar}".rstrip()


# Imports


def anatomy_lines(anatomy: Anatomy) -> list[str]:
    """Return the tree of imports as lines; small branches share one line."""
    what = f"imports of {anatomy.function}, {anatomy.n_modules} modules"
    lines = [what.ljust(NAME) + "".join(head.rjust(COLUMN) for head in ("self ms", "with below", "modules", "MB"))]
    whole = sum(node.cumulative_ms for node in anatomy.imports)
    smallest = SMALLEST_SHARE * whole
    while len(found := _tree(anatomy.imports, smallest)) > LINES_MAX:
        smallest *= 1.25
    lines += found
    lines.append(
        f"  (median of {anatomy.runs} inits with traced imports, which are slower than those above;"
        f" the function's own module-level code {number(anatomy.module_code_ms)} ms)"
    )
    if anatomy.spans:
        lines.append("  first invocation, from its first wait on:")
        lines += [
            f"    {number(span.at_ms):>7} ms  {'  ' * span.depth}{span.name} {number(span.ms)} ms {span.detail}".rstrip()
            for span in anatomy.spans
            if span.depth < 3
        ]
    lines.append(advice_line(anatomy))
    return lines


def _tree(nodes: Sequence[ImportNode], smallest: float) -> list[str]:
    lines: list[str] = []
    for node in nodes:
        lines.append(_tree_line(node.name, node, ""))
        lines += _branches(node, smallest, "")
    return lines


def _branches(node: ImportNode, smallest: float, indent: str) -> list[str]:
    shown = [child for child in node.children if child.cumulative_ms >= smallest]
    rest = [child for child in node.children if child.cumulative_ms < smallest]
    lines: list[str] = []
    for place, child in enumerate(shown):
        last = place == len(shown) - 1 and not rest
        lines.append(_tree_line(f"{indent}{'└─ ' if last else '├─ '}{child.name}", child, ""))
        lines += _branches(child, smallest, indent + ("   " if last else "│  "))
    if rest:
        total = sum(child.cumulative_ms for child in rest)
        lines.append(f"{indent}└─ {len(rest)} smaller".ljust(NAME) + " " * COLUMN + number(total).rjust(COLUMN))
    return lines


def _tree_line(name: str, node: ImportNode, note: str) -> str:
    cells = (number(node.self_ms), number(node.cumulative_ms), f"{node.modules}", number(node.memory_kb / 1024))
    return name[: NAME - 1].ljust(NAME) + "".join(cell.rjust(COLUMN) for cell in cells) + note


def advice_line(anatomy: Anatomy) -> str:
    advice = anatomy.advice
    if advice is None:
        return f"{anatomy.function} has no import that it could leave out"
    where = ", ".join(advice.imported_by[:3]) or "by a name made at run time"
    return (
        f"look first at {advice.package} ({where}): {number(advice.cumulative_ms)} ms with all it needs; an init without"
        f" it saves {number(advice.saves_ms)} ms, {advice.saves_modules} modules and"
        f" {number(advice.saves_memory_kb / 1024)} MB that nothing else asks for"
    )


# In one line each


def verdict_lines(result: Result, index: Index) -> list[str]:
    lines = []
    crowd = result.settings.get("crowd", 0)
    for (workload, baseline, candidate, metric), row in index.comparisons.items():
        kind, _, function = workload.partition(" ")
        if kind == "interpreter" and metric == "cold_p50":
            lines.append(f"{row.baseline}: spawn to first byte is {figures.times(row)} times `python -c pass`")
        if kind == "way" and metric == "cold_p50/ready" and candidate not in AHEAD:
            lines.append(f"{function}: ready {figures.times(row)} times sooner by {candidate}, {_from_to(row)}")
        if kind == "way" and metric == "cold_p50":
            lines.append(f"{function}: first byte {figures.times(row)} times sooner by {candidate}, {_from_to(row)}")
        if kind == "crowd" and metric == "ready":
            text = f"{figures.times(row)} times sooner by {candidate}, {_from_to(row)}"
            lines.append(f"{function}: {crowd} environments ready {text}")
        if kind == "crowd" and metric == "memory":
            share = row.candidate_value / row.baseline_value
            text = f"{number(row.baseline_value / 2**20)} -> {number(row.candidate_value / 2**20)} MB PSS"
            lines.append(f"{function}: they hold {share:.3f} of the memory of {baseline}, {text}")
    return lines


def _from_to(row: Comparison) -> str:
    return f"{number(row.baseline_value)} -> {number(row.candidate_value)} {row.unit}"


def thaw_table(result: Result, index: Index) -> list[str]:
    """Return a table of the first invocation after a pause beside a warm one."""
    found = figures.unique(row.workload for row in result.summaries if row.workload.startswith("thaw "))
    if not found:
        return []
    pauses = figures.unique(workload.split(" ", 2)[2] for workload in found)
    lines = ["first after a thaw, ms".ljust(26) + "warm p50".rjust(10) + "".join(each.rjust(36) for each in pauses)]
    for cold in result.cold:
        warm = index.value(f"warm {cold.way}", cold.variant, "p50")
        line = f"{cold.variant[:12]} {cold.way}".ljust(26) + _number(warm).rjust(10)
        for pause in pauses:
            row = index.value(f"thaw {cold.way} {pause}", cold.variant, "p50")
            text = f"{_number(row)} {_interval(row)} n={row.n}" if row else "-"
            line += text.rjust(36)
        lines.append(line)
    return lines


def ramp_table(result: Result, index: Index) -> list[str]:
    found = [row for row in result.summaries if row.workload.startswith("ramp ")]
    if not found:
        return []
    heads = {
        "time to all warm": "warm, s",
        "environments": "started",
        "requests": "requests",
        "delayed": "delayed",
        "errors": "errors",
        "p99 in the ramp": "p99 ramp",
        "p99 after it": "p99 after",
        "connections opened per second, most": "conns/s",
        "memory, most": "MB",
    }
    lines = ["0 to 50 callers at once".ljust(26) + "".join(each.rjust(10) for each in heads.values())]
    for workload, variant in figures.unique((row.workload, row.variant) for row in found):
        cells = [_number(index.value(workload, variant, metric)) for metric in heads]
        lines.append(f"{variant[:12]} {workload.removeprefix('ramp ')}".ljust(26) + "".join(c.rjust(10) for c in cells))
    return lines
