"""Checks whether a run is valid: each condition with its figure, its limit and what to do."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median

from warmfront.bench.statistics import percentiles
from warmfront.results import Block, Check, Cold, Growth, Sweep

from .options import BLOCKS, COLD_STARTS, BenchOptions
from .pulse import STALLED

SLOW_SPIN = 1.5
STALLED_SPIN = 2.0  # times the fastest spin; on a machine with two speeds the slower one is below this
SPEED_DIFFERENCE = 0.20
STALLED_BLOCKS = 0.1
LATENESS_SHARE = 0.10
DRIFT = 0.15


def all_checks(
    options: BenchOptions,
    blocks: Sequence[Block],
    *,
    rerun: Sequence[Block] = (),
    baseline: str,
    counted: Sequence[str],
    cold: Sequence[Cold],
    late_ns: Sequence[int],
) -> tuple[Check, ...]:
    """Return all validity checks of a run.

    Args:
        options: of the run.
        blocks: the timed blocks that count.
        rerun: blocks that were discarded because the machine stalled; their errors still count.
        baseline: name of the first variant.
        counted: names of the workloads that are split into `options.blocks` blocks.
        cold: the cold starts.
        late_ns: how late the load generator sent each request, nanoseconds.
    """
    main = [block for block in blocks if block.workload in counted]
    checks = [errors([*blocks, *rerun], baseline), stationary(main), spins(main), stalls(main)]
    checks.append(block_count(main, options))
    if options.rate is None and any(block.environments is not None for block in blocks):
        checks.append(environments(blocks, options.workers))
    if options.rate is not None:
        checks.append(lateness(blocks, late_ns))
    if cold:
        checks.append(cold_count(cold, options))
    return tuple(checks)


def sweep_checks(sweeps: Sequence[Sweep], late_shares: Sequence[float], *, baseline: str) -> tuple[Check, ...]:
    """Return the checks of a sweep. Requests beyond the knee may fail, because the API is overloaded there.

    Args:
        sweeps: the curves.
        late_shares: for each sweep, the generator's p99 lateness divided by the p99 latency, well below the knee.
        baseline: name of the first variant.
    """
    below = [
        (sweep, point)
        for sweep in sweeps
        for point in sweep.points
        if sweep.knee_rate and point.offered_rate <= sweep.knee_rate
    ]
    failed = sum(point.errors for sweep, point in below if sweep.variant != baseline)
    advice = "" if failed == 0 else "the warnings list them"
    found = sum(sweep.knee_rate is not None for sweep in sweeps)
    hint = "" if found == len(sweeps) else "the lowest rate could not be sustained: use a longer --window"
    share = max(late_shares, default=0.0)
    return (
        Check("errors below the knee", failed, 0, "", failed == 0, advice),
        Check("knees found", found, len(sweeps), "", found == len(sweeps), hint),
        Check("lateness", round(share, 4), LATENESS_SHARE, "of p99", share <= LATENESS_SHARE, _lateness_advice(share)),
    )


def growth_checks(growth: Sequence[Growth]) -> tuple[Check, ...]:
    """Return the check of a growth run: enough sizes to fit an order."""
    least = min((len(own.sizes) for own in growth), default=0)
    return (
        Check(
            "sizes", least, 3, "", least >= 3, "" if least >= 3 else "fitting an order needs three sizes: see --rows"
        ),
    )


def errors(blocks: Iterable[Block], baseline: str) -> Check:
    """Check that no candidate had errors. Errors of the baseline are a finding and do not make the run invalid."""
    failed = {f"{block.workload} {block.variant}" for block in blocks if block.errors and block.variant != baseline}
    count = sum(block.errors for block in blocks if block.variant != baseline)
    advice = f"in {', '.join(sorted(failed))}: the warnings list them" if failed else ""
    return Check("errors", count, 0, "", count == 0, advice)


def stationary(blocks: Sequence[Block]) -> Check:
    """Check that latency did not drift between the first and last third of the blocks."""
    found = [percentiles.stationarity(medians) for medians in _medians(blocks).values()]
    drift = max((abs(each.drift) for each in found), default=0.0)
    passed = all(each.stationary for each in found)
    advice = "" if passed else "latency drifted while it was measured; let the machine rest, or warm up longer"
    return Check("stationarity", round(drift, 4), DRIFT, "", passed, advice)


def spins(blocks: Sequence[Block]) -> Check:
    """Check that the machine ran equally fast for all variants.

    A machine with two speeds is common. Interleaved blocks share both speeds among the variants; a variant that got mostly
    the slow one was measured unfairly. A spin during a stall measures the stall instead of the speed, so it is capped.
    """
    most = STALLED_SPIN * min((block.spin_ms for block in blocks), default=0.0)
    speeds = [fmean(min(block.spin_ms, most) for block in own) for own in _by_variant(blocks).values()]
    difference = max(speeds) / min(speeds) - 1 if speeds and min(speeds) > 0 else 0.0
    passed = difference <= SPEED_DIFFERENCE
    advice = "" if passed else "the machine itself was slower under one variant; stop other work on it and run again"
    return Check("machine speed between variants", round(difference, 4), SPEED_DIFFERENCE, "", passed, advice)


def is_stalled(block: Block) -> bool:
    """Tell whether the machine stalled during too large a share of the block."""
    return block.stalled is not None and block.stalled > STALLED


def stalls(blocks: Sequence[Block]) -> Check:
    """Check how many stalled blocks remain after re-runs. On a machine that stalls constantly every block's tail shows it."""
    share = sum(map(is_stalled, blocks)) / len(blocks) if blocks else 0.0
    passed = share <= STALLED_BLOCKS
    advice = (
        ""
        if passed
        else "something outside this machine keeps slowing it down; use another machine, or run again later"
    )
    return Check("stalled blocks", round(share, 4), STALLED_BLOCKS, "of blocks", passed, advice)


def rerun_warnings(blocks: Sequence[Block]) -> list[str]:
    """Return a warning that lists the blocks that were re-run, if any."""
    if not blocks:
        return []
    counts = Counter(f"{block.workload} {block.variant}" for block in blocks)
    where = ", ".join(f"{name} {count}" for name, count in counts.items())
    return [
        f"{len(blocks)} blocks re-run ({where}): the machine stalled for more than {STALLED:.0%} of each"
        " (detected by a CPU heartbeat, independent of latency)"
    ]


def slow_share(blocks: Sequence[Block]) -> float:
    """Return the share of blocks during which the machine was slow."""
    slow = percentiles.slow_spins([block.spin_ms for block in blocks], SLOW_SPIN)
    return sum(slow) / len(slow) if slow else 0.0


def block_count(blocks: Sequence[Block], options: BenchOptions) -> Check:
    wanted = min(options.blocks, BLOCKS)
    counts = [len(medians) for medians in _medians(blocks).values()]
    least = min(counts, default=0)
    return Check("blocks", least, wanted, "", least >= wanted, "" if least >= wanted else "use --blocks and --requests")


def environments(blocks: Iterable[Block], workers: int) -> Check:
    """Check that N workers had N environments; another number means that cold starts happened inside the blocks."""
    off = max((abs(block.environments - workers) for block in blocks if block.environments is not None), default=0)
    advice = "" if off == 0 else "raise the function's concurrency, or lower --workers"
    return Check("environments beside workers", off, 0, "", off == 0, advice)


def lateness(blocks: Sequence[Block], late_ns: Sequence[int]) -> Check:
    """Check that the generator's own lateness, which latencies include, is small compared with them."""
    if not late_ns or not blocks:
        return Check("lateness", 0.0, LATENESS_SHARE, "of p99", True)
    late_us = percentiles.percentile(late_ns, 0.99) / 1000
    smallest = min(
        percentiles.percentile([x for b in own for x in b.latency_us], 0.99) for own in _by_variant(blocks).values()
    )
    share = late_us / smallest if smallest else 0.0
    advice = _lateness_advice(share)
    return Check("lateness", round(share, 4), LATENESS_SHARE, "of p99", share <= LATENESS_SHARE, advice)


def _lateness_advice(share: float) -> str:
    if share <= LATENESS_SHARE:
        return ""
    return "the load generator could not keep its schedule; lower --rate or free a core for it"


def cold_count(cold: Sequence[Cold], options: BenchOptions) -> Check:
    wanted = min(options.cold_starts, COLD_STARTS)
    least = min(one.n for one in cold)
    return Check("cold starts", least, wanted, "", least >= wanted, "" if least >= wanted else "use --cold-starts")


def _medians(blocks: Iterable[Block]) -> Mapping[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for block in blocks:
        if block.latency_us:
            found.setdefault((block.workload, block.variant), []).append(median(block.latency_us))
    return found


def _by_variant(blocks: Iterable[Block]) -> Mapping[tuple[str, str], list[Block]]:
    found: dict[tuple[str, str], list[Block]] = {}
    for block in blocks:
        if block.latency_us:
            found.setdefault((block.workload, block.variant), []).append(block)
    return found
