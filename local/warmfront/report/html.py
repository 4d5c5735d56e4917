"""A result as one page of HTML that needs no network, and its pictures as PNG. Knows saved results only."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from warmfront.report import figures, tables
from warmfront.report.drawing import Picture
from warmfront.report.figures import Index, number
from warmfront.report.pictures import pictures, variant_order
from warmfront.report.theme import FOR_SVG, PALETTE, drawing, for_png, to_png, to_svg
from warmfront.results import Comparison, Result

HERE = Path(__file__).parent
TILES = ("p50", "p99", "throughput", "cpu_per_request", "memory_at_equal_load", "memory_peak", "cold_p50")


def render_html(result: Result) -> str:
    order = variant_order(result)
    drawn: dict[str, list[str]] = {}
    for picture in pictures(result):
        drawn.setdefault(picture.section, []).append(_figure(picture))
    sections = [_section(title, about, [*table(result, order), _figures(drawn.get(name, []))])
                for name, title, about, table in SECTIONS]  # fmt: skip
    page = Template((HERE / "page.html").read_text())
    title = f"Warmfront {result.kind}, {figures.day_and_time(result.created)}"
    body = "\n".join([_head(result), *(section for section in sections if section)])
    return page.substitute(title=escape(title), style=_style(), body=body)


def write_html(result: Result, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_html(result), encoding="utf-8")


def render_png(
    result: Result, directory: Path, *, dark: bool = False, only: Sequence[str] = (), dpi: int = 200
) -> list[Path]:
    """One file for each picture, named after it; `only` picks some by these names."""
    directory.mkdir(parents=True, exist_ok=True)
    theme = for_png(dark=dark)
    written = []
    for picture in pictures(result):
        if only and picture.name not in only:
            continue
        path = directory / f"{picture.name}.png"
        with drawing(theme, picture.name):
            path.write_bytes(to_png(picture.draw(theme), dpi))
        written.append(path)
    return written


def _figure(picture: Picture) -> str:
    with drawing(FOR_SVG, picture.name):
        svg = to_svg(picture.draw(FOR_SVG), escape(picture.title))
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f'<figure id="{escape(picture.name)}"><h3>{escape(picture.title)}</h3>{caption}{svg}</figure>'


def _figures(items: Sequence[str]) -> str:
    return f'<div class="figures">{"".join(items)}</div>' if items else ""


def _section(title: str, about: str, parts: Iterable[str]) -> str:
    shown = [part for part in parts if part]
    if not shown:
        return ""
    told = f"<p>{escape(about)}</p>" if about else ""
    return f"<section><h2>{escape(title)}</h2>{told}{''.join(shown)}</section>"


def _style() -> str:
    style = (HERE / "page.css").read_text()
    for place, name in enumerate(("LIGHT_PALETTE", "DARK_PALETTE")):
        style = style.replace(name, " ".join(f"--{role}: {pair[place]};" for role, pair in PALETTE.items()))
    return style


def _head(result: Result) -> str:
    index = Index.of(result)
    valid = (
        '<span class="badge good">valid run</span>'
        if result.validity.valid
        else '<span class="badge bad">not valid</span>'
    )
    lines = [
        f"<h1>Warmfront {escape(result.kind)} {valid}</h1>",
        f'<p class="muted">{escape(figures.day_and_time(result.created))} · {escape(figures.machine_line(result.machine))}</p>',
        _doubts(result),
        _tiles(index, result),
    ]
    return f"<header>{''.join(lines)}</header>"


def _doubts(result: Result) -> str:
    """What a reader must know before any figure."""
    failed = [check for check in result.validity.checks if not check.passed]
    items = [f'<li class="bad">{escape(tables.check_text(check))}</li>' for check in failed]
    items += [f"<li>{escape(warning)}</li>" for warning in result.warnings]
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _tiles(index: Index, result: Result) -> str:
    """The verdict in a few figures: the first workload, each variant against the first; a row for each."""
    rows = []
    for candidate in figures.unique(row.candidate for row in result.comparisons if not row.same_variant):
        tiles = []
        for metric in TILES:
            row = next((own for own in index.comparisons.values() if _is(own, metric, candidate)), None)
            if row is not None:
                tiles.append(_tile(row))
        rows.append(f'<div class="tiles">{"".join(tiles)}</div>' if tiles else "")
    return "".join(rows)


def _is(row: Comparison, metric: str, candidate: str) -> bool:
    return row.metric == metric and row.candidate == candidate and not row.same_variant


def _tile(row: Comparison) -> str:
    title = figures.TITLES.get(row.metric, row.metric)
    aim = f" · aim {figures.AIMS[row.metric]:.0f}×" if row.metric in figures.AIMS else ""
    kind = {"better": "good", "worse": "bad"}.get(row.verdict, "muted")
    return (
        f'<div class="tile"><span>{escape(title)}, {escape(row.workload)}</span><b class="{kind}">{number(row.ratio)}×</b>'
        f"<span>{number(row.low)} – {number(row.high)}{aim}</span>"
        f"<span>{escape(row.baseline)} {number(row.baseline_value)} → {escape(row.candidate)} {number(row.candidate_value)}"
        f" {escape(row.unit)}</span></div>"
    )


Table = Callable[[Result, Sequence[str]], list[str]]

ABOUT_VERDICT = (
    "Each figure with its 95 % interval (bootstrap over blocks). Ratios say how many times better, whatever the metric; green "
    "and red where the rounds' own ratios show it at 99 %. Grey: too few requests lie beyond this percentile to read it as one."
)
ABOUT_COLD = "A cold start is an invocation that had to wait for an init: never in one percentile with warm requests."
ABOUT_LOAD = "Open loop: requests are sent when they are due, however slow the answers are."
ABOUT_COST = (
    "The same requests, offered to each: environments are how many were under way at once, memory is what just so many held "
    "(proportional set size) with their Postgres backends, seconds are those of the REPORT lines, inits included."
)
ABOUT_WORTH = (
    "Worked out from unhurried requests: environments by the Poisson quantile at 99.9 %, a connection for each, Lambda alone "
    "without API Gateway and database. Service times are this machine's; on AWS they follow the function's memory."
)
ABOUT_NOISE = "What this machine cannot tell apart. A ratio nearer to 1 than this says nothing."

# name -> heading, what it shows, its tables; a section without data is left out.
SECTIONS: tuple[tuple[str, str, str, Table], ...] = (
    ("verdict", "Verdict", ABOUT_VERDICT, tables.verdict),
    ("latency", "Latency by percentile", "", tables.nothing),
    ("cold", "Cold starts", ABOUT_COLD, tables.cold),
    ("load", "Load and the knee", ABOUT_LOAD, tables.load),
    ("cost", "Cost at equal offered load", ABOUT_COST, tables.cost),
    ("worth", "When it is worth it", ABOUT_WORTH, tables.worth),
    ("growth", "Growth", "", tables.growth),
    ("lab", "Experiments", "Each fault must fail its control; a variant passes when it holds.", tables.experiments),
    ("time", "Through time", "", tables.nothing),
    ("noise", "Noise floor", ABOUT_NOISE, tables.noise),
    ("run", "The run", "", tables.run),
)
