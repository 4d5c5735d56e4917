"""`warmfront overhead`: measures the cost of the emulator and of its observation."""

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
    part = parts.add_parser(
        "emulator", help="latency and CPU of a warm invocation, compared with a bare Starlette route"
    )
    part.add_argument("--rounds", type=at_least(1), default=9, help="blocks of each scene (default: 9)")
    part.add_argument("--block", type=positive, default=1.0, metavar="SECONDS", help="length of a block (default: 1)")
    part.add_argument(
        "--environments", type=at_least(1), default=200, help="environments in the dispatch comparison (default: 200)"
    )
    part.add_argument("--starts", type=at_least(0), default=5, help="starts of `warmfront serve` to time (default: 5)")
    part.add_argument(
        "--peer", type=Path, metavar="FOLDER", help="also measure the serverless-offline installed in this folder"
    )
    part.add_argument("--seed", type=int, default=1)
    part = parts.add_parser("observe", help="throughput with metrics and traces on and off")
    part.add_argument("--emulators", type=at_least(1), default=4, help="fresh emulators of each template (default: 4)")
    part.add_argument(
        "--pairs",
        type=at_least(2),
        default=40,
        help="pairs of time slices per handler and mode (default: 40)",
    )
    part.add_argument(
        "--slice", type=positive, default=0.05, metavar="SECONDS", help="length of a time slice (default: 0.05)"
    )
    part.add_argument(
        "--connections", type=at_least(2), default=10, help="connections of the closed loop (default: 10)"
    )
    part.add_argument("--open", action="store_true", help="also measure with the dashboard open")
    part.add_argument("--seed", type=int, default=1)


def run(args: argparse.Namespace) -> int:
    """Measure. Exit status: 0 within the limits, 1 over a limit or wrong responses, 2 could not measure."""
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
