"""Compares environments, memory and cost of variants that are offered the same rate.

Concurrency is rate times latency, so a slower variant needs more environments, each with its own memory and connection.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

import numpy as np

from warmfront.bench.sizing.prices import Prices, Usage, source_of
from warmfront.bench.sizing.queueing import poisson_quantile
from warmfront.bench.statistics import percentiles
from warmfront.bench.statistics.summary import MIB, Figure, Figures, compare_figures
from warmfront.results import Comparison, Cost, Summary, Worth

from .blocks import Footprint
from .offered import Offered
from .report_lines import Report

METRIC = "memory_at_equal_load"
NEEDED = "environments_at_equal_load"
GB_SECONDS = "gb_seconds"
USD = "usd_per_million"
KNEE_SHARE = 0.7
CURVE_SHARES = (0.2, 0.45)  # of the knee, in addition to KNEE_SHARE
CURVE_ROUNDS = 1
WORTH_RATES = (1.0, 10.0, 100.0, 1000.0)
WORTH_QUANTILE = 0.999


@dataclass(frozen=True, slots=True)
class Observation:
    """One variant at one rate in one round: the environments that the load needed, and the memory of that many."""

    variant: str
    share: float  # of the baseline's knee
    rate: float
    offered: Offered
    footprint: Footprint
    reports: tuple[Report, ...] = ()

    @property
    def memory_mb(self) -> dict[str, float]:
        return {part: size / MIB for part, size in self.footprint.pss_bytes.items()}


@dataclass(slots=True)
class EqualLoad:
    """All observations of one workload, and the figures, costs and projections computed from them."""

    workload: str
    variants: Sequence[str]
    prices: Prices
    seed: int = 0
    observations: list[Observation] = field(default_factory=list)

    def of_variant(self, variant: str, share: float = KNEE_SHARE) -> list[Observation]:
        """Return a variant's observations at a share of the knee."""
        return [own for own in self.observations if own.variant == variant and own.share == share]

    # Figures and ratios

    def figures(self) -> dict[str, Figures]:
        """Return memory, environments and bill at the main rate, by variant."""
        rounds = {name: self.of_variant(name) for name in self.variants}
        return {name: _figures(own, self.seed) | self._billed_figures(own) for name, own in rounds.items() if own}

    def _billed_figures(self, observations: Sequence[Observation]) -> Figures:
        """GB-seconds and dollars per million requests that Lambda bills, at the price list's first architecture."""
        bills = [self._usage([own], own.rate, own.footprint.environments) for own in observations]
        gb_seconds = [bill.gb_seconds_per_million(self.prices) for bill in bills]
        dollars = [next(iter(bill.usd_per_million(self.prices).values())) for bill in bills]
        drawn = _drawn_or_one(len(observations), self.seed)
        return {
            GB_SECONDS: _figure(GB_SECONDS, "GB-s/million", gb_seconds, drawn),
            USD: _figure(USD, "USD/million", dollars, drawn),
        }

    def summaries(self) -> list[Summary]:
        """Return the figures as rows of a result."""
        rows = []
        for variant, figures in self.figures().items():
            for figure in figures.values():
                around = figure.estimate.interval()
                values = (around.value, around.low, around.high)
                rows.append(Summary(self.workload, variant, figure.metric, figure.unit, *values, figure.n))
        return rows

    def comparisons(self) -> list[Comparison]:
        """Compare each variant with the first, round by round, and each with itself, even rounds with odd ones (A/A)."""
        figures = self.figures()
        rows: list[Comparison] = []
        names = list(figures)
        for candidate in names[1:]:
            rows += compare_figures(
                self.workload,
                names[0],
                candidate,
                figures[names[0]],
                figures[candidate],
                drawn=self._drawn(names[0], candidate),
            )
        for name in names:
            even, odd = self.of_variant(name)[0::2], self.of_variant(name)[1::2]
            if len(even) == len(odd) >= 2:
                halves = [{METRIC: _figures(own, self.seed)[METRIC]} for own in (even, odd)]
                rows += compare_figures(self.workload, name, name, *halves, drawn=_draws(len(odd), self.seed))
        return rows

    def _drawn(self, one: str, other: str) -> percentiles.IntArray | None:
        counts = {len(self.of_variant(one)), len(self.of_variant(other))}
        return _draws(counts.pop(), self.seed) if len(counts) == 1 else None

    # Costs

    def costs(self) -> list[Cost]:
        """Return the cost of each variant at each rate that was run."""
        found = []
        for share in sorted({own.share for own in self.observations}):
            found += [
                self._cost(self.of_variant(name, share)) for name in self.variants if self.of_variant(name, share)
            ]
        return found

    def _cost(self, observations: Sequence[Observation]) -> Cost:
        usage = self._usage(
            observations, observations[0].rate, fmean(own.footprint.environments for own in observations)
        )
        parts = observations[0].memory_mb
        return Cost(
            workload=self.workload,
            variant=observations[0].variant,
            offered_rate=observations[0].rate,
            environments=usage.environments,
            connections=fmean(own.footprint.connections for own in observations),
            memory_mb={part: fmean(own.memory_mb[part] for own in observations) for part in parts},
            gb_seconds_per_million=usage.gb_seconds_per_million(self.prices),
            usd_per_million=usage.usd_per_million(self.prices),
            **source_of(self.prices),
        )

    def _usage(self, observations: Sequence[Observation], rate: float, environments: float) -> Usage:
        """Usage from REPORT lines; without them from the client's times, which are longer than the billed ones."""
        bills = [report for own in observations for report in own.reports]
        service_ms = [us / 1000.0 for own in observations for us in own.offered.recording.service_us()]
        inits = [report.init_ms for report in bills if report.init_ms is not None]
        warm = [report for report in bills if report.init_ms is None]
        return Usage(
            rate=rate,
            environments=environments,
            billed_ms=fmean(one.billed_ms for one in warm) if warm else fmean(map(math.ceil, service_ms)),
            init_ms=fmean(inits) if inits else 0.0,
            memory_mb=bills[0].memory_size_mb if bills else self.prices.assumed.memory_mb,
        )

    # Projection

    def worth(self) -> list[Worth]:
        """Project environments, connections and dollars to other rates, from service times at the lowest rate."""
        calmest = min((own.share for own in self.observations), default=KNEE_SHARE)
        found = []
        for rate in WORTH_RATES:
            for name in self.variants:
                observations = self.of_variant(name, calmest)
                if observations:
                    found.append(self._worth(name, rate, observations))
        return found

    def _worth(self, name: str, rate: float, observations: Sequence[Observation]) -> Worth:
        service_us = [us for own in observations for us in own.offered.recording.service_us()]
        environments = max(1, poisson_quantile(rate * fmean(service_us) / 1e6, WORTH_QUANTILE))
        # One connection for each busy environment, or more where the variant was observed to hold more.
        each = max(1.0, max(own.footprint.connections / max(1, own.footprint.environments) for own in observations))
        every = [own for own in self.observations if own.variant == name]
        usage = self._usage(observations, rate, environments)
        init_ms = max(usage.init_ms, self._usage(every, rate, environments).init_ms)
        usage = Usage(rate, environments, usage.billed_ms, init_ms, usage.memory_mb)
        return Worth(
            workload=self.workload,
            variant=name,
            rate=rate,
            environments=float(environments),
            connections=math.ceil(environments * each),
            database_cores=_database_cores(observations, rate),
            usd_per_month=usage.usd_per_month(self.prices),
            p50_ms=median(service_us) / 1000.0,
        )


def _database_cores(observations: Sequence[Observation], rate: float) -> float | None:
    requests = sum(len(own.offered.recording) for own in observations)
    if not requests or any("postgres" not in own.offered.cpu_s for own in observations):
        return None
    return rate * sum(own.offered.cpu_s["postgres"] for own in observations) / requests


def plan_of(knee_rate: float, rounds: int) -> list[tuple[float, float, int]]:
    """Return (share of the knee, rate in 1/s, rounds) of the rates to run, lowest first."""
    shares = [(share, CURVE_ROUNDS) for share in CURVE_SHARES] + [(KNEE_SHARE, rounds)]
    return [(share, share * knee_rate, count) for share, count in shares]


def _draws(rounds: int, seed: int) -> percentiles.IntArray | None:
    return percentiles.draws(rounds, seed=seed) if rounds > 1 else None


def _drawn_or_one(rounds: int, seed: int) -> percentiles.IntArray:
    drawn = _draws(rounds, seed)
    return np.ones((1, 1), dtype=np.int64) if drawn is None else drawn


def _figure(metric: str, unit: str, values: Sequence[float], drawn: percentiles.IntArray) -> Figure:
    array = np.array(values)
    return Figure(metric, unit, percentiles.quotient_estimate(array, np.ones(len(values)), drawn), len(values), array)


def _figures(observations: Sequence[Observation], seed: int) -> Figures:
    drawn = _drawn_or_one(len(observations), seed)

    def figure(metric: str, unit: str, value: Callable[[Observation], float]) -> Figure:
        return _figure(metric, unit, [value(own) for own in observations], drawn)

    def of_part(part: str) -> Figure:
        return figure(f"{METRIC}/{part}", "MB", lambda own: own.memory_mb[part])

    found = [figure(METRIC, "MB", lambda own: own.footprint.whole_bytes / MIB)]
    found += [of_part(part) for part in observations[0].footprint.pss_bytes]
    found.append(figure(NEEDED, "1", lambda own: float(own.footprint.environments)))
    return {own.metric: own for own in found}
