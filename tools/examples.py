"""Generate the example outputs in README.md and docs/benchmarking.md from docs/examples/bench.json.

After a new run: copy its result there, then `python -m tools.examples --write` and `make pictures`.
"""

import argparse
import io
from pathlib import Path
from typing import Final

from warmfront.report.terminal import render
from warmfront.report.verdict import show_verdict
from warmfront.results import read_result

from tools.blocks import replace_block

ROOT: Final = Path(__file__).parents[1]
EXAMPLE: Final = ROOT / "docs" / "examples" / "bench.json"


def verdict() -> str:
    """Return the verdict screen of the example, as `make bench` prints it. Raises ValueError if it has none."""
    stream = io.StringIO()
    if not show_verdict(read_result(EXAMPLE), stream, path="results/bench.json", colour=False):
        raise ValueError(f"{EXAMPLE} has no verdict: save the result of `make bench` or `make bench-full` there")
    return _stripped(stream.getvalue())


def tables() -> str:
    """Return all tables of the example, as `warmfront report --details` prints them."""
    return _stripped(render(read_result(EXAMPLE)))


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


# Page -> block -> its content.
BLOCKS: Final = {
    ROOT / "README.md": {"verdict": verdict},
    ROOT / "docs" / "benchmarking.md": {"bench-table": tables},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.examples", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the outputs into their pages")
    write = parser.parse_args().write
    for page, blocks in BLOCKS.items():
        for name, content in blocks.items():
            block = f"```\n{content()}\n```"
            if write:
                page.write_text(replace_block(page.read_text(encoding="utf-8"), name, block), encoding="utf-8")
            else:
                print(block)


if __name__ == "__main__":
    main()
