"""Compares environments, memory and cost of variants that are offered the same rate.

Concurrency is rate times latency: whoever answers slowly needs more environments, each with its memory and its connection.
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
CURVE_SHARES = (0.2, 0.45)  # of the knee, beside KNEE_SHARE
CURVE_ROUNDS = 1
WORTH_RATES = (1.0, 10.0, 100.0, 1000.0)
WORTH_QUANTILE = 0.999


@dataclass(frozen=True, slots=True)
class Look:
    """One variant at one rate in one round: what the load needed, and what just so many environments held."""

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
    """All looks of one workload, and what they add up to."""

    workload: str
    variants: Sequence[str]
    prices: Prices
    seed: int = 0
    looks: list[Look] = field(default_factory=list)

    def of(self, variant: str, share: float = KNEE_SHARE) -> list[Look]:
        return [own for own in self.looks if own.variant == variant and own.share == share]

    # Figures and ratios

    def figures(self) -> dict[str, Figures]:
        rounds = {name: self.of(name) for name in self.variants}
        return {name: _figures(own, self.seed) | self._billed_figures(own) for name, own in rounds.items() if own}

    def _billed_figures(self, looks: Sequence[Look]) -> Figures:
        """What Lambda bills: GB-seconds and dollars (first architecture of the price list) per million requests."""
        bills = [self._usage([own], own.rate, own.footprint.environments) for own in looks]
        gb_seconds = [bill.gb_seconds_per_million(self.prices) for bill in bills]
        dollars = [next(iter(bill.usd_per_million(self.prices).values())) for bill in bills]
        drawn = _drawn_or_one(len(looks), self.seed)
        return {
            GB_SECONDS: _figure(GB_SECONDS, "GB-s/million", gb_seconds, drawn),
            USD: _figure(USD, "USD/million", dollars, drawn),
        }

    def summaries(self) -> list[Summary]:
        rows = []
        for variant, figures in self.figures().items():
            for figure in figures.values():
                around = figure.estimate.interval()
                values = (around.value, around.low, around.high)
                rows.append(Summary(self.workload, variant, figure.metric, figure.unit, *values, figure.n))
        return rows

    def comparisons(self) -> list[Comparison]:
        """Each against the first, round by round; then each against itself, its even rounds against its odd ones."""
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
            even, odd = self.of(name)[0::2], self.of(name)[1::2]
            if len(even) == len(odd) >= 2:
                halves = [{METRIC: _figures(own, self.seed)[METRIC]} for own in (even, odd)]
                rows += compare_figures(self.workload, name, name, *halves, drawn=_draws(len(odd), self.seed))
        return rows

    def _drawn(self, one: str, other: str) -> percentiles.IntArray | None:
        counts = {len(self.of(one)), len(self.of(other))}
        return _draws(counts.pop(), self.seed) if len(counts) == 1 else None

    # Costs

    def costs(self) -> list[Cost]:
        found = []
        for share in sorted({own.share for own in self.looks}):
            found += [self._cost(self.of(name, share)) for name in self.variants if self.of(name, share)]
        return found

    def _cost(self, looks: Sequence[Look]) -> Cost:
        usage = self._usage(looks, looks[0].rate, fmean(own.footprint.environments for own in looks))
        parts = looks[0].memory_mb
        return Cost(
            workload=self.workload,
            variant=looks[0].variant,
            offered_rate=looks[0].rate,
            environments=usage.environments,
            connections=fmean(own.footprint.connections for own in looks),
            memory_mb={part: fmean(own.memory_mb[part] for own in looks) for part in parts},
            gb_seconds_per_million=usage.gb_seconds_per_million(self.prices),
            usd_per_million=usage.usd_per_million(self.prices),
            **source_of(self.prices),
        )

    def _usage(self, looks: Sequence[Look], rate: float, environments: float) -> Usage:
        """Without REPORT lines the client's own times stand in: more than would be billed."""
        bills = [report for own in looks for report in own.reports]
        service_ms = [us / 1000.0 for own in looks for us in own.offered.recording.service_us()]
        inits = [report.init_ms for report in bills if report.init_ms is not None]
        warm = [report for report in bills if report.init_ms is None]
        return Usage(
            rate=rate,
            environments=environments,
            billed_ms=fmean(one.billed_ms for one in warm) if warm else fmean(map(math.ceil, service_ms)),
            init_ms=fmean(inits) if inits else 0.0,
            memory_mb=bills[0].memory_size_mb if bills else self.prices.assumed.memory_mb,
        )

    # What it would be worth

    def worth(self) -> list[Worth]:
        """At rates that were not run, from unhurried requests."""
        calmest = min((own.share for own in self.looks), default=KNEE_SHARE)
        found = []
        for rate in WORTH_RATES:
            for name in self.variants:
                looks = self.of(name, calmest)
                if looks:
                    found.append(self._worth(name, rate, looks))
        return found

    def _worth(self, name: str, rate: float, looks: Sequence[Look]) -> Worth:
        service_us = [us for own in looks for us in own.offered.recording.service_us()]
        environments = max(1, poisson_quantile(rate * fmean(service_us) / 1e6, WORTH_QUANTILE))
        # A connection for each environment that works, whoever opens it; more only where a variant was seen to hold more.
        each = max(1.0, max(own.footprint.connections / max(1, own.footprint.environments) for own in looks))
        every = [own for own in self.looks if own.variant == name]
        usage = self._usage(looks, rate, environments)
        init_ms = max(usage.init_ms, self._usage(every, rate, environments).init_ms)
        usage = Usage(rate, environments, usage.billed_ms, init_ms, usage.memory_mb)
        return Worth(
            workload=self.workload,
            variant=name,
            rate=rate,
            environments=float(environments),
            connections=math.ceil(environments * each),
            database_cores=_database_cores(looks, rate),
            usd_per_month=usage.usd_per_month(self.prices),
            p50_ms=median(service_us) / 1000.0,
        )


def _database_cores(looks: Sequence[Look], rate: float) -> float | None:
    requests = sum(len(own.offered.recording) for own in looks)
    if not requests or any("postgres" not in own.offered.cpu_s for own in looks):
        return None
    return rate * sum(own.offered.cpu_s["postgres"] for own in looks) / requests


def plan_of(knee_rate: float, rounds: int) -> list[tuple[float, float, int]]:
    """(share, rate, rounds) of the curve, slow rates first."""
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


def _figures(looks: Sequence[Look], seed: int) -> Figures:
    drawn = _drawn_or_one(len(looks), seed)

    def figure(metric: str, unit: str, value: Callable[[Look], float]) -> Figure:
        return _figure(metric, unit, [value(own) for own in looks], drawn)

    def of_part(part: str) -> Figure:
        return figure(f"{METRIC}/{part}", "MB", lambda own: own.memory_mb[part])

    found = [figure(METRIC, "MB", lambda own: own.footprint.whole_bytes / MIB)]
    found += [of_part(part) for part in looks[0].footprint.pss_bytes]
    found.append(figure(NEEDED, "1", lambda own: float(own.footprint.environments)))
    return {own.metric: own for own in found}
