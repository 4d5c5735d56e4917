"""`warmfront overhead`: what the emulator and its observation cost by themselves."""

import argparse
import sys
from pathlib import Path

from warmfront.bench.overhead import emulator, observe
from warmfront.bench.overhead.emulator import EmulatorOverheadOptions
from warmfront.bench.overhead.observe import ObserveOptions
from warmfront.bench.overhead.peer import PeerError
from warmfront.bench.run.emulator_process import EmulatorError
from warmfront.cli.arguments import at_least, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    of = parts.add_parser("emulator", help="latency and CPU of a warm invocation beside a bare Starlette route")
    of.add_argument("--rounds", type=at_least(1), default=9, help="blocks of each scene (default: 9)")
    of.add_argument("--block", type=positive, default=1.0, metavar="SECONDS", help="length of a block (default: 1)")
    of.add_argument("--environments", type=at_least(1), default=200, help="for the dispatch comparison (default: 200)")
    of.add_argument("--starts", type=at_least(0), default=5, help="starts of `warmfront serve` to time (default: 5)")
    of.add_argument("--peer", type=Path, metavar="FOLDER", help="measure the serverless-offline in this folder as well")
    of.add_argument("--seed", type=int, default=1)
    of = parts.add_parser("observe", help="throughput with metrics and traces on, and off")
    of.add_argument("--emulators", type=at_least(1), default=4, help="fresh ones of each template (default: 4)")
    of.add_argument("--pairs", type=at_least(2), default=40, help="of slices in each, handler and mode (default: 40)")
    of.add_argument("--slice", type=positive, default=0.05, metavar="SECONDS", help="length of one (default: 0.05)")
    of.add_argument("--connections", type=at_least(2), default=10, help="of the closed loop (default: 10)")
    of.add_argument("--open", action="store_true", help="measure with the dashboard open as well")
    of.add_argument("--seed", type=int, default=1)


def run(args: argparse.Namespace) -> int:
    """Exit status: 0 measured and within its limits, 1 over a limit or wrong answers, 2 could not measure."""
    try:
        if args.part == "observe":
            return observe.measure(
                ObserveOptions(args.emulators, args.pairs, args.slice, args.connections, args.open, args.seed)
            )
        return emulator.measure(
            EmulatorOverheadOptions(args.rounds, args.block, args.environments, args.starts, args.seed, args.peer)
        )
    except (PeerError, EmulatorError) as error:
        print(f"warmfront overhead: {error}", file=sys.stderr)
        return 2
