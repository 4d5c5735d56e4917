"""`warmfront bench` as the command line composes it: the bench measures, the report shows."""

import argparse

from warmfront.bench.run import command
from warmfront.report.terminal import show

add_arguments = command.add_arguments


def run(args: argparse.Namespace) -> int:
    return command.run(args, show)
