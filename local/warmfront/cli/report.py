"""`warmfront report`: shows a saved result in the terminal, or writes it as an HTML page or PNG pictures."""

import argparse
import sys
from pathlib import Path

from warmfront.report import terminal
from warmfront.report.colour import wants_colour
from warmfront.report.verdict import show_verdict
from warmfront.results import Result, ResultError, read_result

RESULTS = Path("results")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "result", nargs="?", type=Path, metavar="FILE", help=f"result file (default: the newest in {RESULTS}/)"
    )
    parser.add_argument(
        "--html",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FILE",
        help="write a self-contained HTML page (default: next to the result)",
    )
    parser.add_argument("--details", action="store_true", help="print all tables of a benchmark instead of its verdict")
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="write every picture as PNG")
    parser.add_argument(
        "--pictures", default="", metavar="NAME,...", help="write only these PNGs, such as knee or percentiles-product"
    )
    parser.add_argument("--dpi", type=int, default=200, help="resolution of the PNGs (default: 200)")
    parser.add_argument(
        "--dark", action="store_true", help="PNGs with a dark background (the page follows the browser's setting)"
    )


def run(args: argparse.Namespace) -> int:
    """Show or write a result. Exit status: 0 done, 2 no usable result."""
    try:
        path = args.result or newest(RESULTS)
        result = read_result(path)
    except ResultError as error:
        print(f"warmfront report: {error}", file=sys.stderr)
        return 2
    if args.html is None and args.png is None:
        if args.details or not show_verdict(result, sys.stdout, path=str(path), colour=wants_colour(sys.stdout)):
            terminal.show(result)
        return 0
    try:
        for written in _write(result, path, args):
            print(f"written to {written}")
    except OSError as error:
        print(f"warmfront report: {error.filename} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def newest(folder: Path) -> Path:
    """Return the newest result in a folder.

    Raises:
        ResultError: there is none.
    """
    found = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ResultError(f"no result in {folder}/; give a file, or create one with `warmfront bench`")
    return found[-1]


def _write(result: Result, path: Path, args: argparse.Namespace) -> list[Path]:
    from warmfront.report.html import render_png, write_html  # matplotlib: not for a table on a terminal

    written = []
    if args.html is not None:
        page = path.with_suffix(".html") if args.html == Path() else args.html
        write_html(result, page)
        written.append(page)
    if args.png is not None:
        only = [name.strip() for name in args.pictures.split(",") if name.strip()]
        written += render_png(result, args.png, dark=args.dark, only=only, dpi=args.dpi)
    return written
