"""`warmfront compare`: shows for each metric whether the second of two results is faster or slower."""

import argparse
import sys
from pathlib import Path

import msgspec

from warmfront.bench.statistics import percentiles
from warmfront.bench.statistics.compare import compare, render
from warmfront.cli.arguments import percent
from warmfront.results import ResultError, read_result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=Path, metavar="A.json")
    parser.add_argument("after", type=Path, metavar="B.json")
    parser.add_argument(
        "--smallest",
        type=percent,
        default=percentiles.SMALLEST_CLAIM,
        metavar="PERCENT",
        help="report smaller changes as not significant (default: 2%%)",
    )
    parser.add_argument(
        "--allow-invalid", action="store_true", help="compare runs that failed their own validity checks"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON instead of a table")
    parser.epilog = "Exit status: 0 nothing is slower, 1 something is, 2 the results cannot be compared."


def run(args: argparse.Namespace) -> int:
    """Compare two results. Exit status as in the epilog."""
    try:
        before, after = (read_result(path) for path in (args.before, args.after))
        for path, result in ((args.before, before), (args.after, after)):
            if not result.validity.valid and not args.allow_invalid:
                raise ResultError(f"{path} failed its own validity checks; run it again, or use --allow-invalid")
        outcome = compare(before, after, smallest=args.smallest)
    except ResultError as error:
        print(f"warmfront compare: {error}", file=sys.stderr)
        return 2
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n" if args.json else render(outcome))
    return 1 if outcome.slower else 0
