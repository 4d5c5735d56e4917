import math

import numpy as np
import pytest
from warmfront.bench.statistics import percentiles
from warmfront.bench.statistics.percentiles import FloatArray, Interval, PooledBlocks

# One noisy machine: two speeds that it changes between in the middle of things, a slow drift, stalls in groups.
JITTER, DRIFT, SPEED_CHANGE, STALL = 0.04, 0.03, 0.04, 0.008


def noisy_run(
    seed: int, slowdown: float, rounds: int = 30, requests: int = 334
) -> tuple[list[FloatArray], list[FloatArray]]:
    generator = np.random.default_rng(seed)
    sides: tuple[list[FloatArray], list[FloatArray]] = ([], [])
    speed, drift = 1.0, 0.0
    for _ in range(rounds):
        for side in generator.permutation(2):
            factor = np.full(requests, speed)
            if generator.random() < SPEED_CHANGE:
                speed = 1.9 if speed == 1.0 else 1.0
                factor[generator.integers(0, requests) :] = speed
            drift = 0.9 * drift + generator.normal(0, DRIFT)
            factor *= math.exp(drift + generator.normal(0, JITTER))
            took = generator.lognormal(math.log(1000), 0.35, requests)
            stalled = generator.random(requests) < STALL * generator.gamma(1.5)
            took = np.where(stalled, took + generator.exponential(8000, requests), took) * factor
            sides[side].append(took * slowdown if side == 1 else took)
    return sides


def claims(slowdown: float, q: float, runs: int) -> list[str]:
    found: list[str] = []
    for seed in range(runs):
        baseline, candidate = noisy_run(seed, slowdown)
        above, below = ([percentiles.percentile(block, q) for block in side] for side in (baseline, candidate))
        drawn = percentiles.draws(len(above), seed=seed)
        found.append(percentiles.claim(percentiles.typical_ratio(above, below, drawn, percentiles.CLAIM_CONFIDENCE)))
    return found


def test_20_identical_pairs_give_at_most_one_false_difference_at_p50_and_two_at_p99() -> None:
    assert sum(claim != "not significant" for claim in claims(1.0, 0.50, 20)) <= 1
    assert sum(claim != "not significant" for claim in claims(1.0, 0.99, 20)) <= 2


def test_a_planted_slowdown_of_10_percent_is_found() -> None:
    found = claims(1.10, 0.50, 20)
    assert found.count("worse") >= 18
    assert "better" not in found


def test_a_planted_slowdown_of_1_percent_is_not_claimed() -> None:
    assert claims(1.01, 0.50, 20).count("not significant") >= 19


def test_a_handful_of_rounds_claims_no_more_false_differences_than_many() -> None:
    false = 0
    for seed in range(100):
        above, below = ([percentiles.percentile(block, 0.5) for block in side] for side in noisy_run(seed, 1.0, 4, 50))
        ratio = percentiles.typical_ratio(above, below, percentiles.draws(4, seed=seed), percentiles.CLAIM_CONFIDENCE)
        false += percentiles.claim(ratio) != "not significant"
    assert false <= 4
    large = percentiles.typical_ratio(
        [10.0, 11.0, 10.5, 9.8], [1.0, 1.05, 1.1, 0.95], percentiles.draws(4), percentiles.CLAIM_CONFIDENCE
    )
    assert percentiles.claim(large) == "better"


def test_even_a_perfectly_measured_1_percent_is_below_the_smallest_claim() -> None:
    assert percentiles.claim(Interval(1.01, 1.0099, 1.0101)) == "not significant"
    assert percentiles.claim(Interval(0.99, 0.9899, 0.9901)) == "not significant"
    assert percentiles.claim(Interval(1.10, 1.05, 1.15)) == "better"
    assert percentiles.claim(Interval(0.90, 0.86, 0.95)) == "worse"


def test_the_interval_of_a_percentile_covers_the_truth_about_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        blocks = [generator.exponential(1_000_000, 100) * generator.lognormal(0, 0.1) for _ in range(30)]
        found = percentiles.percentile_estimate(PooledBlocks(blocks), 0.5, percentiles.draws(30, 400, seed)).interval()
        inside += found.low <= 693_147 * 1.004 <= found.high  # the block factor moves the median by about 0.4 %
    assert 180 <= inside <= 199


@pytest.mark.parametrize("q", [0.001, 0.5, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("sizes", [[334] * 30, [1, 70, 64, 128, 3], [5, 0, 200], [1, 1]])
def test_the_fast_resample_is_exactly_the_slow_one(q: float, sizes: list[int]) -> None:
    generator = np.random.default_rng(7)
    blocks = [generator.integers(0, 50, size) for size in sizes]  # many ties
    drawn = percentiles.draws(len(blocks), 120, seed=3)
    fast = PooledBlocks(blocks).resampled_percentile(q, drawn)
    for row, value in zip(drawn, fast, strict=True):
        pool = np.concatenate([np.tile(block, count) for block, count in zip(blocks, row, strict=True)])
        if pool.size:
            assert value == percentiles.percentile(pool, q)
        else:
            assert math.isnan(value)


def test_a_percentile_is_a_sample_and_of_the_nearest_rank() -> None:
    assert percentiles.percentile(range(1, 10_001), 0.99) == 9900
    assert percentiles.percentile([5, 1, 9], 0.5) == 5
    assert percentiles.percentile([1, 2, 3, 4], 0.5) == 2
    assert percentiles.percentile([7], 0.999) == 7
    assert PooledBlocks([[1, 2], [3, 4]]).percentile(1.0) == 4
    with pytest.raises(ValueError, match="no samples"):
        percentiles.percentile([], 0.5)


@pytest.mark.parametrize(
    ("n", "q", "ranks"),
    [(10_000, 0.95, (9457, 9543)), (10_000, 0.99, (9880, 9920)), (10_000, 0.999, (9983, 9997)), (30, 0.5, (10, 21))],
)
def test_order_statistics_enclose_a_percentile_at_their_known_ranks(n: int, q: float, ranks: tuple[int, int]) -> None:
    assert percentiles.order_statistics_ranks(n, q) == ranks


def test_an_interval_by_order_statistics_is_made_of_samples() -> None:
    found = percentiles.order_statistics_interval(range(1, 31), 0.5)
    assert (found.value, found.low, found.high) == (15, 10, 21)


def test_a_percentile_says_how_many_samples_it_needs() -> None:
    assert percentiles.samples_needed(0.50) == 30
    assert percentiles.samples_needed(0.99) == 1_500
    assert percentiles.samples_needed(0.999) == 15_000


@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (14, 2.1448), (29, 2.0452)])
def test_the_t_quantile_is_that_of_the_tables(freedom: int, expected: float) -> None:
    assert percentiles.student_t_quantile(0.975, freedom) == pytest.approx(expected, rel=0.003)


def test_few_blocks_have_wider_intervals_than_the_plain_bootstrap() -> None:
    resampled = np.arange(1000.0)
    few, many = (percentiles.Estimate(500.0, resampled, blocks).interval() for blocks in (5, 3000))
    assert few.high - few.low > many.high - many.low
    assert many.high - many.low == pytest.approx(950, abs=2)


def test_a_quotient_is_of_sums_and_not_a_mean_of_quotients() -> None:
    drawn = percentiles.draws(2, 50)
    assert percentiles.quotient_estimate([10, 90], [1, 3], drawn).value == 25.0
    with pytest.raises(ValueError, match="sum to 0"):
        percentiles.quotient_estimate([1, 2], [0, 0], drawn)


def test_a_ratio_of_paired_variants_cancels_what_both_shared() -> None:
    generator = np.random.default_rng(1)
    speed = generator.choice([1.0, 1.9], 30)
    first = [generator.normal(1000, 20, 100) * factor for factor in speed]
    second = [generator.normal(500, 10, 100) * factor for factor in speed]
    above, below = PooledBlocks(first), PooledBlocks(second)
    shared, other = percentiles.draws(30, seed=1), percentiles.draws(30, seed=2)
    paired = percentiles.ratio(
        percentiles.percentile_estimate(above, 0.9, shared), percentiles.percentile_estimate(below, 0.9, shared)
    )
    apart = percentiles.ratio(
        percentiles.percentile_estimate(above, 0.9, shared), percentiles.percentile_estimate(below, 0.9, other)
    )
    assert paired.low < 2.0 < paired.high
    assert paired.high - paired.low < apart.high - apart.low


def test_a_ratio_over_nothing_is_refused() -> None:
    zero = percentiles.Estimate(0.0, np.zeros(10), 10)
    with pytest.raises(ValueError, match=r"positive denominator, not 0\.0"):
        percentiles.ratio(zero, zero)


def test_an_interval_needs_two_blocks() -> None:
    with pytest.raises(ValueError, match=r"1 block\(s\)"):
        percentiles.draws(1)


def test_a_level_run_is_stationary_however_much_it_scatters() -> None:
    medians = np.random.default_rng(5).choice([7.8, 14.7], 30).tolist()
    assert percentiles.stationarity(medians).stationary


def test_a_run_that_grows_slower_is_not_stationary() -> None:
    generator = np.random.default_rng(5)
    found = percentiles.stationarity([1000 * (1 + 0.02 * block) * generator.normal(1, 0.05) for block in range(30)])
    assert not found.stationary
    assert found.drift > 0.3
    assert not percentiles.stationarity([1000 / (1 + 0.02 * block) for block in range(30)]).stationary


def test_a_small_trend_is_tolerated_and_few_blocks_are_not_judged() -> None:
    assert percentiles.stationarity([1000 + 2 * block for block in range(30)]).stationary
    assert percentiles.stationarity([1, 2, 3, 4]).stationary
    assert percentiles.stationarity([5.0] * 30).stationary


def test_a_warm_up_is_over_when_two_blocks_agree() -> None:
    assert percentiles.settled([300, 120, 104, 100])
    assert not percentiles.settled([300, 120, 100])
    assert not percentiles.settled([100])


def test_slow_spins_are_flagged_against_the_fastest() -> None:
    assert percentiles.slow_spins([7.8, 14.7, 8.0, 0.0]) == [False, True, False, False]
    assert percentiles.slow_spins([0.0, 0.0]) == [False, False]
