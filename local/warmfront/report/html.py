"""A result as one page of HTML that needs no network, and its pictures as PNG."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from warmfront.report import figures, tables
from warmfront.report.drawing import Picture
from warmfront.report.figures import number
from warmfront.report.page_parts import Part
from warmfront.report.pictures import pictures, variant_order
from warmfront.report.theme import FOR_SVG, PALETTE, drawing, for_png, to_png, to_svg
from warmfront.report.verdict import verdict_of
from warmfront.results import Result

HERE = Path(__file__).parent


def render_html(result: Result) -> str:
    """The page: its head with the verdict, then every section that this result has something for."""
    order = variant_order(result)
    drawn: dict[str, list[_Drawn]] = {}
    for picture in pictures(result):
        drawn.setdefault(picture.section, []).append(_drawn(picture))
    sections = [
        {"title": title, "about": about, "parts": table(result, order), "figures": drawn.get(name, [])}
        for name, title, about, table in SECTIONS
    ]
    return (
        _templates()
        .get_template("page.html")
        .render(
            title=f"Warmfront {result.kind}, {figures.day_and_time(result.created)}",
            style=Markup(_style()),
            result=result,
            created=figures.day_and_time(result.created),
            machine=figures.machine_line(result.machine),
            failed=[tables.check_text(check) for check in result.validity.checks if not check.passed],
            verdict=verdict_of(result),
            sections=[each for each in sections if each["parts"] or each["figures"]],
        )
    )


@functools.cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    return environment


def write_html(result: Result, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_html(result), encoding="utf-8")


def render_png(
    result: Result, directory: Path, *, dark: bool = False, only: Sequence[str] = (), dpi: int = 200
) -> list[Path]:
    """Write each picture as a PNG file that is named after it; `only` selects pictures by name."""
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


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A picture of the page: its SVG is markup, its title and caption are text."""

    name: str
    title: str
    caption: str
    svg: Markup


def _drawn(picture: Picture) -> _Drawn:
    with drawing(FOR_SVG, picture.name):
        svg = to_svg(picture.draw(FOR_SVG), str(escape(picture.title)))
    return _Drawn(picture.name, picture.title, picture.caption, Markup(svg))


def _style() -> str:
    style = (HERE / "page.css").read_text()
    for place, name in enumerate(("LIGHT_PALETTE", "DARK_PALETTE")):
        style = style.replace(name, " ".join(f"--{role}: {pair[place]};" for role, pair in PALETTE.items()))
    return style


Tables = Callable[[Result, Sequence[str]], list[Part]]

ABOUT_VERDICT = (
    "Each figure with its 95 % interval (bootstrap over blocks). Ratios say how many times better, for every metric; green "
    "and red if the ratios of the rounds show it at 99 %. Grey: too few requests lie beyond this percentile to rely on it."
)
ABOUT_COLD = (
    "A cold start is an invocation that had to wait for an init. Cold and warm requests never share a percentile."
)
ABOUT_LOAD = "Open loop: requests are sent at their due times, however slow the responses are."
ABOUT_COST = (
    "Every variant gets the same rate of requests. Environments: how many invocations were in progress at once. Memory: what that "
    "many environments hold (proportional set size) with their Postgres backends. Seconds: from REPORT lines, inits included."
)
ABOUT_WORTH = (
    "Calculated from requests at a low rate: environments by the Poisson quantile at 99.9 %, a connection for each, Lambda alone "
    "without API Gateway and database. Service times are this machine's; on AWS they follow the function's memory."
)
ABOUT_NOISE = "What this machine cannot distinguish. A ratio nearer to 1 than this says nothing."

# name -> heading, description, tables; a section without data is left out.
SECTIONS: tuple[tuple[str, str, str, Tables], ...] = (
    ("verdict", "Requests", ABOUT_VERDICT, tables.verdict),
    ("latency", "Latency by percentile", "", tables.nothing),
    ("cold", "Cold starts", ABOUT_COLD, tables.cold),
    ("load", "Load and the knee", ABOUT_LOAD, tables.load),
    ("cost", "Cost at equal offered load", ABOUT_COST, tables.cost),
    ("worth", "When it is worth it", ABOUT_WORTH, tables.worth),
    ("growth", "Growth", "", tables.growth),
    ("lab", "Experiments", "The control must fail under each fault; a variant passes if it holds.", tables.experiments),
    ("time", "Through time", "", tables.nothing),
    ("noise", "Noise floor", ABOUT_NOISE, tables.noise),
    ("run", "The run", "", tables.run),
)
