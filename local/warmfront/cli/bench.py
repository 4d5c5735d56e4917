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
from warmfront.report.terminal import show, wants_colour
from warmfront.report.verdict import show_verdict
from warmfront.results import Result, write_result

# Options that, when given, win over the presets QUICK and SWEEP.
EXPLICIT = ("workers", "requests", "blocks", "box_s", "cold_starts", "window_s", "budget_s", "rows", "environments")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is run")
    group.add_argument(
        "--workload", type=Path, default=SHOP_WORKLOADS, metavar="FILE", help="TOML workload (default: the shop's)"
    )
    group.add_argument("-t", "--template", type=Path, default=Path("template.yaml"), help="SAM template to emulate")
    group.add_argument("--url", help="measure an API that runs already, such as a deployed stack; nothing is started")
    group.add_argument(
        "--reports",
        type=named_file,
        action="append",
        default=[],
        metavar="VARIANT=FILE",
        help="with --url: its function's log of this run, whose REPORT lines tell memory and billed time",
    )
    group.add_argument("--only", type=names, default=(), metavar="NAME,...", help="these workloads of the file")
    group.add_argument("--variants", type=names, default=(), metavar="NAME,...", help="these variants; first: baseline")
    group = parser.add_argument_group("load")
    group.add_argument("--workers", type=at_least(1), metavar="N", help=f"concurrent clients (default: {WORKERS})")
    group.add_argument(
        "--requests", type=at_least(1), metavar="N", help=f"per variant, counted workloads ({REQUESTS:,})"
    )
    group.add_argument("--blocks", type=at_least(2), metavar="N", help=f"that these are split into (default: {BLOCKS})")
    group.add_argument(
        "--rate", type=float, metavar="R", help="open loop: so many requests per second, for --for seconds"
    )
    group.add_argument("--for", dest="for_s", type=seconds, metavar="TIME", help="of each variant at --rate, as 30s")
    group.add_argument(
        "--sweep",
        action="store_true",
        help="find each variant's knee instead: open loop, rates rising until they are not held",
    )
    group.add_argument(
        "--budget", dest="budget_s", type=seconds, metavar="TIME", help="of --sweep, all together (4min)"
    )
    group.add_argument(
        "--growth", action="store_true", help="the same reads over more rows and beside more environments instead"
    )
    group.add_argument("--rows", type=numbers, metavar="N,...", help="of --growth (10000,100000,1000000)")
    group.add_argument("--environments", type=numbers, metavar="N,...", help="of --growth (1,10,50,100,200)")
    group.add_argument(
        "--window", dest="window_s", type=seconds, metavar="TIME", help="of each rate offered (2s; with --sweep 3s)"
    )
    group.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson", help="of an open loop")
    group.add_argument("--box", dest="box_s", type=seconds, metavar="TIME", help="for each other workload (30s)")
    group.add_argument("--new-connections", action="store_true", help="one connection per request")
    group.add_argument(
        "--timeout", dest="timeout_s", type=seconds, default=30.0, metavar="TIME", help="of a request (30s)"
    )
    group.add_argument("--cold-starts", type=at_least(0), metavar="N", help=f"per variant (default: {COLD_STARTS})")
    group.add_argument(
        "--rtt",
        dest="rtt_s",
        type=seconds,
        default=0.0,
        metavar="TIME",
        help="a network round trip to Postgres and Redis, as 0.5ms",
    )
    group = parser.add_argument_group("run")
    group.add_argument(
        "--full", action="store_true", help="longer blocks and more rounds: every table, in about 7 minutes"
    )
    group.add_argument("--quick", action="store_true", help="everything, in under a minute: wide intervals")
    group.add_argument("--details", action="store_true", help="print the full tables instead of the verdict")
    group.add_argument("--no-snap-start", action="store_true", help="leave out cold starts by SnapStart")
    group.add_argument("--seed", type=int, default=1, help="of what is asked and in which order (default: 1)")
    group.add_argument("--no-floor", action="store_true", help="leave out the emulator's own floor and the net figures")
    group.add_argument(
        "--no-equal-load", action="store_true", help="leave out memory and cost at the same offered rate"
    )
    group.add_argument(
        "--prices", type=Path, default=DEFAULT_PRICES, metavar="FILE", help="of Lambda, as TOML (default: a dated copy)"
    )
    group.add_argument("-o", "--output", type=Path, metavar="FILE", help="result (default: results/bench-DATE.json)")


def options_of(args: argparse.Namespace, *, command: str, now: datetime) -> BenchOptions:
    """`--quick` changes defaults; what was said explicitly stays."""
    if (args.rate is None) != (args.for_s is None):
        raise OptionError("--rate and --for go together: so many requests per second, for so long")
    if args.rate is not None and args.rate <= 0:
        raise OptionError(f"--rate {args.rate}: a rate is above 0 requests per second")
    if args.reports and args.url is None:
        raise OptionError("--reports belongs to --url: an emulator of ours is looked at itself")
    if args.rtt_s and args.url is not None:
        raise OptionError(
            "--rtt stands between our own emulator and its backing services; an --url has its own network"
        )
    if args.sweep and args.rate is not None:
        raise OptionError("--sweep finds its rates itself: leave out --rate and --for")
    if args.growth and (args.sweep or args.rate is not None or args.url is not None):
        raise OptionError("--growth is a run of its own on this machine: leave out --sweep, --rate and --url")
    if args.budget_s is not None and not args.sweep:
        raise OptionError("--budget belongs to --sweep: everything else takes what it takes")
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
    _ = options.remote  # a wrong address is said now
    return options


def run(args: argparse.Namespace) -> int:
    """Exit status: 0 measured (the table says whether it is valid), 1 could not measure, 2 the options are wrong."""
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
    """The verdict on standard output, or the full tables."""
    if not details and show_verdict(result, sys.stdout, path=str(path), colour=wants_colour(sys.stdout)):
        return
    show(result)
    print(f"\nwritten to {path}")


def needs_of(template: Path) -> Needs:
    """Which servers the template's functions ask for; a template that cannot be read is reported by its emulator."""
    try:
        declared = declared_urls(read_template(EmulatorOptions(template=template)))
    except (TemplateError, OSError):
        return Needs()
    return Needs("DATABASE_URL" in declared, "REDIS_URL" in declared)
