import heapq
import math

import numpy as np
import pytest
from warmfront.bench.sizing import queueing
from warmfront.bench.sizing.queueing import (
    Queue,
    SizingError,
    closed_loop,
    fit_scalability,
    poisson_quantile,
    service_of,
    simulate,
)

SERVICE_S = 0.012
# c, utilisation, cs2 of the service: from comfortable to cruel.
TABLE = [(4, 0.6, 1), (4, 0.8, 0), (4, 0.8, 4), (10, 0.7, 4), (10, 0.9, 4), (30, 0.9, 4), (2, 0.8, 4)]


def simulated_p99_s(servers: int, rate: float, cs2: float, customers: int) -> float:
    """A second simulation, written apart from the product's and drawing services from their true distribution."""
    generator = np.random.default_rng(11)
    if cs2 == 0:
        services = np.full(customers, SERVICE_S)
    elif cs2 == 1:
        services = generator.exponential(SERVICE_S, customers)
    else:
        sigma2 = math.log(1 + cs2)
        services = generator.lognormal(math.log(SERVICE_S) - sigma2 / 2, math.sqrt(sigma2), customers)
    now, responses = 0.0, []
    busy: list[float] = []  # when each busy server will be free
    for gap, took in zip(generator.exponential(1 / rate, customers), services, strict=True):
        now += gap
        start = now if len(busy) < servers else max(now, heapq.heappop(busy))
        heapq.heappush(busy, start + took)
        responses.append(start + took - now)
    return float(np.quantile(responses[customers // 10 :], 0.99))


@pytest.mark.parametrize(("servers", "utilisation", "cs2"), TABLE)
def test_the_predicted_p99_is_within_20_percent_of_a_simulation(servers: int, utilisation: float, cs2: float) -> None:
    rate = utilisation * servers / SERVICE_S
    predicted = Queue(rate, servers, service_of(SERVICE_S, cs2)).response_percentile_s(0.99)
    assert predicted == pytest.approx(simulated_p99_s(servers, rate, cs2, 300_000), rel=0.20)


@pytest.mark.parametrize(("servers", "utilisation", "cs2"), [TABLE[0], TABLE[1], TABLE[3]])
def test_both_simulations_agree(servers: int, utilisation: float, cs2: float) -> None:
    rate = utilisation * servers / SERVICE_S
    own = simulate(Queue(rate, servers, service_of(SERVICE_S, cs2)), customers=200_000, seed=3)
    assert own.response_p99_s == pytest.approx(simulated_p99_s(servers, rate, cs2, 200_000), rel=0.08)


@pytest.mark.parametrize(
    ("servers", "utilisation", "waiting", "mean_wait_ms", "wait_p99_ms"),
    [
        (3, 0.8, 0.647, 12.9, 83.4),
        (4, 0.6, 0.287, 2.15, 25.2),
        (5, 0.48, 0.114, 0.52, 11.2),
        (7, 0.34, 0.013, 0.03, 0.6),
    ],
)
def test_erlang_c_gives_the_waits_of_the_worked_example(
    servers: int, utilisation: float, waiting: float, mean_wait_ms: float, wait_p99_ms: float
) -> None:
    queue = Queue(200, servers, service_of(SERVICE_S, 1.0))
    assert queue.formula == "M/M/c, Erlang C"
    assert queue.utilisation == pytest.approx(utilisation, abs=0.005)
    assert queue.wait_probability == pytest.approx(waiting, abs=0.001)
    assert 1000 * queue.mean_wait_s == pytest.approx(mean_wait_ms, abs=0.05)
    assert 1000 * queue.wait_percentile_s(0.99) == pytest.approx(wait_p99_ms, abs=0.05)


def test_variable_service_waits_longer_by_allen_and_cunneen() -> None:
    plain, bursty = (Queue(266, 4, service_of(SERVICE_S, cs2)) for cs2 in (1.0, 4.0))
    assert bursty.formula == "G/G/c, Allen-Cunneen and Whitt"
    assert bursty.mean_wait_s == pytest.approx(2.5 * plain.mean_wait_s)


def test_an_overloaded_queue_waits_for_ever_and_is_not_simulated() -> None:
    queue = Queue(1000, 4, service_of(SERVICE_S, 1.0))
    assert queue.wait_probability == 1.0
    assert math.isinf(queue.mean_wait_s)
    assert math.isinf(queue.response_percentile_s(0.99))
    with pytest.raises(SizingError, match="4 servers are 300% busy"):
        simulate(queue, customers=1000, seed=1)


def test_a_lone_request_takes_its_service_time() -> None:
    queue = Queue(0.001, 50, service_of(SERVICE_S, 1.0))
    assert queue.response_percentile_s(0.99) == pytest.approx(SERVICE_S * math.log(100), rel=0.01)
    constant = Queue(0.001, 50, service_of(SERVICE_S, 0.0))
    assert constant.response_percentile_s(0.99) == pytest.approx(SERVICE_S)


def test_regular_arrivals_wait_less() -> None:
    assert Queue(266, 4, service_of(SERVICE_S, 0.0), ca2=0.0).wait_percentile_s(0.99) == 0.0
    poisson, regular = (
        simulate(Queue(266, 4, service_of(SERVICE_S, 1.0), ca2=ca2), customers=50_000, seed=1).mean_wait_s
        for ca2 in (1.0, 0.25)
    )
    assert regular < poisson


@pytest.mark.parametrize(("q", "expected"), [(0.5, 16), (0.99, 26), (0.999, 30)])
def test_concurrency_is_a_poisson_quantile(q: float, expected: int) -> None:
    assert poisson_quantile(16, q) == expected


@pytest.mark.parametrize("mean", [0.01, 3.0, 150.0, 690.0, 5000.0])
def test_poisson_quantiles_hold_at_any_size(mean: float) -> None:
    drawn = np.random.default_rng(1).poisson(mean, 200_000)
    assert poisson_quantile(mean, 0.99) == pytest.approx(float(np.quantile(drawn, 0.99)), rel=0.01, abs=1)


def test_the_fewest_servers_within_the_target_are_found() -> None:
    service = service_of(SERVICE_S, 1.0)
    assert queueing.servers_needed(200, service, wait_p99_max_s=0.005) == 6
    assert queueing.servers_needed(200, service, wait_p99_max_s=0.0006) == 7
    assert queueing.servers_needed(200, service, wait_p99_max_s=1.0) == 3


@pytest.mark.parametrize(
    ("pool", "throughput", "response_ms"),
    [(1, 83, 595), (2, 167, 295), (5, 417, 115), (10, 833, 55), (20, 1667, 25), (50, 2941, 12)],
)
def test_a_closed_loop_of_50_workers_is_bounded_by_its_pool(pool: int, throughput: float, response_ms: float) -> None:
    found = closed_loop(workers=50, think_s=0.005, service_s=SERVICE_S, servers=pool)
    assert found.throughput == pytest.approx(throughput, rel=0.005)
    assert 1000 * found.response_s == pytest.approx(response_ms, rel=0.005)


def test_a_closed_loop_without_thinking_keeps_every_server_busy() -> None:
    assert closed_loop(workers=8, think_s=0.0, service_s=0.01, servers=4).throughput == pytest.approx(400)
    assert closed_loop(workers=3, think_s=0.0, service_s=0.01, servers=4).throughput == pytest.approx(300)


def test_scalability_is_fitted_from_a_sweep_with_noise() -> None:
    truth = queueing.Scalability(100.0, 0.05, 0.001)
    levels = [1, 2, 4, 8, 16, 32, 64]
    noise = np.random.default_rng(2).normal(1, 0.01, len(levels))
    found = fit_scalability(levels, [truth.throughput(n) * float(e) for n, e in zip(levels, noise, strict=True)])
    assert found.gain == pytest.approx(100, rel=0.05)
    assert found.peak == pytest.approx(truth.peak, rel=0.1)


def test_a_perfect_scaler_has_no_peak_and_no_negative_terms() -> None:
    found = fit_scalability([1, 2, 4, 8], [101, 204, 402, 815])
    assert math.isinf(found.peak)
    assert found.contention >= 0
    with pytest.raises(SizingError, match="at least 4 levels"):
        fit_scalability([1, 2], [1, 2])


@pytest.mark.parametrize("cs2", [0.0, 0.25, 1.0, 4.0])
def test_a_distribution_has_the_mean_and_variation_asked_for(cs2: float) -> None:
    service = service_of(0.02, cs2)
    assert service.mean_s == pytest.approx(0.02)
    seen = float(service.quantiles_s.var()) / service.mean_s**2
    assert seen == pytest.approx(cs2, rel=0.12), "points lose some of the tail"


def test_measured_times_keep_their_mean_and_variation() -> None:
    samples = np.random.default_rng(1).lognormal(-4, 0.8, 50_000)
    service = queueing.measured_service(samples, "test")
    assert service.mean_s == pytest.approx(samples.mean())
    assert service.cs2 == pytest.approx(samples.var() / samples.mean() ** 2)
    with pytest.raises(SizingError, match="3 service times are too few"):
        queueing.measured_service([1, 2, 3], "test")


def test_a_predicted_curve_rises_to_infinity() -> None:
    curve = queueing.predicted_p99_ms([10, 100, 300, 400], servers=4, service=service_of(SERVICE_S, 1.0))
    assert curve[0] < curve[1] < curve[2]
    assert math.isinf(curve[3])


@pytest.mark.parametrize("servers", [1, 2, 8])
@pytest.mark.parametrize("cs2", [0.0, 0.5, 2.0, 4.0])
def test_between_the_table_s_rows_the_formula_stays_within_30_percent(servers: int, cs2: float) -> None:
    queue = Queue(0.7 * servers / SERVICE_S, servers, service_of(SERVICE_S, cs2))
    simulated = simulate(queue, customers=100_000, seed=5)
    assert queue.response_percentile_s(0.99) == pytest.approx(simulated.response_p99_s, rel=0.30)
