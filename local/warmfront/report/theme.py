"""Colours of the pictures, and their rendering as SVG or PNG."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# role -> (light, dark). Variants have Okabe and Ito's hues, which colour-blind readers can distinguish; lighter when dark.
PALETTE = {
    "ink": ("#1d2430", "#e6e9ef"),
    "muted": ("#667085", "#98a2b3"),
    "grid": ("#e3e6eb", "#333b48"),
    "paper": ("#ffffff", "#161b22"),
    "v0": ("#c2500a", "#ff9552"),
    "v1": ("#0072b2", "#63b8f0"),
    "v2": ("#00815e", "#34cfa4"),
    "v3": ("#a1447a", "#e39ac4"),
    "v4": ("#7a6a00", "#e3cf3f"),
    "v5": ("#5b5fc7", "#a5a8ff"),
    "fault": ("#d92d20", "#ff7a70"),
    "breaker": ("#b7791f", "#f5b83d"),
    "part0": ("#475467", "#98a2b3"),
    "part1": ("#3b7fc4", "#6ab0f3"),
    "part2": ("#2f9e79", "#43cfa0"),
    "part3": ("#c2410c", "#ff9552"),
    "part4": ("#8a4fbe", "#c39af0"),
    "part5": ("#b08900", "#e3c33f"),
}
VARIANT_COLOURS = 6
PART_COLOURS = 6
# Pictures are drawn with a placeholder colour per role (#5eed...), which SVG output replaces by a CSS variable.
SENTINEL = {role: f"#5eed{place:02x}" for place, role in enumerate(PALETTE)}
# Close to the width of a phone, so that text keeps its size there; a wide page shows two side by side.
WIDTH_IN = 5.2

_SETTINGS: dict[str, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ in a name is a $
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
}


class Theme:
    """Role -> colour for one rendering: placeholders for SVG, real colours for PNG."""

    def __init__(self, colours: dict[str, str]) -> None:
        self._colours = colours

    def __getitem__(self, role: str) -> str:
        return self._colours[role]

    def variant(self, place: int) -> str:
        return self._colours[f"v{place % VARIANT_COLOURS}"]

    def part(self, place: int) -> str:
        return self._colours[f"part{place % PART_COLOURS}"]


FOR_SVG = Theme(SENTINEL)


def for_png(*, dark: bool) -> Theme:
    return Theme({role: pair[dark] for role, pair in PALETTE.items()})


@contextmanager
def drawing(theme: Theme, salt: str) -> Iterator[None]:
    """Set matplotlib up for drawing and writing a picture. The salt makes ids unique among the pictures of a page."""
    ink, muted, grid = theme["ink"], theme["muted"], theme["grid"]
    colours: dict[str, Any] = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": muted,
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "grid.color": grid,
        "figure.facecolor": theme["paper"],
        "axes.facecolor": "none",
        "svg.hashsalt": salt,
    }
    settings: Any = _SETTINGS | colours  # the stubs want a literal type of all keys
    with mpl.rc_context(settings):
        yield


def sheet(rows: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty picture, `rows` inches high, with its panels below each other."""
    figure = Figure(figsize=(WIDTH_IN, rows))
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
    for one in axes:
        one.grid(True, linewidth=0.6)
        one.set_axisbelow(True)
    return figure, list(axes)


def to_svg(figure: Figure, label: str) -> str:
    """Return the picture as inline SVG whose colours follow the page's."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"(\.\d\d)\d+", r"\1", text)
    # The page's own font. The layout was measured with DejaVu Sans, which is wider than any of them.
    text = re.sub(r"font: (\S+) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    text = _without_idle_ids(text)
    for role, colour in SENTINEL.items():
        text = text.replace(colour, f"var(--{role})")
    head, rest = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None, "matplotlib writes a viewBox"
    opening = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box.group()} role="img" aria-label="{label}"'
    return re.sub(r"\s*\n\s*", "\n", f"{opening}>{rest}").strip()


def _without_idle_ids(text: str) -> str:
    """Remove ids such as `figure_1`, which repeat among the pictures of a page and are not referred to."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    return re.sub(r' id="([^"]+)"', lambda found: found.group() if found[1] in used else "", text)


def to_png(figure: Figure, dpi: int = 200) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
