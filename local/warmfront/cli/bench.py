"""`warmfront bench`: compares the variants of an API and writes the result."""

import argparse
import shlex
import sys
from datetime import datetime
from pathlib import Path

from warmfront.backing.errors import BackingError
from warmfront.bench.load.load_process import LoadError
from warmfront.bench.load.workloads import GROWTH_WORKLOADS, SHOP_WORKLOADS, WorkloadError
from warmfront.bench.run.emulator_process import EmulatorError
from warmfront.bench.run.options import (
    BLOCKS,
    COLD_STARTS,
    QUICK,
    REQUESTS,
    SWEEP,
    VERDICT,
    WORKERS,
    BenchOptions,
    OptionError,
)
from warmfront.bench.run.relay import RelayError
from warmfront.bench.run.servers import Needs
from warmfront.bench.run.session import run_bench
from warmfront.bench.sizing.prices import DEFAULT_PRICES, PriceError
from warmfront.cli.arguments import at_least, named_file, names, numbers, seconds
from warmfront.emulator.backing_services import declared_urls
from warmfront.emulator.compose import read_template
from warmfront.emulator.options import EmulatorOptions
from warmfront.emulator.template import TemplateError
from warmfront.report.colour import wants_colour
from warmfront.report.terminal import show
from warmfront.report.verdict import show_verdict
from warmfront.results import Result, write_result

# Options that override the presets VERDICT, QUICK and SWEEP when given.
EXPLICIT = ("workers", "requests", "blocks", "box_s", "cold_starts", "window_s", "budget_s", "rows", "environments")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is run")
    group.add_argument(
        "--workload", type=Path, default=SHOP_WORKLOADS, metavar="FILE", help="TOML workload (default: the shop's)"
    )
    group.add_argument("-t", "--template", type=Path, default=Path("template.yaml"), help="SAM template to emulate")
    group.add_argument(
        "--url", help="measure an API that is already running, such as a deployed stack, and start nothing"
    )
    group.add_argument(
        "--reports",
        type=named_file,
        action="append",
        default=[],
        metavar="VARIANT=FILE",
        help="with --url: log of the variant's function, whose REPORT lines give memory and billed time",
    )
    group.add_argument(
        "--only", type=names, default=(), metavar="NAME,...", help="run only these workloads of the file"
    )
    group.add_argument(
        "--variants",
        type=names,
        default=(),
        metavar="NAME,...",
        help="only these variants; first: the baseline",
    )
    group = parser.add_argument_group("load")
    group.add_argument("--workers", type=at_least(1), metavar="N", help=f"concurrent clients (default: {WORKERS})")
    group.add_argument(
        "--requests",
        type=at_least(1),
        metavar="N",
        help=f"requests per variant of each counted workload ({REQUESTS:,})",
    )
    group.add_argument(
        "--blocks", type=at_least(2), metavar="N", help=f"blocks that these requests are split into (default: {BLOCKS})"
    )
    group.add_argument(
        "--rate", type=float, metavar="R", help="open loop: send R requests per second for the time of --for"
    )
    group.add_argument(
        "--for", dest="for_s", type=seconds, metavar="TIME", help="how long to load each variant at --rate, such as 30s"
    )
    group.add_argument(
        "--sweep",
        action="store_true",
        help="instead, raise the rate of an open loop to find the highest that each variant sustains (its knee)",
    )
    group.add_argument("--budget", dest="budget_s", type=seconds, metavar="TIME", help="total time of --sweep (4min)")
    group.add_argument(
        "--growth",
        action="store_true",
        help="instead, measure how reads slow down with more rows and more environments",
    )
    group.add_argument("--rows", type=numbers, metavar="N,...", help="row counts of --growth (10000,100000,1000000)")
    group.add_argument(
        "--environments", type=numbers, metavar="N,...", help="environment counts of --growth (1,10,50,100,200)"
    )
    group.add_argument(
        "--window",
        dest="window_s",
        type=seconds,
        metavar="TIME",
        help="how long each rate is offered (2s; with --sweep 3s)",
    )
    group.add_argument(
        "--arrivals", choices=("poisson", "constant"), default="poisson", help="spacing of an open loop's requests"
    )
    group.add_argument(
        "--box",
        dest="box_s",
        type=seconds,
        metavar="TIME",
        help="time for each other workload (30s)",
    )
    group.add_argument("--new-connections", action="store_true", help="open a new connection for each request")
    group.add_argument(
        "--timeout", dest="timeout_s", type=seconds, default=30.0, metavar="TIME", help="timeout of a request (30s)"
    )
    group.add_argument(
        "--cold-starts", type=at_least(0), metavar="N", help=f"cold starts per variant (default: {COLD_STARTS})"
    )
    group.add_argument(
        "--rtt",
        dest="rtt_s",
        type=seconds,
        default=0.0,
        metavar="TIME",
        help="add a network round trip to Postgres and Redis, such as 0.5ms",
    )
    group = parser.add_argument_group("run")
    group.add_argument(
        "--full", action="store_true", help="longer blocks and more rounds: all tables, in about 7 minutes"
    )
    group.add_argument(
        "--quick", action="store_true", help="a short run of everything in under a minute, with wide intervals"
    )
    group.add_argument("--details", action="store_true", help="print the full tables instead of the verdict")
    group.add_argument("--no-snap-start", action="store_true", help="skip cold starts with SnapStart")
    group.add_argument("--seed", type=int, default=1, help="seed of the requests and their order (default: 1)")
    group.add_argument(
        "--no-floor",
        action="store_true",
        help="skip the emulator's own cost (the floor) and net figures",
    )
    group.add_argument("--no-equal-load", action="store_true", help="skip memory and cost at the same offered rate")
    group.add_argument(
        "--prices",
        type=Path,
        default=DEFAULT_PRICES,
        metavar="FILE",
        help="Lambda's prices as TOML (default: a dated copy)",
    )
    group.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="result file (default: results/bench-DATE.json)"
    )


def options_of(args: argparse.Namespace, *, command: str, now: datetime) -> BenchOptions:
    """Build the options of a run. Presets such as `--quick` change defaults; explicit options override them.

    Args:
        args: the parsed command line.
        command: the command line as text, for the result.
        now: for the name of the result file.

    Raises:
        OptionError: options contradict each other; the message says which to leave out.
    """
    if (args.rate is None) != (args.for_s is None):
        raise OptionError("--rate and --for go together: give both, such as --rate 200 --for 30s")
    if args.rate is not None and args.rate <= 0:
        raise OptionError(f"--rate {args.rate}: give a rate above 0 requests per second")
    if args.reports and args.url is None:
        raise OptionError(
            "--reports works only with --url: memory and billed time of a local emulator are measured directly"
        )
    if args.rtt_s and args.url is not None:
        raise OptionError(
            "--rtt adds a round trip between the local emulator and its backing services: leave it out with --url"
        )
    if args.sweep and args.rate is not None:
        raise OptionError("--sweep finds its rates itself: leave out --rate and --for")
    if args.growth and (args.sweep or args.rate is not None or args.url is not None):
        raise OptionError("--growth is a separate run on this machine: leave out --sweep, --rate and --url")
    if args.budget_s is not None and not args.sweep:
        raise OptionError("--budget works only with --sweep: other runs have a fixed amount of work")
    preset = QUICK if args.quick else {} if args.full or args.growth else VERDICT
    chosen: dict[str, object] = {**preset, **(SWEEP if args.sweep else {}), **(QUICK if args.quick else {})}
    for name in EXPLICIT:
        if getattr(args, name) is not None:
            chosen[name] = getattr(args, name)
    options = BenchOptions(
        workload=GROWTH_WORKLOADS if args.growth and args.workload == SHOP_WORKLOADS else args.workload,
        template=args.template,
        url=args.url,
        only=args.only,
        variants=args.variants,
        rate=args.rate,
        for_s=args.for_s,
        arrivals=args.arrivals,
        keep_alive=not args.new_connections,
        timeout_s=args.timeout_s,
        seed=args.seed,
        quick=args.quick,
        snap_start=not args.no_snap_start,
        needs=needs_of(args.template) if args.url is None else Needs(),
        floor=not args.no_floor,
        equal_load=not args.no_equal_load,
        sweep=args.sweep,
        reports=tuple(args.reports),
        growth=args.growth,
        rtt_s=args.rtt_s,
        prices=args.prices,
        output=args.output or Path("results") / f"bench-{now:%Y%m%d-%H%M%S}.json",
        command=command,
        **chosen,  # type: ignore[arg-type]
    )
    _ = options.remote  # reports an invalid address before anything starts
    return options


def run(args: argparse.Namespace) -> int:
    """Run the benchmark. Exit status: 0 measured (the table says if it is valid), 1 could not measure, 2 invalid options."""
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
    show_result(result, options.output, details=args.details)
    return 0


def show_result(result: Result, path: Path, *, details: bool) -> None:
    """Print the verdict, or the full tables with `details` or where there is no verdict."""
    if not details and show_verdict(result, sys.stdout, path=str(path), colour=wants_colour(sys.stdout)):
        return
    show(result)
    print(f"\nwritten to {path}")


def needs_of(template: Path) -> Needs:
    """Return the servers that the template's functions need; none for an unreadable template, which the emulator reports."""
    try:
        declared = declared_urls(read_template(EmulatorOptions(template=template)))
    except (TemplateError, OSError):
        return Needs()
    return Needs("DATABASE_URL" in declared, "REDIS_URL" in declared)
