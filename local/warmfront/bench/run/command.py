"""`warmfront bench` on the command line: options in, a table and a file out. Decides nothing that is measured."""

import argparse
import shlex
import sys
from collections.abc import Callable
from datetime import datetime

from warmfront.backing.errors import BackingError
from warmfront.bench.load.load_process import LoadError
from warmfront.bench.load.workloads import WorkloadError
from warmfront.bench.sizing.prices import PriceError
from warmfront.results import Result, write_result

from .emulator_process import EmulatorError
from .options import OptionError, add_arguments, options_of
from .relay import RelayError
from .session import run_bench

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace, show: Callable[[Result], None]) -> int:
    """`show` puts the result on the terminal.

    Exit status: 0 measured (the table says whether it is valid), 1 could not measure, 2 the options are wrong.
    """
    command = shlex.join(["warmfront", *sys.argv[1:]])
    try:
        options = options_of(args, command=command, now=datetime.now())
        result = run_bench(options)
    except (OptionError, WorkloadError, PriceError) as error:
        print(f"warmfront bench: {error}", file=sys.stderr)
        return 2
    except (EmulatorError, LoadError, RelayError, BackingError) as error:
        print(f"warmfront bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nwarmfront bench: interrupted; nothing was written", file=sys.stderr)
        return 130
    assert options.output is not None
    write_result(result, options.output)
    show(result)
    print(f"\nwritten to {options.output}")
    return 0
