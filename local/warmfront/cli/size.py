"""`warmfront size`: computes reserved concurrency, pool size and timeouts from a rate and service times."""

import argparse
import sys
from pathlib import Path

import msgspec

from warmfront.bench.sizing.plan import Inputs, size
from warmfront.bench.sizing.plan_text import render, render_predictions, service_from
from warmfront.bench.sizing.queueing import Service, SizingError, service_of
from warmfront.cli.arguments import at_least, not_negative, positive
from warmfront.results import ResultError, read_result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=positive, required=True, metavar="N", help="requests per second to serve")
    source = parser.add_argument_group("service times, from a result or by hand")
    source.add_argument("--from", dest="result", type=Path, metavar="FILE", help="a result of `warmfront bench`")
    source.add_argument("--workload", default="product", help="workload in that result (default: product)")
    source.add_argument("--variant", default="pooled", help="variant in that result (default: pooled)")
    source.add_argument(
        "--service-ms", type=positive, metavar="MS", help="mean duration of the handler; overrides --from"
    )
    source.add_argument(
        "--service-cs2",
        type=not_negative,
        default=1.0,
        metavar="X",
        help="its squared coefficient of variation (1: exponential)",
    )
    source.add_argument(
        "--hold-ms", type=positive, metavar="MS", help="mean time a connection is held (default: the whole duration)"
    )
    source.add_argument(
        "--hold-cs2", type=not_negative, default=1.0, metavar="X", help="its squared coefficient of variation"
    )
    parser.add_argument(
        "--ca2",
        type=not_negative,
        default=1.0,
        metavar="X",
        help="squared coefficient of variation of arrivals (1: Poisson)",
    )
    parser.add_argument(
        "--max-connections",
        type=at_least(1),
        default=100,
        metavar="N",
        help="max_connections of Postgres (default: 100)",
    )
    parser.add_argument(
        "--kept-connections", type=int, default=10, metavar="N", help="connections reserved for others (default: 10)"
    )
    parser.add_argument(
        "--pool-max", type=at_least(1), default=1, metavar="N", help="connections of one environment (default: 1)"
    )
    parser.add_argument(
        "--target-wait-p99",
        type=not_negative,
        default=5.0,
        metavar="MS",
        help="largest p99 wait for a connection (default: 5)",
    )
    parser.add_argument("--burst", type=positive, default=1.5, metavar="X", help="headroom above p99.9 (default: 1.5)")
    parser.add_argument(
        "--customers",
        type=at_least(1),
        default=200_000,
        metavar="N",
        help="requests in the simulation (default: 200000)",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Compute and print a plan. Exit status: 0 it fits, 1 it does not (see its warnings), 2 no plan for these inputs."""
    try:
        checked = render_predictions(read_result(args.result)) if args.result is not None and not args.json else ""
        inputs = inputs_of(args)
        found = size(inputs)
    except (SizingError, ResultError) as error:
        print(f"warmfront size: {error}", file=sys.stderr)
        return 2
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n" if args.json else render(inputs, found))
    sys.stdout.write(checked)
    return 0 if found.fits else 1


def inputs_of(args: argparse.Namespace) -> Inputs:
    """Build the plan's inputs from the command line, with service times from --service-ms or a result.

    Raises:
        SizingError: no service time is given, or the result has none.
        ResultError: the result cannot be read.
    """
    if args.service_ms is not None:  # overrides a result, because a sweep's result has no times of single requests
        handler = service_of(args.service_ms / 1000.0, args.service_cs2)
    elif args.result is not None:
        handler = service_from(read_result(args.result), args.workload, args.variant, str(args.result))
    else:
        raise SizingError("no service time: give --service-ms, or --from a result of `warmfront bench`")
    if args.hold_ms is not None:
        hold = service_of(args.hold_ms / 1000.0, args.hold_cs2)
    else:
        hold = Service(handler.quantiles_s, handler.cs2, handler.third, "not given: the whole handler, the maximum")
    return Inputs(
        rate=args.rate,
        handler=handler,
        hold=hold,
        ca2=args.ca2,
        max_connections=args.max_connections,
        kept_connections=args.kept_connections,
        pool_max=args.pool_max,
        wait_p99_ms=args.target_wait_p99,
        burst=args.burst,
        customers=args.customers,
        seed=args.seed,
    )
