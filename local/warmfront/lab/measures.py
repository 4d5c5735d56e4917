"""Computes the figures that criteria refer to, from the samples of a run. Pure functions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from warmfront.lab.experiments import Phases

FAST_REFUSAL_S = 0.2  # a rejection within this waited for nothing; far below every timeout that an experiment sets
BIN_S = 0.25
SETTLED_S = 0.3  # a failure this close to the end means that no recovery was observed


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: its due time in seconds from the start of the run, and how long its caller waited."""

    due_s: float
    latency_s: float
    status: int
    """0: no response (timeout, connection refused or broken)."""
    ok: bool
    wrong_body: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """The samples that were due in one phase, and the phase's length."""

    samples: Sequence[Sample]
    length_s: float
    budget_s: float

    def latencies_ms(self) -> list[float]:
        return sorted(sample.latency_s * 1000 for sample in self.samples)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the quantile by nearest rank; NaN if there are no values."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _share(samples: Sequence[Sample], matches: Callable[[Sample], bool]) -> float:
    return sum(map(matches, samples)) / len(samples) if samples else math.nan


PHASE_MEASURES: dict[str, Callable[[Window], float]] = {
    "requests": lambda window: float(len(window.samples)),
    "p50_ms": lambda window: quantile(window.latencies_ms(), 0.5),
    "p99_ms": lambda window: quantile(window.latencies_ms(), 0.99),
    "max_ms": lambda window: quantile(window.latencies_ms(), 1),
    "ok_share": lambda window: _share(window.samples, lambda sample: sample.ok),
    "goodput": lambda window: (
        sum(sample.ok and sample.latency_s <= window.budget_s for sample in window.samples) / window.length_s
    ),
    "wrong_bodies": lambda window: float(sum(sample.wrong_body for sample in window.samples)),
    "no_answer_share": lambda window: _share(window.samples, lambda sample: sample.status == 0),
    "error_500_share": lambda window: _share(window.samples, lambda sample: sample.status in (500, 502)),
}


def measure(samples: Sequence[Sample], phases: Phases, *, budget_ms: float) -> dict[str, float]:
    """Return all figures by the names that criteria use.

    Args:
        samples: in the order of their due times.
        phases: lengths of the phases in seconds.
        budget_ms: a slower response counts as failed.
    """
    budget_s = budget_ms / 1000
    found: dict[str, float] = {}
    for name, window in windows(samples, phases, budget_s).items():
        for measure_name, of in PHASE_MEASURES.items():
            found[f"{name}.{measure_name}"] = of(window)
    found["recovery_s"] = recovery_s(samples, phases, budget_s)
    found["refuses_after_s"] = refuses_after_s(samples, phases)
    found["goodput_kept"] = _ratio(found["during.goodput"], found["before.goodput"])
    found["p99_after_ratio"] = _ratio(found["after.p99_ms"], found["before.p99_ms"])
    return found


def windows(samples: Sequence[Sample], phases: Phases, budget_s: float) -> dict[str, Window]:
    bounds = {
        "before": (0.0, phases.fault_on_s),
        "during": (phases.fault_on_s, phases.fault_off_s),
        "after": (phases.fault_off_s, math.inf),
    }
    lengths = {"before": phases.before_s, "during": phases.during_s, "after": phases.after_s}
    return {
        name: Window([s for s in samples if low <= s.due_s < high], max(lengths[name], 1e-9), budget_s)
        for name, (low, high) in bounds.items()
    }


def recovery_s(samples: Sequence[Sample], phases: Phases, budget_s: float) -> float:
    """Return seconds from the fault's end to the last request that failed or exceeded the budget; inf: never recovered."""
    after = [sample for sample in samples if sample.due_s >= phases.fault_off_s]
    bad = [sample.due_s for sample in after if not sample.ok or sample.latency_s > budget_s]
    if not after:
        return math.nan
    if not bad:
        return 0.0
    last_bad_s, last_s = max(bad), max(sample.due_s for sample in after)
    return math.inf if last_s - last_bad_s < SETTLED_S else last_bad_s - phases.fault_off_s


def refuses_after_s(samples: Sequence[Sample], phases: Phases) -> float:
    """Return seconds from the fault's start to the first immediate rejection, as an open breaker gives; inf: never."""
    refused = (
        sample.due_s + sample.latency_s
        for sample in samples
        if sample.due_s >= phases.fault_on_s and sample.status == 503 and sample.latency_s < FAST_REFUSAL_S
    )
    return min(refused, default=math.inf) - phases.fault_on_s


def _ratio(figure: float, base: float) -> float:
    return figure / base if base else math.nan


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    unit: str
    t_s: tuple[float, ...]
    values: tuple[float, ...]


def curves(samples: Sequence[Sample], end_s: float) -> list[Curve]:
    """Return throughput, errors and p99 over time, in bins of a quarter of a second."""
    bins: Mapping[int, list[Sample]] = {number: [] for number in range(math.ceil(end_s / BIN_S))}
    for sample in samples:
        if (number := int(sample.due_s / BIN_S)) in bins:
            bins[number].append(sample)
    t_s = tuple((number + 0.5) * BIN_S for number in bins)
    served = tuple(sum(s.ok for s in each) / BIN_S for each in bins.values())
    failed = tuple(sum(not s.ok for s in each) / BIN_S for each in bins.values())
    waits = (sorted(sample.latency_s * 1000 for sample in each) for each in bins.values())
    tails = [(at, quantile(wait, 0.99)) for at, wait in zip(t_s, waits, strict=True)]
    known = [(at, value) for at, value in tails if not math.isnan(value)]
    return [
        Curve("throughput", "1/s", t_s, served),
        Curve("errors", "1/s", t_s, failed),
        Curve("p99", "ms", tuple(at for at, _ in known), tuple(value for _, value in known)),
    ]
