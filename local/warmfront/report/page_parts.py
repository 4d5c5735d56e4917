"""What the page of a report is made of, as plain records: tables, lists, facts. The templates turn them into HTML."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a table. `kind`: a class of page.css, such as good, bad or doubt; `small`: its interval."""

    text: str = ""
    kind: str = ""
    small: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: its title, what stands small beside it, the place of its variant's colour, its cells."""

    title: str
    cells: Sequence[Cell]
    kind: str = ""
    note: str = ""
    above: str = ""
    swatch: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """`heads` begins with the head of the titles."""

    heads: Sequence[str]
    rows: Sequence[Row]
    part: str = "table"


@dataclass(frozen=True, slots=True)
class Facts:
    """Columns of names and values, each column under its heading."""

    columns: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    part: str = "facts"


@dataclass(frozen=True, slots=True)
class Lines:
    """Text: a list (`list`), a paragraph (`note`) or text as it stands (`pre`), perhaps under a heading."""

    lines: Sequence[str]
    part: str = "list"
    heading: str = ""


type Part = Table | Facts | Lines


def row_of(texts: Sequence[str], kinds: Sequence[str] = ()) -> Row:
    """A row of plain texts, the first of which is its title; a cell without text is left out on narrow screens."""
    first, *rest = texts
    kinds = kinds or [""] * len(rest)
    return Row(first, [Cell(text, kind if text else "none") for text, kind in zip(rest, kinds, strict=True)])
