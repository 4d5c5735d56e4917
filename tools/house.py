"""Prints the size of every sub-package: modules, lines, median and longest module, import cycles.

`python -m tools.house` prints the table; tests/architecture holds the limits.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

ROOT: Final = Path(__file__).parents[1]
TOPS: Final = ("local/warmfront", "shared", "functions", "tools")
LINES_MAX: Final = 400
MEDIAN_MAX: Final = 150
SKIPPED: Final = {"__pycache__", "node_modules"}


@dataclass(frozen=True, slots=True)
class Package:
    """The modules that lie directly in one folder, with their line counts."""

    folder: Path
    modules: dict[str, int]

    @property
    def lines(self) -> int:
        return sum(self.modules.values())

    @property
    def longest(self) -> tuple[str, int]:
        return max(self.modules.items(), key=lambda item: item[1])


def packages(root: Path = ROOT, tops: Sequence[str] = TOPS) -> list[Package]:
    """Every folder below `tops` that holds Python modules, in order of its path."""
    found: dict[Path, dict[str, int]] = {}
    for top in tops:
        for path in sorted((root / top).rglob("*.py")):
            if not SKIPPED & set(path.parts):
                lines = len(path.read_text(encoding="utf-8").splitlines())
                found.setdefault(path.parent.relative_to(root), {})[path.name] = lines
    return [Package(folder, modules) for folder, modules in sorted(found.items())]


def line_counts(found: Sequence[Package]) -> list[int]:
    """Line counts of all modules that hold code; empty `__init__` modules are left out."""
    return [count for package in found for count in package.modules.values() if count]


def render(found: Sequence[Package]) -> str:
    """The table, a line for each package, and the totals."""
    width = max(len(str(package.folder)) for package in found) + 2
    lines = [f"{'package':<{width}}{'modules':>8}{'lines':>8}  longest"]
    for package in found:
        name, most = package.longest
        lines.append(f"{package.folder!s:<{width}}{len(package.modules):>8}{package.lines:>8}  {name} {most}")
    counts = line_counts(found)
    over = sum(count > LINES_MAX for count in counts)
    lines.append(
        f"{len(counts)} modules, {sum(counts):,} lines; median {median(counts):.0f} (at most {MEDIAN_MAX}), "
        f"longest {max(counts)}, {over} over {LINES_MAX}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    print(render(packages()))
    sys.exit(any(count > LINES_MAX for count in line_counts(packages())))
