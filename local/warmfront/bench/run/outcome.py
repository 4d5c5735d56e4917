"""Builds a run's result from its measurements: summaries, comparisons, checks and settings."""

from collections.abc import Iterable, Sequence
from statistics import median

from warmfront import provenance, results
from warmfront.bench.load.workloads import Variant, Workload
from warmfront.bench.statistics import summary
from warmfront.results import Check, Result, Summary, Validity

from . import checks
from .blocks import Meter
from .measured import Measured
from .options import BenchOptions
from .report_lines import read_reports


def result_of(
    options: BenchOptions,
    measured: Measured,
    meter: Meter,
    workloads: Sequence[Workload],
    variants: Sequence[Variant],
) -> Result:
    """Build the result of a finished run.

    Args:
        options: of the run.
        measured: its measurements; warnings are added to it.
        meter: counted the load generator's failures and CPU.
        workloads: the workloads that were run.
        variants: the variants; the first is the baseline.
    """
    floor = _floor(measured)
    names = [variant.name for variant in variants]
    summaries, comparisons = summary.summarise(measured.blocks, names, floor=floor, seed=options.seed)
    comparisons += summary.with_reruns(measured.blocks, measured.rerun, names, seed=options.seed)
    floor_names = list({block.variant: None for block in measured.floor_blocks})
    floor_rows, _ = summary.summarise(measured.floor_blocks, floor_names, seed=options.seed)
    cold_rows, cold_comparisons = summary.summarise_cold(measured.cold, seed=options.seed)
    equal = measured.equal
    found = _checks(options, measured, meter, workloads, names[0])
    measured.warnings += _failures(meter)
    measured.warnings += checks.rerun_warnings(measured.rerun)
    if (slow := checks.slow_share(measured.blocks)) > 0:
        slow_blocks = (
            f"{slow:.0%} of the blocks ran while the machine was {checks.SLOW_SPIN} times slower than at its best"
        )
        measured.warnings.append(f"{slow_blocks}: ratios hold, absolute figures are worse than they need be")
    if options.quick:
        measured.warnings.append("--quick: few samples and wide intervals; leave it out for figures to quote")
    return Result(
        kind="bench",
        created=provenance.now_iso(),
        command=options.command,
        machine=provenance.machine(),
        versions=provenance.versions(),
        backing=measured.backing,
        settings=_settings(options, measured, meter, floor)
        | {"descriptions": {own.name: own.description for own in workloads}},
        validity=Validity(all(check.passed for check in found), found),
        variants=tuple(
            results.Variant(v.name, v.prefix, v.function, v.description, v.complexity, v.best_for) for v in variants
        ),
        blocks=(*measured.blocks, *measured.floor_blocks),
        rerun=tuple(measured.rerun),
        summaries=(
            *summaries,
            *_reported(options, measured, workloads[0], names),
            *(equal.summaries() if equal else ()),
            *floor_rows,
            *cold_rows,
        ),
        cold=tuple(measured.cold),
        comparisons=(
            *comparisons,
            *(equal.comparisons() if equal else ()),
            *cold_comparisons,
            *summary.cold_to_warm(measured.cold, workloads[0].name, seed=options.seed),
        ),
        sweeps=tuple(measured.sweeps),
        costs=tuple(equal.costs()) if equal else (),
        sized=tuple(measured.sized),
        growth=tuple(measured.growth),
        worth=tuple(equal.worth()) if equal else (),
        warnings=tuple(measured.warnings),
    )


def _checks(
    options: BenchOptions, measured: Measured, meter: Meter, workloads: Sequence[Workload], baseline: str
) -> tuple[Check, ...]:
    if options.growth:
        return checks.growth_checks(measured.growth)
    if options.sweep:
        return checks.sweep_checks(measured.sweeps, measured.late_shares, baseline=baseline)
    return checks.all_checks(
        options,
        measured.blocks,
        rerun=measured.rerun,
        baseline=baseline,
        counted=[workload.name for workload in workloads if workload.counted],
        cold=measured.cold,
        late_ns=meter.tally.late_ns,
    )


def _floor(measured: Measured) -> dict[str, float]:
    """Cost of the emulator alone, by metric. Its median time is subtracted from every latency percentile, the tail too,
    because not every slow request also met the emulator's own tail."""
    if not measured.floor_blocks:
        return {}
    typical_ms = median(us for block in measured.floor_blocks for us in block.latency_us) / 1000
    requests = sum(block.answered for block in measured.floor_blocks)
    cpu_ms = 1000 * sum(block.cpu_s.get("emulator", 0.0) for block in measured.floor_blocks) / requests
    return {"p50": typical_ms, "p95": typical_ms, "p99": typical_ms, "cpu_per_request": cpu_ms}


def _settings(options: BenchOptions, measured: Measured, meter: Meter, floor: dict[str, float]) -> dict[str, object]:
    return {
        "loop": "open" if options.sweep else options.loop,
        "workers": options.connections if options.rate is not None else options.workers,
        "requests": options.requests,
        "lead": options.lead if options.rate is None else 0,
        "blocks": options.blocks,
        "box_s": options.box_s,
        "rate": options.rate,
        "for_s": options.for_s,
        "arrivals": options.arrivals if options.rate is not None else None,
        "cold_starts": options.cold_starts if options.url is None else 0,
        "keep_alive": options.keep_alive,
        "timeout_s": options.timeout_s,
        "seed": options.seed,
        "quick": options.quick,
        "workload": options.workload.name,
        "template": None if options.url else options.template.name,
        "url": options.url,
        "start_mode": "on-demand",
        "floor": floor,
        "rtt": _rtt(options, measured, meter),
        "load_generator_cpu_us_per_request": round(1e6 * meter.tally.cpu_s / max(1, meter.tally.requests), 2),
    }


def _reported(options: BenchOptions, measured: Measured, workload: Workload, variants: Sequence[str]) -> list[Summary]:
    """Peak memory and mean billed duration from the REPORT lines of a deployed API (`--reports`)."""
    rows = []
    for variant, path in options.reports:
        found = read_reports(path) if path.is_file() else []
        if variant not in variants or not found:
            measured.warnings.append(
                f"--reports {variant}={path}: no REPORT line found, or the variant is not part of this run"
            )
            continue
        most, n = max(own.max_memory_mb for own in found), len(found)
        rows.append(Summary(workload.name, variant, "memory_peak", "MB", most, n=n))
        billed = sum(own.billed_ms for own in found) / n
        rows.append(Summary(workload.name, variant, "billed_duration", "ms", billed, n=n))
    return rows


def _rtt(options: BenchOptions, measured: Measured, meter: Meter) -> dict[str, float] | None:
    """The requested and the measured round trip, and the relay's CPU, which no variant's CPU includes."""
    if measured.distance is None:
        return None
    return {
        "asked_ms": 1000.0 * options.rtt_s,
        "measured_ms": round(1000.0 * measured.distance.calibration.round_trip_s, 3),
        "relay_cpu_us_per_round_trip": round(1e6 * measured.distance.calibration.cpu_s, 1),
        "relay_cpu_us_per_request": round(1e6 * measured.distance.relay.cpu_s / max(1, meter.tally.requests), 1),
    }


def _failures(meter: Meter) -> Iterable[str]:
    for (workload, variant, outcome), count in sorted(meter.tally.outcomes.items()):
        yield f"{workload} {variant}: {count} requests ended with {outcome.name.lower()}"
