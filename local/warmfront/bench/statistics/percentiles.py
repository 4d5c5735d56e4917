"""Percentiles and their confidence intervals from blocks of samples.

A percentile here is the nearest rank (the inverse of the empirical distribution): the smallest sample that at least the
share q of all samples do not exceed. So every printed latency is one that some request had.

Requests of one run are not independent, blocks nearly are: intervals come from resampling blocks, never requests. A
bootstrap of requests called 19 of 20 identical pairs different on a busy machine; interleaved blocks called none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Claim = Literal["better", "worse", "not significant"]

RESAMPLES = 1000
CONFIDENCE = 0.95
CLAIM_CONFIDENCE = 0.99  # for "better" and "worse": a table has dozens of rows, and each is a chance to be wrong
ROUNDS_FOR_BOOTSTRAP = 10
SMALLEST_CLAIM = 0.02  # a shared machine cannot be held to differences below this, however narrow the interval
BEYOND_MIN = 15  # samples that must lie beyond a percentile before it is shown as one
_STRIDE = 64  # sorted samples per step of the search grid
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Interval:
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Stationarity:
    """`drift`: median of the last third of the blocks over that of the first third, minus 1."""

    drift: float
    trend_z: float
    stationary: bool


def percentile(samples: ArrayLike, q: float) -> float:
    values = np.asarray(samples)
    if values.size == 0:
        raise ValueError("no samples: a percentile of nothing was asked for")
    rank = _rank(q, values.size)
    return float(np.partition(values, rank - 1)[rank - 1])


def _rank(q: float, n: int) -> int:
    """1-based nearest rank; the tolerance keeps 0.99 x 10,000 at 9,900 in spite of binary fractions."""
    return min(n, max(1, math.ceil(q * n - 1e-9 * n)))


def samples_needed(q: float) -> int:
    """Below this many samples a percentile is printed greyed: too few requests lie beyond it."""
    return math.ceil(round(BEYOND_MIN / (1.0 - q), 6)) if q < 1.0 else 1


def order_statistics_interval(samples: ArrayLike, q: float, confidence: float = CONFIDENCE) -> Interval:
    """Exact binomial interval of one run's percentile, for independent samples (cold starts)."""
    values = np.sort(np.asarray(samples, dtype=np.float64))
    low, high = order_statistics_ranks(values.size, q, confidence)
    return Interval(percentile(values, q), float(values[low - 1]), float(values[high - 1]))


def order_statistics_ranks(n: int, q: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """1-based ranks whose samples enclose the true percentile; clipped to the samples there are."""
    tail = (1.0 - confidence) / 2.0
    cumulative = _binomial_cdf(n, q)
    low = int(np.searchsorted(cumulative, tail))
    high = int(np.searchsorted(cumulative, 1.0 - tail)) + 1
    return max(1, low), min(n, high)


def _binomial_cdf(n: int, p: float) -> FloatArray:
    k = np.arange(n)
    log_steps = np.log((n - k) / (k + 1.0)) + math.log(p / (1.0 - p))
    log_pmf = np.concatenate(([0.0], np.cumsum(log_steps))) + n * math.log1p(-p)
    cumulative: FloatArray = np.minimum(np.cumsum(np.exp(log_pmf)), 1.0)
    return cumulative


def draws(blocks: int, resamples: int = RESAMPLES, seed: int = 0) -> IntArray:
    """resamples x blocks: how often each block was drawn. Variants that share a row of it are paired."""
    if blocks < 2:
        raise ValueError(f"{blocks} block(s): an interval needs at least 2 blocks")
    generator = np.random.default_rng(seed)
    return generator.multinomial(blocks, np.full(blocks, 1.0 / blocks), size=resamples).astype(np.int64)


class PooledBlocks:
    """All samples of one variant, sorted once, so that any resample of its blocks has its exact percentiles cheaply.

    A grid over the sorted samples holds how many of each block's samples lie before it; one matrix product counts them
    for every resample, and only the 64 samples of one grid step are then looked at one by one.
    """

    def __init__(self, blocks: Sequence[ArrayLike]) -> None:
        arrays = [np.asarray(block, dtype=np.int64) for block in blocks]
        self.sizes = np.array([array.size for array in arrays], dtype=np.int64)
        if self.sizes.sum() == 0:
            raise ValueError("no samples in any block")
        values = np.concatenate(arrays)
        owner = np.repeat(np.arange(len(arrays)), self.sizes)
        by_value = np.argsort(values, kind="stable")
        self._values = values[by_value]
        self._owner = owner[by_value]
        self._grid = self._count_before_grid(len(arrays))

    def _count_before_grid(self, blocks: int) -> IntArray:
        steps = -(-self._values.size // _STRIDE)
        cell = np.arange(self._values.size) // _STRIDE
        per_cell = np.bincount(self._owner * steps + cell, minlength=blocks * steps).reshape(blocks, steps)
        return np.concatenate((np.zeros((blocks, 1), dtype=np.int64), np.cumsum(per_cell, axis=1)), axis=1)

    def __len__(self) -> int:
        return int(self._values.size)

    def percentile(self, q: float) -> float:
        return float(self._values[_rank(q, self._values.size) - 1])

    @property
    def largest(self) -> float:
        return float(self._values[-1])

    def resampled_percentile(self, q: float, drawn: IntArray) -> FloatArray:
        """The percentile of every resample; NaN where only empty blocks were drawn."""
        totals = drawn @ self.sizes
        ranks = np.maximum(1, np.ceil(q * totals - 1e-9 * totals)).astype(np.int64)
        # Counts stay far below 2**53, so the product may run in floating point, where it is fast, and is still exact.
        before = drawn.astype(np.float64) @ self._grid.astype(np.float64)
        cell = (before < ranks[:, None]).sum(axis=1) - 1
        cell = np.minimum(cell, self._grid.shape[1] - 2)
        position = np.minimum(cell[:, None] * _STRIDE + np.arange(_STRIDE)[None, :], self._values.size - 1)
        weights = np.take_along_axis(drawn, self._owner[position], axis=1)
        reached = np.take_along_axis(before, cell[:, None], axis=1) + np.cumsum(weights, axis=1)
        offset = (reached < ranks[:, None]).sum(axis=1)
        found = self._values[np.minimum(cell * _STRIDE + offset, self._values.size - 1)].astype(np.float64)
        return np.where(totals > 0, found, np.nan)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, what it became in each resample, and how many blocks stand behind it."""

    value: float
    resampled: FloatArray
    blocks: int

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The percentile interval, widened for the number of blocks."""
        tail = _tail(self.blocks, confidence)
        known = self.resampled[np.isfinite(self.resampled)]
        if known.size == 0:
            return Interval(self.value, self.value, self.value)
        low, high = np.quantile(known, (tail, 1.0 - tail))
        return Interval(self.value, min(float(low), self.value), max(float(high), self.value))

    def less(self, known: float) -> "Estimate":
        """This figure net of another that is taken as known."""
        return Estimate(self.value - known, self.resampled - known, self.blocks)


def percentile_estimate(pooled: PooledBlocks, q: float, drawn: IntArray) -> Estimate:
    return Estimate(pooled.percentile(q), pooled.resampled_percentile(q, drawn), drawn.shape[1])


def quotient_estimate(numerators: ArrayLike, denominators: ArrayLike, drawn: IntArray) -> Estimate:
    """sum / sum over blocks: requests per second, CPU per request, a mean."""
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if below.sum() == 0:
        raise ValueError("a quotient over blocks that hold nothing was asked for")
    return Estimate(float(above.sum() / below.sum()), _quotient(drawn @ above, drawn @ below), drawn.shape[1])


def _quotient(above: FloatArray, below: FloatArray) -> FloatArray:
    quotient: FloatArray = np.full(above.shape, np.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient


def ratio(above: Estimate, below: Estimate, confidence: float = CONFIDENCE) -> Interval:
    """above / below with its interval; paired where both were resampled with the same draws."""
    if below.value <= 0:
        raise ValueError(f"a ratio over {below.value} was asked for")
    quotient = Estimate(
        above.value / below.value, _quotient(above.resampled, below.resampled), min(above.blocks, below.blocks)
    )
    return quotient.interval(confidence)


def _tail(blocks: int, confidence: float) -> float:
    """Percentile intervals of few blocks are too narrow; this widens them as a t interval is wider than a normal one.

    Hesterberg, What Teachers Should Know about the Bootstrap (2014), section 3.3: the expanded percentile interval.
    """
    freedom = max(1, blocks - 1)
    t = student_t_quantile((1.0 + confidence) / 2.0, freedom)
    return _NORMAL.cdf(-math.sqrt(blocks / freedom) * t)


def student_t_quantile(p: float, freedom: int) -> float:
    """Hill's expansion (Abramowitz and Stegun 26.7.5), exact where it is poor: one and two degrees of freedom."""
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    z = _NORMAL.inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms)))


def typical_ratio(above: ArrayLike, below: ArrayLike, drawn: IntArray, confidence: float = CONFIDENCE) -> Interval:
    """Hodges-Lehmann centre of the rounds' own ratios: above[i] and below[i] ran next to each other.

    What slows a whole round cancels in its ratio, and a round within which the machine changed its speed is an outlier
    that the median passes over: half the width of the pooled ratio's interval where the machine has two speeds.
    """
    logs = np.log(np.asarray(above, dtype=np.float64)) - np.log(np.asarray(below, dtype=np.float64))
    rounds = logs.size
    if rounds < ROUNDS_FOR_BOOTSTRAP:
        return _ratio_by_t(logs, confidence)
    index = np.repeat(np.tile(np.arange(rounds), drawn.shape[0]), drawn.ravel()).reshape(drawn.shape[0], rounds)
    found = Estimate(_centre(logs[None, :])[0], _centre(logs[index]), rounds).interval(confidence)
    return Interval(math.exp(found.value), math.exp(found.low), math.exp(found.high))


def _ratio_by_t(logs: FloatArray, confidence: float) -> Interval:
    """Few rounds cannot be resampled: their bootstrap never leaves the few values there are."""
    half = student_t_quantile((1.0 + confidence) / 2.0, logs.size - 1) * float(logs.std(ddof=1)) / math.sqrt(logs.size)
    middle = float(logs.mean())
    return Interval(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _centre(rows: FloatArray) -> FloatArray:
    """The median of all means of two, row by row."""
    first, second = np.triu_indices(rows.shape[1])
    means = rows[:, first]
    means += rows[:, second]
    middle = means.shape[1] // 2
    lower = middle if means.shape[1] % 2 else middle - 1
    means.partition((lower, middle), axis=1)
    centre: FloatArray = (means[:, lower] + means[:, middle]) / 4.0
    return centre


def claim(times_better: Interval, smallest: float = SMALLEST_CLAIM) -> Claim:
    """The whole interval has to lie beyond the smallest claim."""
    if times_better.low > 1.0 + smallest:
        return "better"
    if times_better.high < 1.0 / (1.0 + smallest):
        return "worse"
    return "not significant"


def settled(medians: Sequence[float], tolerance: float = 0.05) -> bool:
    """Has the warm-up done its work: are the last two blocks' medians within 5 % of each other?"""
    if len(medians) < 2:
        return False
    low, high = sorted(medians[-2:])
    return high <= low * (1.0 + tolerance)


def stationarity(medians: Sequence[float], *, drift_max: float = 0.15, z_max: float = 2.58) -> Stationarity:
    """Not stationary: a drift that is large and, by Mann-Kendall, more than the blocks' own scatter (p < 0.01)."""
    values = np.asarray(medians, dtype=np.float64)
    n = values.size
    if n < 6:
        return Stationarity(0.0, 0.0, True)
    third = n // 3
    drift = float(np.median(values[-third:]) / np.median(values[:third]) - 1.0)
    signs = np.sign(values[None, :] - values[:, None])
    score = float(np.triu(signs, 1).sum())
    z = (score - math.copysign(1.0, score)) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18.0) if score else 0.0
    return Stationarity(drift, z, not (abs(drift) > drift_max and abs(z) > z_max))


def slow_spins(spin_ms: Sequence[float], limit: float = 1.5) -> list[bool]:
    """Which blocks' calibration spins were more than `limit` times the fastest: the machine itself was slower then."""
    known = [value for value in spin_ms if value > 0]
    if not known:
        return [False] * len(spin_ms)
    fastest = min(known)
    return [value > limit * fastest for value in spin_ms]
