"""Formats a capacity plan as text, and reads service times for it from a saved result."""

import math
from collections.abc import Sequence

from warmfront.bench.sizing.plan import Inputs, Size
from warmfront.bench.sizing.queueing import Service, SizingError, measured_service
from warmfront.results import Result


def render(inputs: Inputs, found: Size) -> str:
    """Format a plan, its inputs and its warnings as text."""
    sections = (_inputs_text(inputs), _concurrency_text(inputs, found), _pool_text(inputs, found), _ladder_text(found))
    lines = [*sections, _sensitivity_text(found)]
    if found.warnings:
        lines.append("\n".join(f"WARNING {text}" for text in found.warnings))
    return "\n\n".join(lines) + "\n"


def _inputs_text(inputs: Inputs) -> str:
    def service_line(name: str, service: Service) -> str:
        p99 = 1000.0 * service.percentile_s(0.99)
        return f"  {name:<22}{1000.0 * service.mean_s:.3g} ms mean, cs2 {service.cs2:.2f}, p99 {p99:.3g} ms  ({service.source})"

    arrivals = "Poisson" if inputs.ca2 == 1.0 else f"ca2 {inputs.ca2:g}"
    lines = ["Inputs", f"  {'arrivals':<22}{inputs.rate:g} requests/s, {arrivals}"]
    return "\n".join([*lines, service_line("handler", inputs.handler), service_line("connection held", inputs.hold)])


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


def render_predictions(result: Result) -> str:
    """Format the result's predicted p99s next to the measured ones; empty where it has none."""
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
    """Return the service times of a variant in a saved result, from each request's send to its response.

    With many workers these times include waiting for the CPU.

    Raises:
        SizingError: the result has no such samples; the message says what it has or which option to use instead.
    """
    own = [block for block in result.blocks if (block.workload, block.variant) == (workload, variant)]
    samples: list[int] = [us for block in own for us in (block.service_us or block.latency_us)]
    if not samples and result.sized:
        raise SizingError(
            f"{name} is a sweep, which does not store single times: {_instead(result, workload, variant)}"
        )
    if not samples:
        known = sorted({f"{block.workload} {block.variant}" for block in result.blocks})
        raise SizingError(f"{name} has no {workload} {variant}; it has {_listed(known)}")
    return measured_service([us / 1e6 for us in samples], f"{len(samples):,} requests of {workload} {variant}, {name}")


def _instead(result: Result, workload: str, variant: str) -> str:
    points = [own.points[0] for own in result.sweeps if (own.workload, own.variant) == (workload, variant)]
    hint = f"add --service-ms {points[0].p50_ms:.3g}, its median at {points[0].offered_rate:.3g}/s" if points else ""
    return hint or f"add --service-ms; it has no points of {workload} {variant}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no blocks at all"
