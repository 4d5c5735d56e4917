"""`warmfront size` on the command line: rate and service times in, the plan as text or JSON out. Works nothing out itself."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from warmfront.bench.sizing.plan import Inputs, Size, size
from warmfront.bench.sizing.queueing import Service, SizingError, measured_service, service_of
from warmfront.results import Result, ResultError, read_result

__all__ = ["Inputs", "add_arguments", "inputs_of", "render", "run", "size"]


def render(inputs: Inputs, found: Size) -> str:
    sections = (_inputs_text(inputs), _concurrency_text(inputs, found), _pool_text(inputs, found), _ladder_text(found))
    lines = [*sections, _sensitivity_text(found)]
    if found.warnings:
        lines.append("\n".join(f"WARNING {text}" for text in found.warnings))
    return "\n\n".join(lines) + "\n"


def _inputs_text(inputs: Inputs) -> str:
    def told(name: str, service: Service) -> str:
        p99 = 1000.0 * service.percentile_s(0.99)
        return f"  {name:<22}{1000.0 * service.mean_s:.3g} ms mean, cs2 {service.cs2:.2f}, p99 {p99:.3g} ms  ({service.source})"

    arrivals = "Poisson" if inputs.ca2 == 1.0 else f"ca2 {inputs.ca2:g}"
    lines = ["Inputs", f"  {'arrivals':<22}{inputs.rate:g} requests/s, {arrivals}"]
    return "\n".join([*lines, told("handler", inputs.handler), told("connection held", inputs.hold)])


def _concurrency_text(inputs: Inputs, found: Size) -> str:
    running = inputs.rate * inputs.handler.mean_s
    verdict = "fits" if found.fits else "DOES NOT FIT"
    rows = (
        f"Concurrency  (Little's law and the Poisson quantile of M/G/infinity: {running:.3g} running on average)",
        f"  p50 / p99 / p99.9     {found.concurrency_p50} / {found.concurrency_p99} / {found.reserved_concurrency}",
        f"  reserved concurrency  {found.reserved_concurrency}, with a burst of x{inputs.burst:g}: {found.with_burst}",
        f"  connections           {found.with_burst} environments x {inputs.pool_max} = {found.connections_needed} of "
        f"{found.connections_limit} ({inputs.max_connections} less {inputs.kept_connections} kept): {verdict}",
        f"                        each is busy {found.connection_busy:.0%} of its invocation",
    )
    return "\n".join(rows)


def _pool_text(inputs: Inputs, found: Size) -> str:
    head = f"Shared connections, through a proxy  ({found.formula}; offered load {found.offered:.3g})"
    columns = ("connections", "busy", "P(wait)", "mean wait", "p95 wait", "p99 wait", "p99 response")
    lines = [head, "  " + "".join(name.rjust(13) for name in columns) + "   ms"]
    for own in found.choices:
        cells = (
            f"{own.connections}",
            f"{own.utilisation:.0%}",
            f"{own.wait_probability:.3f}",
            *(f"{value:.2f}" for value in (own.mean_wait_ms, own.wait_p95_ms, own.wait_p99_ms, own.response_p99_ms)),
        )
        mark = f"   <- p99 wait within {inputs.wait_p99_ms:g} ms" if own.connections == found.connections else ""
        lines.append("  " + "".join(cell.rjust(13) for cell in cells) + mark)
    simulated = found.simulated
    lines.append(
        f"  simulation of {simulated.customers:,} requests at {found.connections}: p99 response "
        f"{1000 * simulated.response_p99_s:.2f} ms, p99 wait {1000 * simulated.wait_p99_s:.2f} ms; "
        f"the formula is {found.formula_error:+.1%} off"
    )
    return "\n".join(lines)


def _ladder_text(found: Size) -> str:
    lines = ["Time-outs, each inside the next"]
    lines += [f"  {rung.timeout_s:>7.3g} s  {rung.name:<36}{rung.why}" for rung in found.ladder]
    return "\n".join(lines)


def _sensitivity_text(found: Size) -> str:
    columns = ("reserved", "connections", "busy", "p99 wait, ms")
    lines = [f"If it were otherwise  (busy and wait at {found.connections} connections)"]
    lines.append(" " * 26 + "".join(name.rjust(13) for name in columns))
    for own in found.sensitivity:
        wait = f"{own.wait_p99_ms:.2f}" if math.isfinite(own.wait_p99_ms) else "grows"
        cells = (str(own.reserved_concurrency), str(own.connections), f"{own.utilisation:.0%}", wait)
        lines.append(f"  {own.what:<24}" + "".join(cell.rjust(13) for cell in cells))
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=_positive, required=True, metavar="N", help="requests per second to serve")
    source = parser.add_argument_group("service times, from a result or by hand")
    source.add_argument("--from", dest="result", type=Path, metavar="FILE", help="a result of `warmfront bench`")
    source.add_argument("--workload", default="product", help="of that result (default: product)")
    source.add_argument("--variant", default="pooled", help="of that result (default: pooled)")
    source.add_argument(
        "--service-ms", type=_positive, metavar="MS", help="mean duration of the handler; before that of --from"
    )
    source.add_argument(
        "--service-cs2", type=_not_negative, default=1.0, metavar="X", help="its squared variation (1: exponential)"
    )
    source.add_argument(
        "--hold-ms", type=_positive, metavar="MS", help="mean time a connection is held (default: the whole duration)"
    )
    source.add_argument("--hold-cs2", type=_not_negative, default=1.0, metavar="X", help="its squared variation")
    parser.add_argument(
        "--ca2", type=_not_negative, default=1.0, metavar="X", help="squared variation of arrivals (1: Poisson)"
    )
    parser.add_argument("--max-connections", type=_count, default=100, metavar="N", help="of Postgres (default: 100)")
    parser.add_argument(
        "--kept-connections", type=int, default=10, metavar="N", help="of these, kept for others (default: 10)"
    )
    parser.add_argument(
        "--pool-max", type=_count, default=1, metavar="N", help="connections of one environment (default: 1)"
    )
    parser.add_argument(
        "--target-wait-p99", type=_not_negative, default=5.0, metavar="MS", help="for a connection (default: 5)"
    )
    parser.add_argument("--burst", type=_positive, default=1.5, metavar="X", help="headroom above p99.9 (default: 1.5)")
    parser.add_argument(
        "--customers", type=_count, default=200_000, metavar="N", help="of the simulation (default: 200000)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="all figures as JSON")


def _positive(text: str) -> float:
    value = _not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not (0.0 <= value < math.inf):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Exit status: 0 it fits, 1 it does not (the warnings say what to do), 2 the inputs have no answer."""
    try:
        ran = beside(read_result(args.result)) if args.result is not None and not args.json else ""
        inputs = inputs_of(args)
        found = size(inputs)
    except (SizingError, ResultError) as error:
        print(f"warmfront size: {error}", file=sys.stderr)
        return 2
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n" if args.json else render(inputs, found))
    sys.stdout.write(ran)
    return 0 if found.fits else 1


def inputs_of(args: argparse.Namespace) -> Inputs:
    if args.service_ms is not None:  # wins over a result: a sweep's has no times of single requests
        handler = service_of(args.service_ms / 1000.0, args.service_cs2)
    elif args.result is not None:
        handler = service_from(read_result(args.result), args.workload, args.variant, str(args.result))
    else:
        raise SizingError("no service time: give --service-ms, or --from a result of `warmfront bench`")
    if args.hold_ms is not None:
        hold = service_of(args.hold_ms / 1000.0, args.hold_cs2)
    else:
        hold = Service(
            handler.quantiles_s, handler.cs2, handler.third, "not given: the whole handler, which is the most it can be"
        )
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


def beside(result: Result) -> str:
    """What was predicted of loads that this result then ran; nothing where it ran none."""
    if not result.sized:
        return ""
    lines = ["", "Predicted and then run  (open loop at 70 % of the measured knee; the cores as servers)"]
    for own in result.sized:
        off = own.predicted_p99_ms / own.measured_p99_ms - 1.0
        around = f" [{own.low:.3g}, {own.high:.3g}]" if own.low is not None and own.high is not None else ""
        lines.append(
            f"  {own.workload + ' ' + own.variant:<22}{own.rate:.3g}/s: p99 {own.predicted_p99_ms:.3g} ms by {own.formula} with "
            f"{own.servers}, {own.measured_p99_ms:.3g}{around} ms measured over {own.n:,} requests: {off:+.0%}"
        )
    return "\n".join(lines) + "\n"


def service_from(result: Result, workload: str, variant: str, name: str) -> Service:
    """From the send of each request to its answer; a result of many workers holds their wait for the CPU as well."""
    own = [block for block in result.blocks if (block.workload, block.variant) == (workload, variant)]
    samples: list[int] = [us for block in own for us in (block.service_us or block.latency_us)]
    if not samples and result.sized:
        raise SizingError(f"{name} is a sweep, which keeps no single times: {_instead(result, workload, variant)}")
    if not samples:
        known = sorted({f"{block.workload} {block.variant}" for block in result.blocks})
        raise SizingError(f"{name} has no {workload} {variant}; it has {_listed(known)}")
    return measured_service([us / 1e6 for us in samples], f"{len(samples):,} requests of {workload} {variant}, {name}")


def _instead(result: Result, workload: str, variant: str) -> str:
    points = [own.points[0] for own in result.sweeps if (own.workload, own.variant) == (workload, variant)]
    said = f"add --service-ms {points[0].p50_ms:.3g}, its median at {points[0].offered_rate:.3g}/s" if points else ""
    return said or f"add --service-ms; it knows nothing of {workload} {variant}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no blocks at all"
