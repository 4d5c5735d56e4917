"""The `warmfront` command: finds the subcommand and hands over. A subcommand's modules are imported only when it runs."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True, slots=True)
class Command:
    """Where a subcommand lives: `module:add_arguments` and `module:run`."""

    help: str
    module: str
    add_arguments: str = "add_arguments"
    run: str = "run"


COMMANDS = {
    "serve": Command(
        "serve a SAM template's APIs and functions on this machine",
        "warmfront.cli.serve",
        "add_serve_arguments",
        "serve",
    ),
    "invoke": Command("invoke one function once", "warmfront.cli.serve", "add_invoke_arguments", "invoke"),
    "bench": Command(
        "compare the variants of an API: latency, throughput, CPU, memory, cold starts", "warmfront.cli.bench"
    ),
    "cold": Command(
        "take first invocations apart: ways to start, imports, what to look at first", "warmfront.cli.cold"
    ),
    "lab": Command("break the shop on purpose and see what holds", "warmfront.cli.lab"),
    "size": Command(
        "reserved concurrency, pool size and time-outs from a rate and service times", "warmfront.bench.sizing.command"
    ),
    "doctor": Command(
        "name dangerous defaults and contradictions in a template, each with its fix", "warmfront.cli.doctor"
    ),
    "report": Command("show a saved result, as a table, a page or pictures", "warmfront.cli.report"),
    "compare": Command(
        "tell two results apart: faster, slower or not significant", "warmfront.bench.statistics.compare"
    ),
}


def supported_platform() -> str | None:
    """Why this machine cannot run the emulator, or None."""
    if sys.platform != "linux":
        return f"warmfront runs on Linux (WSL2 included), not on {sys.platform}: it freezes and kills process groups the way Lambda does"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    reason = supported_platform()
    if reason is not None:
        print(f"warmfront: {reason}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog="warmfront", description="A lab bench for API handlers on AWS Lambda.")
    parser.add_argument("--version", action="version", version=f"warmfront {metadata.version('warmfront')}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=command.help, description=command.help[0].upper() + command.help[1:] + "."
        )
        if name == chosen:
            getattr(importlib.import_module(command.module), command.add_arguments)(subparser)
    args = parser.parse_args(arguments)
    command = COMMANDS[args.command]
    status: int = getattr(importlib.import_module(command.module), command.run)(args)
    return status


if __name__ == "__main__":
    sys.exit(main())
