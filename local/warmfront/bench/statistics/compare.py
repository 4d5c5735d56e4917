"""Compares two results of one kind row by row: faster, slower or not significant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from warmfront.bench.statistics import percentiles, summary
from warmfront.bench.statistics.summary import Figures
from warmfront.results import Comparison, Result, ResultError

Change = Literal["faster", "slower", "not significant", "too few samples", "reference"]
"""reference: the floor or the baseline variant, whose change is attributed to the machine."""
type Key = tuple[str, str]
"""Workload and variant."""
COMPARED = ("p50", "p95", "p99", "throughput", "cpu_per_request", "memory_peak", "cold_p50", "cold_p95")
PERCENTILES = {**summary.PERCENTILES, **summary.COLD_PERCENTILES}
FLOOR = "floor"
NOTED_MIN = 0.05
COMPARABLE_MAX = 0.5  # the references changed by more than this share: the machine was not the same
FEWER_MAX = 3  # samples needed beyond a percentile to claim a change: a cold p95 of 30 starts has only two
ERRORS_MAX = 0.001  # a rise of the error rate above this share of the requests counts as slower


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one variant in both results. `times_better` is above 1 where the second result is better."""

    workload: str
    variant: str
    metric: str
    unit: str
    before: float
    after: float
    times_better: percentiles.Interval
    change: Change


@dataclass(frozen=True, slots=True)
class Outcome:
    """The comparison of two results: its rows, and notes on what limits it."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def slower(self) -> int:
        return sum(row.change == "slower" for row in self.rows)

    @property
    def faster(self) -> int:
        return sum(row.change == "faster" for row in self.rows)


def compare(before: Result, after: Result, *, smallest: float = percentiles.SMALLEST_CLAIM) -> Outcome:
    """Compare two results of one kind, for every workload and variant that both have.

    The runs were measured at different times and are not paired, so a change is claimed only if it exceeds the change of the
    references: the calibration spin, the emulator's floor and the workload's baseline variant, which a change of the
    candidate does not touch.

    Args:
        before: the first result.
        after: the second result.
        smallest: the smallest relative change to claim, e.g. 0.02.

    Raises:
        ResultError: the kinds differ, or no workload and variant is in both.
    """
    if before.kind != after.kind:
        raise ResultError(
            f"a {before.kind} result cannot be compared with a {after.kind} result: measure the same kind twice"
        )
    speed = _speed_change(before, after)
    floor = max(smallest, abs(speed - 1.0), abs(1.0 / speed - 1.0))
    old, new = _figures(before, seed=1), _figures(after, seed=2)
    references = _References(old, new, floor, [variant.name for variant in before.variants])
    rows = [row for key, figures in old.items() if key in new for row in _rows(*key, figures, new[key], references)]
    rows += _error_rows(before, after)
    places = list(old)
    rows.sort(key=lambda row: places.index((row.workload, row.variant)))
    if not rows:
        raise ResultError("the two results have no workload and variant in common: nothing to compare")
    missing = sorted({f"{workload} {variant}" for workload, variant in old.keys() ^ new.keys()})
    notes = [*_notes(before, after, speed, floor, smallest, missing), *references.notes()]
    return Outcome(tuple(rows), tuple(notes))


class _References:
    """How much the parts changed that a candidate's code does not touch, metric by metric."""

    def __init__(
        self, old: Mapping[Key, Figures], new: Mapping[Key, Figures], least: float, order: Sequence[str]
    ) -> None:
        self._old, self._new, self._least = old, new, least
        variants: dict[str, list[str]] = {}
        for workload, variant in old:
            variants.setdefault(workload, []).append(variant)
        self._baselines = {
            workload: found[0] if workload == FLOOR else next(name for name in order if name in found)
            for workload, found in variants.items()
            if workload == FLOOR or (len(found) > 1 and set(order) & set(found))
        }

    def includes(self, workload: str, variant: str) -> bool:
        return self._baselines.get(workload) == variant

    def limit(self, workload: str, metric: str) -> float:
        """The share below which no change of this metric is claimed."""
        keys = [(workload, self._baselines.get(workload, "")), (FLOOR, self._baselines.get(FLOOR, ""))]
        return max([self._least, *(self._changed(key, metric) for key in keys)])

    def _changed(self, key: Key, metric: str) -> float:
        old, new = self._old.get(key, {}).get(metric), self._new.get(key, {}).get(metric)
        if old is None or new is None or min(old.estimate.value, new.estimate.value) <= 0:
            return 0.0
        return max(old.estimate.value, new.estimate.value) / min(old.estimate.value, new.estimate.value) - 1.0

    def notes(self) -> list[str]:
        changed = {key: self._changed(key, "p50") for key in self._baselines.items()}
        found = [
            f"{workload} {variant}, which no candidate's code touches, changed by {share:.0%} at p50: "
            "smaller changes of the others are not claimed"
            for (workload, variant), share in changed.items()
            if share > max(self._least, NOTED_MIN)
        ]
        if max(changed.values(), default=0.0) > COMPARABLE_MAX:
            found.append("these two runs cannot be compared: measure both versions in one interleaved run")
        return found


def _figures(result: Result, *, seed: int) -> dict[tuple[str, str], Figures]:
    """(workload, variant) -> figures. Each run is resampled with its own seed, because the two are independent."""
    found = {}
    blocks = [block for block in result.blocks if block.latency_us]
    for key in dict.fromkeys((block.workload, block.variant) for block in blocks):
        found[key] = summary.figures_of(
            [block for block in blocks if (block.workload, block.variant) == key], seed=seed
        )
    for cold in result.cold:
        if cold.samples:
            found[summary.cold_workload(cold), cold.variant] = summary.cold_figures_of(cold, seed=seed)
    return found


def _rows(workload: str, variant: str, old: Figures, new: Figures, references: _References) -> list[Row]:
    compared = summary.compare_figures(workload, "before", "after", old, new)
    rows = []
    for found in compared:
        if found.metric in COMPARED:
            few = min(_beyond(found.metric, old), _beyond(found.metric, new)) < FEWER_MAX
            times = percentiles.Interval(found.ratio, found.low, found.high)
            change: Change = "too few samples"
            if references.includes(workload, variant):
                change = "reference"
            elif not few:
                change = _change(found, old, new, references.limit(workload, found.metric))
            rows.append(
                Row(
                    workload,
                    variant,
                    found.metric,
                    found.unit,
                    found.baseline_value,
                    found.candidate_value,
                    times,
                    change,
                )
            )
    return rows


def _beyond(metric: str, figures: Figures) -> float:
    q = PERCENTILES.get(metric)
    return figures[metric].n * (1.0 - q) if q is not None else float("inf")


def _change(found: Comparison, old: Figures, new: Figures, floor: float) -> Change:
    above, below = old[found.metric], new[found.metric]
    if min(above.estimate.blocks, below.estimate.blocks) < 2:
        return "too few samples"
    if found.metric in summary.HIGHER_IS_BETTER:
        above, below = below, above
    claim = percentiles.claim(percentiles.ratio(above.estimate, below.estimate, percentiles.CLAIM_CONFIDENCE), floor)
    changes: dict[percentiles.Claim, Change] = {
        "better": "faster",
        "worse": "slower",
        "not significant": "not significant",
    }
    return changes[claim]


def _error_rows(before: Result, after: Result) -> list[Row]:
    """Rows for changed error rates only. Failing requests are fast, and must not make a run count as faster."""
    shares = [_error_shares(result) for result in (before, after)]
    rows = []
    for (workload, variant), old in shares[0].items():
        new = shares[1].get((workload, variant))
        if new is not None and abs(new - old) > ERRORS_MAX:
            times = percentiles.Interval(1.0, 1.0, 1.0)
            change: Change = "slower" if new > old else "faster"
            rows.append(Row(workload, variant, "errors", "%", 100 * old, 100 * new, times, change))
    return rows


def _error_shares(result: Result) -> dict[tuple[str, str], float]:
    counted: dict[tuple[str, str], tuple[int, int]] = {}
    for block in result.blocks:
        errors, requests = counted.get((block.workload, block.variant), (0, 0))
        counted[block.workload, block.variant] = errors + block.errors, requests + block.answered
    return {key: errors / requests for key, (errors, requests) in counted.items() if requests}


def _speed_change(before: Result, after: Result) -> float:
    """Ratio of the calibration spin's time, second run to first; 1 where it is unknown."""
    spins = [[block.spin_ms for block in result.blocks if block.spin_ms > 0] for result in (before, after)]
    return median(spins[1]) / median(spins[0]) if all(spins) else 1.0


def _notes(before: Result, after: Result, speed: float, floor: float, smallest: float, missing: list[str]) -> list[str]:
    notes = [
        f"the {which} run was not valid: {', '.join(check.name for check in result.validity.checks if not check.passed)}"
        for which, result in (("first", before), ("second", after))
        if not result.validity.valid
    ]
    if before.machine.get("cpu") != after.machine.get("cpu"):
        notes.append(f"measured on different machines: {before.machine.get('cpu')} and {after.machine.get('cpu')}")
    if floor > smallest:
        slower = "slower" if speed > 1 else "faster"
        notes.append(
            f"the machine was {abs(speed - 1):.0%} {slower} in the second run: smaller changes count as not significant"
        )
    notes += [f"setting {text}" for text in _different(before.settings, after.settings)]
    if missing:
        notes.append(f"in only one of the two results: {', '.join(missing)}")
    return notes


def _different(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    plain = (str, int, float, bool, type(None))
    shared = [name for name in old if name in new and isinstance(old[name], plain) and isinstance(new[name], plain)]
    return [f"{name} differs: {old[name]} and {new[name]}" for name in shared if old[name] != new[name]]


def render(outcome: Outcome) -> str:
    """Format a comparison as a text table with its notes."""
    width = max(len(f"{row.workload} {row.variant}") for row in outcome.rows) + 2
    head = "".ljust(width) + "metric".ljust(17) + "before".rjust(10) + "after".rjust(10) + "  times better, 95 %"
    lines = [head]
    last = ""
    for row in outcome.rows:
        name = f"{row.workload} {row.variant}"
        times = f"{row.times_better.value:.2f} {row.times_better.low:.2f}–{row.times_better.high:.2f}"
        values = f"{_number(row.before):>10}{_number(row.after):>10}"
        label = (name if name != last else "").ljust(width) + row.metric.ljust(17)
        lines.append(f"{label}{values}  {times:<19} {row.change}")
        last = name
    rest = sum(row.change in ("not significant", "too few samples") for row in outcome.rows)
    lines += ["", f"{outcome.slower} slower, {outcome.faster} faster, {rest} not significant"]
    return "\n".join([*lines, *(f"note: {note}" for note in outcome.notes)]) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
