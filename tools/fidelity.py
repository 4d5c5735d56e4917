"""Generate the fidelity table of docs/fidelity.md from the conformance cases and the rows beside them.

`python -m tools.fidelity` prints the table; `python -m tools.fidelity --write` puts it into the page. The emulator is not run.
"""

import argparse
import fnmatch
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools.blocks import replace_block

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "fidelity.md"
BLOCK: Final = "fidelity"
TESTS: Final = Path("tests/emulator")
CASES: Final = TESTS / "cases"
SOURCES_SHOWN: Final = 2
STATUSES: Final = ("emulated", "simplified", "absent")


@dataclass(frozen=True, slots=True)
class Case:
    """The fields of a conformance case that the table shows."""

    id: str
    behaviour: str
    status: str
    confirmed: bool
    source: str
    file: Path


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `file` is where its cases are, relative to the repository's root."""

    behaviour: str
    status: str
    cases: int
    confirmed: int
    sources: tuple[str, ...]
    file: Path

    def cells(self) -> tuple[str, ...]:
        absent = self.status == "absent"
        cases = "" if absent else f"[{self.cases}](../{self.file})"
        confirmed = (
            "yes" if self.confirmed == self.cases else f"{self.confirmed} of {self.cases}" if self.confirmed else "no"
        )
        return self.behaviour, self.status, cases, "" if absent else confirmed, _sources(self.sources)


def _read(path: Path) -> Any:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def read_cases() -> list[Case]:
    """Read every conformance case. A case about how a handler ended counts once per kind of API it runs behind."""
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
    """Yield a row for each group and status.

    Raises:
        ValueError: a case belongs to no group, or a group has no case.
    """
    members: dict[int, list[Case]] = {index: [] for index in range(len(groups))}
    for case in cases:
        members[_group_of(case, groups)].append(case)
    for index, group in enumerate(groups):
        if not members[index]:
            raise ValueError(f"no case is of the group {group['behaviour']!r}")
        for status in STATUSES:
            if chosen := [case for case in members[index] if case.status == status]:
                yield _row(group["behaviour"], status, chosen)


def _group_of(case: Case, groups: Sequence[dict[str, Any]]) -> int:
    """The index of the group with the longest matching pattern, which is the most specific one."""
    matches = [
        (len(pattern), index)
        for index, group in enumerate(groups)
        for pattern in group["cases"]
        if fnmatch.fnmatchcase(case.id, pattern)
    ]
    if not matches:
        raise ValueError(f"{case.id} is of no group in {CASES}/rows/gateway.json")
    return max(matches)[1]


def _row(behaviour: str, status: str, cases: Sequence[Case]) -> Row:
    if status != "emulated":  # a difference from AWS is described by its own sentence, not by the group's
        about = behaviour.partition(":")[0]
        behaviour = f"{about}: {'; '.join(case.behaviour for case in cases)}"
    sources = [source for source, _ in Counter(case.source for case in cases).most_common()]
    file = Counter(case.file for case in cases).most_common(1)[0][0]
    return Row(behaviour, status, len(cases), sum(case.confirmed for case in cases), tuple(sources), file)


def service_rows() -> Iterator[Row]:
    """Yield the Lambda service's rows, which are checked by ordinary tests instead of conformance cases."""
    for row in _read(CASES / "rows" / "lambda_service.json"):
        tests = row.get("tests", [])
        file = TESTS / tests[0].partition("::")[0] if tests else TESTS
        yield Row(row["behaviour"], row["status"], len(tests), len(tests) * row["confirmed"], (row["source"],), file)


def _sources(sources: Sequence[str]) -> str:
    """The most frequent sources, AWS's pages as links."""
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
    """Return the table in Markdown, behaviours that are emulated first, absent ones last."""
    head = ("behaviour", "here", "cases", "confirmed", "source")
    rows = read_rows()
    lines = [_line(head), _line(["---"] * len(head))]
    lines += [_line(row.cells()) for status in STATUSES for row in rows if row.status == status]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.fidelity", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/fidelity.md")
    table = render()
    if parser.parse_args().write:
        PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), BLOCK, table), encoding="utf-8")
    else:
        print(table)


if __name__ == "__main__":
    main()
