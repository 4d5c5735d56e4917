"""Queueing formulas, and a simulation that checks them.

Kleinrock, Queueing Systems (1975); Allen, Probability, Statistics and Queueing Theory (1990); Harchol-Balter, Performance
Modeling and Design (2013); Gunther, Guerrilla Capacity Planning (2007).
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

QUANTILES = 10_000  # points that represent a distribution of service times
WARM_UP_SHARE = 0.1
MOST_SERVERS = 100_000
_NORMAL = NormalDist()


class SizingError(ValueError):
    """The inputs have no solution; the message names the number to change."""


@dataclass(frozen=True, slots=True)
class Service:
    """A distribution of service times in seconds, as evenly spaced quantiles, and its source."""

    quantiles_s: FloatArray
    cs2: float  # squared coefficient of variation: 0 constant, 1 exponential, above 1 bursty
    third: float  # E[S^3] / E[S]^3: 1 constant, 6 exponential; how heavy the tail is
    source: str

    @property
    def mean_s(self) -> float:
        return float(self.quantiles_s.mean())

    def percentile_s(self, q: float) -> float:
        return float(np.quantile(self.quantiles_s, q))

    def scaled(self, factor: float) -> "Service":
        return Service(self.quantiles_s * factor, self.cs2, self.third, self.source)


def measured_service(samples_s: ArrayLike, source: str) -> Service:
    """Return the distribution of measured service times.

    Args:
        samples_s: seconds, one-dimensional.
        source: where they come from, for the plan's text.

    Raises:
        SizingError: fewer than 20 samples, or a mean of 0.
    """
    samples = np.asarray(samples_s, dtype=np.float64)
    if samples.size < 20 or samples.mean() <= 0:
        raise SizingError(f"{samples.size} service times are too few to size from; at least 20 are needed ({source})")
    cs2 = float(samples.var() / samples.mean() ** 2)
    mean_s = float(samples.mean())
    quantiles = np.quantile(samples, _shares(min(samples.size, QUANTILES)))
    third = float((samples**3).mean()) / mean_s**3
    return Service(quantiles * (mean_s / quantiles.mean()), cs2, third, source)


def service_of(mean_s: float, cs2: float, source: str = "flag") -> Service:
    """Return a standard distribution with this mean (seconds) and squared coefficient of variation.

    Constant for cs2 0, gamma below 1, exponential at 1, lognormal above.

    Raises:
        SizingError: the mean is not positive, or cs2 is negative.
    """
    if mean_s <= 0 or cs2 < 0:
        raise SizingError(
            f"a service time of {mean_s} s with cs2 {cs2} is invalid: the time must be above 0 and cs2 not negative"
        )
    share = _shares(QUANTILES)
    if cs2 == 0:
        quantiles, third = np.ones(QUANTILES), 1.0
    elif cs2 < 1:
        # numpy has no inverse gamma distribution; sorting many draws is accurate enough for the formulas.
        third = (1.0 + cs2) * (1.0 + 2.0 * cs2)
        drawn = np.sort(np.random.default_rng(0).gamma(1.0 / cs2, cs2, 20 * QUANTILES))
        quantiles = drawn[(share * drawn.size).astype(np.int64)]
    elif cs2 == 1:
        quantiles, third = -np.log1p(-share), 6.0
    else:
        sigma, third = math.sqrt(math.log1p(cs2)), (1.0 + cs2) ** 3
        quantiles = np.exp(sigma * np.array([_NORMAL.inv_cdf(one) for one in share.tolist()]))
    # A distribution cut into points loses part of its tail and so of its mean; scaling restores the mean.
    return Service(quantiles * (mean_s / quantiles.mean()), cs2, third, source)


def _shares(points: int) -> FloatArray:
    return (np.arange(points) + 0.5) / points


def erlang_b(offered: float, servers: int) -> float:
    """Return the share of arrivals that are lost where no queue is allowed (Erlang B)."""
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    return blocked


def erlang_c(offered: float, servers: int) -> float:
    """Return the share of arrivals that have to wait (Erlang C)."""
    utilisation = offered / servers
    if utilisation >= 1.0:
        return 1.0
    blocked = erlang_b(offered, servers)
    return blocked / (1.0 - utilisation * (1.0 - blocked))


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue in front of c servers.

    The mean wait is Allen and Cunneen's: that of M/M/c, scaled by the variation of arrivals and services. In M/M/c the wait
    of those who wait is exponential. Otherwise its variation is Whitt's (Approximations for the GI/G/m queue, 1993), and
    above 1 it is modelled by two exponentials, because a heavy-tailed service gives a heavy-tailed wait.
    """

    rate: float  # arrivals per second
    servers: int
    service: Service
    ca2: float = 1.0  # squared variation of the gaps between arrivals; 1: Poisson

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.servers < 1:
            raise SizingError(f"{self.rate} arrivals per second at {self.servers} servers: both must be positive")

    @property
    def formula(self) -> str:
        return "M/M/c, Erlang C" if (self.ca2, self.service.cs2) == (1.0, 1.0) else "G/G/c, Allen-Cunneen and Whitt"

    @property
    def offered(self) -> float:
        return self.rate * self.service.mean_s

    @property
    def utilisation(self) -> float:
        return self.offered / self.servers

    @property
    def wait_probability(self) -> float:
        return erlang_c(self.offered, self.servers)

    @property
    def mean_wait_s(self) -> float:
        if self.utilisation >= 1.0:
            return math.inf
        stretch = (self.ca2 + self.service.cs2) / 2.0
        return self.wait_probability * stretch / (self.servers / self.service.mean_s - self.rate)

    def _waits(self) -> tuple[tuple[float, float], ...]:
        """(share, rate) of the exponentials that model the wait of those who wait."""
        mean_s = self.mean_wait_s / self.wait_probability
        if mean_s == 0:
            return ()
        busy, cs2 = self.utilisation, self.service.cs2
        one_server = 2.0 * busy - 1.0 + 4.0 * (1.0 - busy) * self.service.third / (3.0 * (cs2 + 1.0) ** 2)
        # Whitt's formula is exact for one server. A long service blocks only one of c servers, so the excess is divided by
        # c: our own approximation, compared with simulations in the tests.
        variation = 1.0 + (one_server - 1.0) / self.servers
        if variation <= 1.0 + 1e-9:
            return ((1.0, 1.0 / mean_s),)
        share = 0.5 * (1.0 + math.sqrt((variation - 1.0) / (variation + 1.0)))
        return ((share, 2.0 * share / mean_s), (1.0 - share, 2.0 * (1.0 - share) / mean_s))

    def wait_percentile_s(self, q: float) -> float:
        if self.utilisation >= 1.0:
            return math.inf
        waiting, parts = self.wait_probability, self._waits()
        if waiting <= 1.0 - q or not parts:
            return 0.0
        return _zero_of(lambda t: waiting * sum(p * math.exp(-rate * t) for p, rate in parts) - (1.0 - q))

    def response_percentile_s(self, q: float, served_s: FloatArray | None = None) -> float:
        """Return percentile q of wait plus service in seconds, by convolution over the service's quantiles.

        Args:
            q: from 0 to 1.
            served_s: quantiles in seconds of the time after the wait, where it is longer than the servers' part of it.
        """
        if self.utilisation >= 1.0:
            return math.inf
        waiting, parts = self.wait_probability, self._waits()
        quantiles_s = self.service.quantiles_s if served_s is None else served_s

        def beyond(t_s: float) -> float:
            left = t_s - quantiles_s
            served = left >= 0
            after_wait = np.zeros_like(left)
            for share, rate in parts:
                after_wait += share * np.exp(-rate * np.maximum(left, 0.0))
            slow = np.where(served, after_wait, 1.0).mean()
            return float((1.0 - waiting) * (~served).mean() + waiting * slow) - (1.0 - q)

        return _zero_of(beyond)


def _zero_of(falling: Callable[[float], float]) -> float:
    """The zero of a decreasing function, by doubling and bisection."""
    low, high = 0.0, 1e-3
    while falling(high) > 0:
        low, high = high, 2.0 * high
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2.0


@dataclass(frozen=True, slots=True)
class Simulated:
    """Waits and responses of a simulated queue."""

    customers: int
    wait_probability: float
    mean_wait_s: float
    wait_p99_s: float
    response_p95_s: float
    response_p99_s: float


def simulate(queue: Queue, *, customers: int, seed: int) -> Simulated:
    """Simulate a queue, first come first served. Arrivals are Poisson, or have gamma-distributed gaps of the queue's ca2.

    Raises:
        SizingError: the servers cannot keep up.
    """
    if queue.utilisation >= 1.0:
        raise SizingError(f"{queue.servers} servers are {queue.utilisation:.0%} busy: the queue grows without limit")
    generator = np.random.default_rng(seed)
    shape = 1.0 / queue.ca2 if queue.ca2 > 0 else math.inf
    gaps = np.full(customers, 1.0) if math.isinf(shape) else generator.gamma(shape, 1.0 / shape, customers)
    arrivals = np.cumsum(gaps / queue.rate).tolist()
    services = generator.choice(queue.service.quantiles_s, customers)
    free_at = [0.0] * queue.servers
    waits = np.empty(customers)
    for place, (arrived, service) in enumerate(zip(arrivals, services.tolist(), strict=True)):
        start = max(arrived, free_at[0])
        heapq.heapreplace(free_at, start + service)
        waits[place] = start - arrived
    warm = int(customers * WARM_UP_SHARE)
    waits, responses = waits[warm:], waits[warm:] + services[warm:]
    return Simulated(
        customers=customers,
        wait_probability=float((waits > 0).mean()),
        mean_wait_s=float(waits.mean()),
        wait_p99_s=float(np.quantile(waits, 0.99)),
        response_p95_s=float(np.quantile(responses, 0.95)),
        response_p99_s=float(np.quantile(responses, 0.99)),
    )


def poisson_quantile(mean: float, q: float) -> int:
    """Return the concurrency that is not exceeded for a share q of the time, if arrivals never wait (M/G/infinity).

    Args:
        mean: mean concurrency: arrivals per second times mean duration in seconds.
        q: from 0 to 1.
    """
    if mean <= 0:
        return 0
    k, log_term, total = 0, -mean, math.exp(-mean)
    while total < q and k < mean + 60.0 * math.sqrt(mean) + 60.0:
        k += 1
        log_term += math.log(mean / k)
        total += math.exp(log_term)
    return k


def servers_needed(rate: float, service: Service, *, wait_p99_max_s: float, ca2: float = 1.0) -> int:
    """Return the smallest number of servers whose p99 wait is at most `wait_p99_max_s`.

    Raises:
        SizingError: more than MOST_SERVERS would be needed.
    """
    servers = max(1, math.floor(rate * service.mean_s) + 1)
    while servers <= MOST_SERVERS:
        if Queue(rate, servers, service, ca2).wait_percentile_s(0.99) <= wait_p99_max_s:
            return servers
        servers += 1
    raise SizingError(f"more than {MOST_SERVERS} servers would be needed for {rate} requests per second")


def predicted_p99_ms(rates: Sequence[float], *, servers: int, service: Service, ca2: float = 1.0) -> list[float]:
    """Return the predicted p99 response in ms at each rate (1/s); infinite where the servers cannot keep up."""
    return [1000.0 * Queue(rate, servers, service, ca2).response_percentile_s(0.99) for rate in rates]


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Throughput (1/s) and mean response of a closed loop."""

    throughput: float
    response_s: float


def closed_loop(*, workers: int, think_s: float, service_s: float, servers: int) -> ClosedLoop:
    """Predict a closed loop of `workers`; exact for exponential times.

    By the birth-death chain of how many workers wait or are being served.
    """
    log_weight, weights = 0.0, [0.0]
    for k in range(1, workers + 1):
        # With a think time of 0 the formula would divide by zero, so a tiny think time replaces it.
        log_weight += math.log((workers - k + 1) / max(think_s, service_s * 1e-9)) - math.log(
            min(k, servers) / service_s
        )
        weights.append(log_weight)
    shares = np.exp(np.array(weights) - max(weights))
    shares /= shares.sum()
    busy = np.minimum(np.arange(workers + 1), servers)
    throughput = float((shares * busy).sum()) / service_s
    return ClosedLoop(throughput, workers / throughput - think_s)


@dataclass(frozen=True, slots=True)
class Scalability:
    """Gunther's universal scalability law: X(N) = gN / (1 + alpha (N - 1) + beta N (N - 1))."""

    gain: float  # throughput of one
    contention: float  # alpha: the share that queues
    coherency: float  # beta: the cost of keeping N in agreement

    def throughput(self, n: float) -> float:
        return self.gain * n / (1.0 + self.contention * (n - 1.0) + self.coherency * n * (n - 1.0))

    @property
    def peak(self) -> float:
        """The N of the highest throughput; infinite where the coherency cost is 0."""
        return math.sqrt(max(0.0, 1.0 - self.contention) / self.coherency) if self.coherency > 0 else math.inf


def fit_scalability(n: Sequence[float], throughput: Sequence[float]) -> Scalability:
    """Fit the law to measured concurrency `n` and throughput (1/s).

    By least squares of N / X, which is linear in 1/g, alpha/g and beta/g; terms with a negative estimate are set to 0.

    Raises:
        SizingError: fewer than 4 points, or a value that is not positive.
    """
    size, rate = np.asarray(n, dtype=np.float64), np.asarray(throughput, dtype=np.float64)
    if size.size < 4 or np.any(rate <= 0) or np.any(size <= 0):
        raise SizingError(
            f"{size.size} points are too few to fit three numbers: measure at least 4 levels of concurrency"
        )
    columns = np.stack([np.ones_like(size), size - 1.0, size * (size - 1.0)], axis=1)
    scale = rate / size  # so that every point counts by its relative error
    kept = [0, 1, 2]
    while True:
        found, *_ = np.linalg.lstsq(columns[:, kept] * scale[:, None], np.ones_like(size), rcond=None)
        negative = [place for place, value in zip(kept, found, strict=True) if value < 0 and place != 0]
        if not negative:
            break
        kept.remove(negative[-1])
    by_place = dict(zip(kept, (float(value) for value in found), strict=True))
    gain = 1.0 / by_place[0]
    return Scalability(gain, by_place.get(1, 0.0) * gain, by_place.get(2, 0.0) * gain)
