"""The `warmfront` command: imports the chosen subcommand and runs it."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from types import ModuleType

from warmfront.cli.sam_options import sam_option_hint
from warmfront.cli.samconfig_arguments import apply_samconfig
from warmfront.emulator.template import TemplateError

# Subcommand -> its line in --help. Each is a module of this package with `add_arguments` and `run`.
COMMANDS = {
    "serve": "serve a template's APIs and functions on this machine",
    "invoke": "invoke one function once",
    "init": "write the example shop into a folder, ready to serve, measure and deploy",
    "bench": "compare the variants of an API: latency, throughput, CPU, memory, cold starts",
    "cold": "measure cold starts by way to start, stage and import, and show what to improve first",
    "lab": "inject faults and see which variant withstands them",
    "size": "compute reserved concurrency, pool size and timeouts from a rate and service times",
    "doctor": "find dangerous defaults and contradictions in a template, each with its fix",
    "report": "show a saved result as a table, a page or pictures",
    "compare": "say whether the second of two results is faster, slower or not significantly different",
    "overhead": "measure what the emulator itself costs",
    "completion": "print shell completion for bash, zsh or fish",
}
BROKEN_PIPE = 128 + 13
"""The exit status of a program that SIGPIPE ends."""
# Commands whose modules need the packages of an extra.
EXTRAS = dict.fromkeys(("bench", "cold", "lab", "size", "report", "compare", "overhead"), "bench")


def command_module(name: str) -> ModuleType:
    """Import the module of a subcommand.

    Raises:
        MissingExtra: a package that it needs is not installed.
    """
    try:
        return importlib.import_module(f"warmfront.cli.{name}")
    except ModuleNotFoundError as error:
        if name not in EXTRAS or (error.name or "").startswith("warmfront"):
            raise
        raise MissingExtra(
            f"`warmfront {name}` needs the package {error.name}: install the extra {EXTRAS[name]!r}, "
            f"as with `pip install 'warmfront[{EXTRAS[name]}]'` or `uv tool install 'warmfront[{EXTRAS[name]}]'`"
        ) from None


class MissingExtra(Exception):
    """A package that a command needs is not installed; the message names the extra to install."""


def supported_platform() -> str | None:
    """Return why this machine cannot run the emulator, or None if it can."""
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
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    hint = sam_option_hint(arguments) if chosen in ("serve", "invoke") else None
    if hint is not None:
        print(f"warmfront {chosen}: {hint}", file=sys.stderr)
        return 2
    try:
        args = parser_of(chosen, arguments).parse_args(arguments)
        status: int = command_module(args.command).run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (MissingExtra, TemplateError) as error:
        print(f"warmfront: {error}", file=sys.stderr)
        return 2
    return status


def parser_of(chosen: str | None, arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Build the parser with the arguments of one subcommand; modules of the others are not imported.

    Args:
        chosen: the subcommand.
        arguments: the whole command line, which may name the samconfig file with the defaults of serve and invoke.

    Raises:
        TemplateError: samconfig cannot be read.
        MissingExtra: a package that the subcommand needs is not installed.
    """
    parser = argparse.ArgumentParser(prog="warmfront", description="A lab bench for API handlers on AWS Lambda.")
    parser.add_argument("--version", action="version", version=f"warmfront {metadata.version('warmfront')}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        if name == chosen:
            command_module(name).add_arguments(subparser)
            if name in ("serve", "invoke"):
                apply_samconfig(subparser, name, arguments[1:])
    return parser


if __name__ == "__main__":
    sys.exit(main())
