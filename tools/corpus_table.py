"""Writes the table of tried templates in docs/your-own-template.md from tests/emulator/corpus.

.venv/bin/python -m tools.corpus_table
"""

import json
from collections import Counter
from pathlib import Path

from warmfront.emulator.template import load_template

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "tests" / "emulator" / "corpus"
PAGE = ROOT / "docs" / "your-own-template.md"
BEGIN, END = "<!-- corpus -->\n", "<!-- end of corpus -->\n"


def table() -> str:
    """A row for each template: its resources by type, and what is tried."""
    rows = ["| template | resources | tried |", "|---|---|---|"]
    for trial in sorted(CORPUS.glob("*/try.json")):
        found = next(path for path in sorted(trial.parent.glob("template.*")) if path.suffix in (".yaml", ".json"))
        template = load_template(found)
        kinds = Counter(
            kind.partition("::")[2] for kind in (*template.resource_types.values(), *template.nested_types.values())
        )
        shown = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in sorted(kinds.items()))
        rows.append(f"| `{trial.parent.name}` | {shown} | {_tried(json.loads(trial.read_text()))} |")
    return "\n".join(rows) + "\n"


def _tried(steps: list[dict[str, object]]) -> str:
    names = {"request": "request", "invoke": "invocation", "later": "asynchronous invocation", "call": "AWS call"}
    counts = Counter(name for step in steps for key, name in names.items() if key in step)
    return ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items())


def with_table(page: str) -> str:
    """The page with today's table between its marks."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
