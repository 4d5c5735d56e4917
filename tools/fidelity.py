"""The README's fidelity table, made of the golden cases and the rows beside them. Runs nothing of the emulator.

`python -m tools.fidelity` prints the table; `python -m tools.fidelity --write` puts it into README.md.
"""

import argparse
import fnmatch
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
TESTS: Final = Path("tests/emulator")
CASES: Final = TESTS / "cases"
START, END = "<!-- fidelity -->", "<!-- /fidelity -->"
SOURCES_SHOWN: Final = 2
ORDER: Final = ("emulated", "simplified", "absent")


@dataclass(frozen=True, slots=True)
class Case:
    """What the table wants of a golden case."""

    id: str
    behaviour: str
    status: str
    confirmed: bool
    source: str
    file: Path


@dataclass(frozen=True, slots=True)
class Row:
    behaviour: str
    status: str
    cases: int
    confirmed: int
    sources: tuple[str, ...]
    file: Path
    """Where the cases are."""

    def cells(self) -> tuple[str, ...]:
        absent = self.status == "absent"
        cases = "" if absent else f"[{self.cases}]({self.file})"
        known = (
            "yes" if self.confirmed == self.cases else f"{self.confirmed} of {self.cases}" if self.confirmed else "no"
        )
        return self.behaviour, self.status, cases, "" if absent else known, _sources(self.sources)


def _read(path: Path) -> Any:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def read_cases() -> list[Case]:
    """All cases: the gateway's, and those of ends of handlers, of which each is one case per kind of API."""
    found = []
    for path in sorted((ROOT / CASES).glob("*.json")):
        file = path.relative_to(ROOT)
        found += [
            Case(case["id"], case["behaviour"], case["status"], case["confirmed"], case["source"], file)
            for case in _read(file)
        ]
    for path in sorted((ROOT / CASES / "processes").glob("*.json")):
        file = path.relative_to(ROOT)
        document = _read(file)
        found += [
            Case(
                f"processes-{case['id']}-{kind}", case["behaviour"], "emulated", kind in case["confirmed"], source, file
            )
            for case in document["cases"]
            for kind, source in document["sources"].items()
        ]
    return found


def gateway_rows(groups: Sequence[dict[str, Any]], cases: Iterable[Case]) -> Iterator[Row]:
    """A row for each group and status. Raises ValueError for a case of no group and for a group without cases."""
    members: dict[int, list[Case]] = {index: [] for index in range(len(groups))}
    for case in cases:
        members[_group_of(case, groups)].append(case)
    for index, group in enumerate(groups):
        if not members[index]:
            raise ValueError(f"no case is of the group {group['behaviour']!r}")
        for status in ORDER:
            if chosen := [case for case in members[index] if case.status == status]:
                yield _row(group["behaviour"], status, chosen)


def _group_of(case: Case, groups: Sequence[dict[str, Any]]) -> int:
    """The group whose pattern is the longest of those that fit: the most specific one."""
    fits = [
        (len(pattern), index)
        for index, group in enumerate(groups)
        for pattern in group["cases"]
        if fnmatch.fnmatchcase(case.id, pattern)
    ]
    if not fits:
        raise ValueError(f"{case.id} is of no group in {CASES}/rows/gateway.json")
    return max(fits)[1]


def _row(behaviour: str, status: str, cases: Sequence[Case]) -> Row:
    if status != "emulated":  # each of these is worth its sentence
        about = behaviour.partition(":")[0]
        behaviour = f"{about}: {'; '.join(case.behaviour for case in cases)}"
    sources = [source for source, _ in Counter(case.source for case in cases).most_common()]
    file = Counter(case.file for case in cases).most_common(1)[0][0]
    return Row(behaviour, status, len(cases), sum(case.confirmed for case in cases), tuple(sources), file)


def service_rows() -> Iterator[Row]:
    """The Lambda service's rows: what holds each is a test, not a golden case."""
    for row in _read(CASES / "rows" / "lambda_service.json"):
        tests = row.get("tests", [])
        file = TESTS / tests[0].partition("::")[0] if tests else TESTS
        yield Row(row["behaviour"], row["status"], len(tests), len(tests) * row["confirmed"], (row["source"],), file)


def _sources(sources: Sequence[str]) -> str:
    """The first few, AWS's pages as links."""
    shown = [_link(source) for source in sources[:SOURCES_SHOWN]]
    more = len(sources) - len(shown)
    return "; ".join(shown) + (f" and {more} more" if more else "")


def _link(source: str) -> str:
    address, _, rest = source.partition(" ")
    if not address.startswith("docs.aws.amazon.com/"):
        return source
    page = address.rpartition("/")[2].partition("#")[0].removesuffix(".html")
    return f"[{page}](https://{address}){' ' + rest if rest else ''}"


def read_rows() -> list[Row]:
    return [*gateway_rows(_read(CASES / "rows" / "gateway.json"), read_cases()), *service_rows()]


def render() -> str:
    """The table in Markdown."""
    head = ("behaviour", "here", "cases", "confirmed", "source")
    rows = read_rows()
    lines = [_line(head), _line(["---"] * len(head))]
    lines += [_line(row.cells()) for status in ORDER for row in rows if row.status == status]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def put_into(text: str, table: str) -> str:
    """The README with this table between its markers. Raises ValueError where they are missing."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"README.md needs the lines {START} and {END}")
    return f"{before}{start}\n{table}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.fidelity", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    table = render()
    if parser.parse_args().write:
        README.write_text(put_into(README.read_text(encoding="utf-8"), table), encoding="utf-8")
    else:
        print(table)


if __name__ == "__main__":
    main()
