"""Percentiles and their confidence intervals from blocks of samples.

A percentile is the nearest rank (the inverse of the empirical distribution): the smallest sample that at least a share q of
the samples do not exceed. Every printed latency is therefore the latency of an actual request.

Requests of one run are not independent, but blocks nearly are, so intervals resample blocks and never requests. On a busy
machine, a bootstrap of requests found a difference in 19 of 20 pairs of identical variants; interleaved blocks in none.
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
CLAIM_CONFIDENCE = 0.99  # for "better" and "worse": a table has dozens of rows, each a chance of a false claim
ROUNDS_FOR_BOOTSTRAP = 10
SMALLEST_CLAIM = 0.02  # on a shared machine smaller differences are not repeatable, however narrow the interval
BEYOND_MIN = 15  # samples that must lie beyond a percentile before it is shown without a warning
_STRIDE = 64  # sorted samples per step of the search grid
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the limits of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Stationarity:
    """Whether latency stayed level over the blocks.

    `drift`: median of the last third of the blocks divided by that of the first third, minus 1. `trend_z`: z score of the
    Mann-Kendall trend test.
    """

    drift: float
    trend_z: float
    stationary: bool


def percentile(samples: ArrayLike, q: float) -> float:
    """Return the nearest-rank percentile of a one-dimensional array; `q` is from 0 to 1.

    Raises:
        ValueError: there are no samples.
    """
    values = np.asarray(samples)
    if values.size == 0:
        raise ValueError("no samples: a percentile needs at least one")
    rank = _rank(q, values.size)
    return float(np.partition(values, rank - 1)[rank - 1])


def _rank(q: float, n: int) -> int:
    """1-based nearest rank; the tolerance keeps 0.99 x 10,000 at 9,900 despite binary rounding."""
    return min(n, max(1, math.ceil(q * n - 1e-9 * n)))


def samples_needed(q: float) -> int:
    """Return the number of samples below which a percentile is printed grey, because too few lie beyond it."""
    return math.ceil(round(BEYOND_MIN / (1.0 - q), 6)) if q < 1.0 else 1


def order_statistics_interval(samples: ArrayLike, q: float, confidence: float = CONFIDENCE) -> Interval:
    """Return a percentile with its exact binomial interval, for independent samples such as cold starts."""
    values = np.sort(np.asarray(samples, dtype=np.float64))
    low, high = order_statistics_ranks(values.size, q, confidence)
    return Interval(percentile(values, q), float(values[low - 1]), float(values[high - 1]))


def order_statistics_ranks(n: int, q: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Return the 1-based ranks of the samples that enclose the true percentile, limited to 1..n."""
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
    """Draw bootstrap resamples of blocks.

    Returns:
        An array resamples x blocks: how often each block was drawn. Variants resampled with the same array are paired.

    Raises:
        ValueError: fewer than 2 blocks.
    """
    if blocks < 2:
        raise ValueError(f"{blocks} block(s): an interval needs at least 2 blocks")
    generator = np.random.default_rng(seed)
    return generator.multinomial(blocks, np.full(blocks, 1.0 / blocks), size=resamples).astype(np.int64)


class PooledBlocks:
    """All samples of one variant, sorted once, for exact percentiles of many resamples of its blocks.

    A grid over the sorted samples stores how many samples of each block lie before each grid step. One matrix product
    counts them for every resample, and then only the 64 samples of one grid step are searched.

    Args:
        blocks: the samples of each block, integers.

    Raises:
        ValueError: no block has samples.
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
        """Return the percentile of every resample (rows of `drawn`); NaN where only empty blocks were drawn."""
        totals = drawn @ self.sizes
        ranks = np.maximum(1, np.ceil(q * totals - 1e-9 * totals)).astype(np.int64)
        # Counts stay far below 2**53, so the faster floating-point product is still exact.
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
    """A figure, its value in each resample, and the number of blocks it is computed from."""

    value: float
    resampled: FloatArray
    blocks: int

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Return the bootstrap percentile interval, widened for a small number of blocks."""
        tail = _tail(self.blocks, confidence)
        known = self.resampled[np.isfinite(self.resampled)]
        if known.size == 0:
            return Interval(self.value, self.value, self.value)
        low, high = np.quantile(known, (tail, 1.0 - tail))
        return Interval(self.value, min(float(low), self.value), max(float(high), self.value))

    def minus(self, known: float) -> "Estimate":
        """Subtract a figure that is taken as exact."""
        return Estimate(self.value - known, self.resampled - known, self.blocks)


def percentile_estimate(pooled: PooledBlocks, q: float, drawn: IntArray) -> Estimate:
    """Estimate a percentile; `drawn` as from `draws`."""
    return Estimate(pooled.percentile(q), pooled.resampled_percentile(q, drawn), drawn.shape[1])


def quotient_estimate(numerators: ArrayLike, denominators: ArrayLike, drawn: IntArray) -> Estimate:
    """Estimate sum(numerators) / sum(denominators) over blocks, e.g. requests per second or CPU per request.

    Args:
        numerators: one number for each block.
        denominators: one number for each block.
        drawn: resamples x blocks, from `draws`.

    Raises:
        ValueError: the denominators sum to 0.
    """
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if below.sum() == 0:
        raise ValueError("a quotient needs blocks whose denominators do not sum to 0")
    return Estimate(float(above.sum() / below.sum()), _quotient(drawn @ above, drawn @ below), drawn.shape[1])


def _quotient(above: FloatArray, below: FloatArray) -> FloatArray:
    quotient: FloatArray = np.full(above.shape, np.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient


def ratio(above: Estimate, below: Estimate, confidence: float = CONFIDENCE) -> Interval:
    """Return above / below with its interval; paired if both were resampled with the same draws.

    Raises:
        ValueError: `below` is not positive.
    """
    if below.value <= 0:
        raise ValueError(f"a ratio needs a positive denominator, not {below.value}")
    quotient = Estimate(
        above.value / below.value, _quotient(above.resampled, below.resampled), min(above.blocks, below.blocks)
    )
    return quotient.interval(confidence)


def _tail(blocks: int, confidence: float) -> float:
    """Tail probability that widens the interval of few blocks, as a t interval is wider than a normal one.

    Hesterberg, What Teachers Should Know about the Bootstrap (2014), section 3.3: the expanded percentile interval.
    """
    freedom = max(1, blocks - 1)
    t = student_t_quantile((1.0 + confidence) / 2.0, freedom)
    return _NORMAL.cdf(-math.sqrt(blocks / freedom) * t)


def student_t_quantile(p: float, freedom: int) -> float:
    """Return the quantile p of Student's t distribution with `freedom` degrees of freedom.

    By Hill's expansion (Abramowitz and Stegun 26.7.5); by the exact formulas for one and two degrees of freedom, where the
    expansion is inaccurate.
    """
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
    """Return the Hodges-Lehmann centre of the ratios of all rounds, with its interval.

    Whatever slows a whole round cancels in its ratio, and a round during which the machine changed speed is an outlier that
    the median ignores. On a machine with two speeds the interval is half as wide as that of the pooled ratio.

    Args:
        above: one positive figure for each round.
        below: one positive figure for each round; below[i] was measured next to above[i].
        drawn: resamples x rounds, from `draws`.
        confidence: of the interval.
    """
    logs = np.log(np.asarray(above, dtype=np.float64)) - np.log(np.asarray(below, dtype=np.float64))
    rounds = logs.size
    if rounds < ROUNDS_FOR_BOOTSTRAP:
        return _ratio_by_t(logs, confidence)
    index = np.repeat(np.tile(np.arange(rounds), drawn.shape[0]), drawn.ravel()).reshape(drawn.shape[0], rounds)
    found = Estimate(_centre(logs[None, :])[0], _centre(logs[index]), rounds).interval(confidence)
    return Interval(math.exp(found.value), math.exp(found.low), math.exp(found.high))


def _ratio_by_t(logs: FloatArray, confidence: float) -> Interval:
    """A t interval, for too few rounds to resample: a bootstrap would only repeat the few values."""
    half = student_t_quantile((1.0 + confidence) / 2.0, logs.size - 1) * float(logs.std(ddof=1)) / math.sqrt(logs.size)
    middle = float(logs.mean())
    return Interval(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _centre(rows: FloatArray) -> FloatArray:
    """The median of all pairwise means of each row."""
    first, second = np.triu_indices(rows.shape[1])
    means = rows[:, first]
    means += rows[:, second]
    middle = means.shape[1] // 2
    lower = middle if means.shape[1] % 2 else middle - 1
    means.partition((lower, middle), axis=1)
    centre: FloatArray = (means[:, lower] + means[:, middle]) / 4.0
    return centre


def claim(times_better: Interval, smallest: float = SMALLEST_CLAIM) -> Claim:
    """Return "better" or "worse" if the whole interval lies beyond the smallest claim (a relative difference)."""
    if times_better.low > 1.0 + smallest:
        return "better"
    if times_better.high < 1.0 / (1.0 + smallest):
        return "worse"
    return "not significant"


def settled(medians: Sequence[float], tolerance: float = 0.05) -> bool:
    """Tell whether the warm-up is done: the medians of the last two blocks differ by at most `tolerance`."""
    if len(medians) < 2:
        return False
    low, high = sorted(medians[-2:])
    return high <= low * (1.0 + tolerance)


def stationarity(medians: Sequence[float], *, drift_max: float = 0.15, z_max: float = 2.58) -> Stationarity:
    """Test whether block medians stayed level over a run.

    They did not if the drift exceeds `drift_max` and the Mann-Kendall test finds a trend (p < 0.01 at the default z).

    Args:
        medians: one for each block, in order of time; fewer than 6 count as stationary.
        drift_max: largest tolerated drift.
        z_max: largest tolerated z score.
    """
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
    """Tell for each block whether its calibration spin (ms) took more than `limit` times the fastest: the machine was slow."""
    known = [value for value in spin_ms if value > 0]
    if not known:
        return [False] * len(spin_ms)
    fastest = min(known)
    return [value > limit * fastest for value in spin_ms]
