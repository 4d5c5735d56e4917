"""Evaluates load at an offered rate: points of a curve, the knee (highest sustained rate), and the curves of models."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from warmfront.bench.load.samples import Recording
from warmfront.bench.sizing.queueing import (
    FloatArray,
    Queue,
    Service,
    SizingError,
    fit_scalability,
    measured_service,
    service_of,
)
from warmfront.bench.statistics import percentiles
from warmfront.results import LoadPoint, Prediction

HELD = 0.95  # a rate is sustained if this share of a window's requests is answered within it; else the queue grows
STEPS = (0.15, 0.3, 0.5, 0.7, 0.85, 1.0, 1.15, 1.35, 1.6, 2.0)  # times the throughput of a closed loop
LOWER = 4  # halvings below the first step before giving up on finding a sustained rate
CURVE_POINTS = 40


@dataclass(frozen=True, slots=True)
class Offered:
    """One window of open load: its samples, its length in seconds, and the CPU seconds of every part."""

    recording: Recording
    window_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """The actual rate: a Poisson window of two seconds is several percent off the rate it was drawn with."""
        return len(self.recording) / self.window_s

    @property
    def answered(self) -> int:
        end = min(self.recording.intended_ns, default=0) + int(self.window_s * 1e9)
        return sum(done <= end for done in self.recording.done_ns)

    @property
    def held(self) -> bool:
        """Whether the rate was sustained. Requests in flight at the end of the window are not late, so the last median
        response time of the window is not judged."""
        if not len(self.recording):
            return True
        typical_ns = int(np.median(self._service_ns()))
        due_end = min(self.recording.intended_ns) + int(self.window_s * 1e9) - typical_ns
        due = [done <= due_end + typical_ns for at, done in self._pairs() if at <= due_end]
        return not due or sum(due) / len(due) >= HELD

    @property
    def late_share(self) -> float:
        """The generator's own p99 lateness divided by the p99 latency."""
        latency_us = self.recording.latency_us()
        if not latency_us or not self.recording.late_ns:
            return 0.0
        return (
            percentiles.percentile(self.recording.late_ns, 0.99)
            / 1000.0
            / max(1.0, percentiles.percentile(latency_us, 0.99))
        )

    def _pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.recording.intended_ns, self.recording.done_ns, strict=True))

    def _service_ns(self) -> FloatArray:
        took: FloatArray = np.asarray(self.recording.done_ns, dtype=np.float64) - np.asarray(self.recording.sent_ns)
        return took

    @property
    def concurrency(self) -> tuple[float, int]:
        """Mean and peak number of requests in flight, i.e. of environments that this load needs."""
        sent, done = self.recording.sent_ns, self.recording.done_ns
        under_way = peak = 0
        for _, step in sorted([(at, 1) for at in sent] + [(at, -1) for at in done]):
            under_way += step
            peak = max(peak, under_way)
        return float(self._service_ns().sum()) / 1e9 / self.window_s, peak

    def point(self) -> LoadPoint:
        """Return this window as a point of a curve."""
        latency_us = self.recording.latency_us()
        count = len(self.recording)
        return LoadPoint(
            offered_rate=self.rate,
            throughput=self.answered / self.window_s,
            p50_ms=percentiles.percentile(latency_us, 0.50) / 1000.0,
            p99_ms=percentiles.percentile(latency_us, 0.99) / 1000.0,
            errors=self.recording.errors,
            environments=float(self.concurrency[1]),
            cpu_ms=1000.0 * sum(self.cpu_s.values()) / count if self.cpu_s else None,
        )


@dataclass(frozen=True, slots=True)
class Climb:
    """The windows of a climb in order of their rates, and the highest sustained rate."""

    stretches: tuple[Offered, ...]
    knee_rate: float
    out_of_time: bool = False
    """The time ran out before the search was complete: the knee is at this rate or above it."""

    @property
    def points(self) -> tuple[LoadPoint, ...]:
        return tuple(own.point() for own in self.stretches)


def climb(
    measure: Callable[[float], Offered],
    capacity: float,
    *,
    steps: Sequence[float] = STEPS,
    refinements: int = 2,
    has_time_left: Callable[[], bool] = lambda: True,
) -> Climb:
    """Raise the rate in steps until it is not sustained, then bisect between the last two rates.

    A rate counts as not sustained after two failures (one if time has run out), because a single slow second of the machine
    is not a knee. When time runs out, the highest rate sustained so far is the knee; without one the search continues.

    Args:
        measure: offers a rate (1/s) and returns the window.
        capacity: throughput of a closed loop (1/s), the scale of the steps.
        steps: multiples of the capacity, ascending.
        refinements: number of bisections.
        has_time_left: whether the search may continue.
    """
    found: list[Offered] = []
    out_of_time = False

    def may_continue() -> bool:
        nonlocal out_of_time
        out_of_time = out_of_time or not has_time_left()
        return not out_of_time

    def holds(rate: float) -> bool:
        found.append(measure(rate))
        if not found[-1].held and may_continue():
            found.append(measure(rate))
        return found[-1].held

    held, broken = 0.0, math.inf
    for step in steps:
        if held and not may_continue():
            break
        if not holds(step * capacity):
            broken = step * capacity
            break
        held = step * capacity
    for _ in range(LOWER):
        if held or broken == math.inf:
            break
        held, broken = (broken / 2, broken) if holds(broken / 2) else (0.0, broken / 2)
    for _ in range(refinements if held and broken < math.inf else 0):
        if not may_continue():
            break
        middle = math.sqrt(held * broken)
        held, broken = (middle, broken) if holds(middle) else (held, middle)
    return Climb(tuple(sorted(found, key=lambda own: own.rate)), held, out_of_time)


@dataclass(frozen=True, slots=True)
class Model:
    """A queueing model of the API: measured service times without queueing, number of servers and capacity (1/s)."""

    base: Service  # of a whole request at the lowest rate
    servers: int
    capacity: float

    def queue(self, rate: float, *, exponential: bool) -> Queue:
        mean_s = self.servers / self.capacity
        return Queue(rate, self.servers, service_of(mean_s, 1.0 if exponential else self.base.cs2))

    def p99_ms(self, rate: float, *, exponential: bool) -> float:
        if rate >= self.capacity:
            return math.inf
        return 1000.0 * self.queue(rate, exponential=exponential).response_percentile_s(0.99, self.base.quantiles_s)


def model_of(found: Climb, servers: int) -> Model:
    """Derive the model from a climb: service times at the lowest rate, capacity from the highest throughput.

    Args:
        found: the climb.
        servers: cores of the machine.

    Raises:
        SizingError: the lowest rates had too few requests.
    """
    calm = next((own for own in found.stretches if len(own.recording) >= 20), None)
    if calm is None:
        raise SizingError("too few requests at the lowest rates for a model: use a longer --window")
    base = measured_service([us / 1e6 for us in calm.recording.service_us()], "the lowest rate")
    capacity = max(max(own.answered / own.window_s for own in found.stretches), found.knee_rate)
    return Model(base, servers, capacity)


FORMULAS = {"M/M/c": True, "G/G/c": False}


def predictions(found: Climb, servers: int) -> tuple[Prediction, ...]:
    """Return the curves of M/M/c and G/G/c for the p99, and of the universal scalability law for the throughput.

    Empty where the climb has too few requests.
    """
    try:
        model = model_of(found, servers)
    except SizingError:
        return ()
    points = found.points
    top = max(point.offered_rate for point in points)
    rates = np.geomspace(points[0].offered_rate, top, CURVE_POINTS).tolist()
    made = []
    for name, exponential in FORMULAS.items():
        curve = [(rate, model.p99_ms(rate, exponential=exponential)) for rate in rates]
        finite = [(rate, value) for rate, value in curve if math.isfinite(value)]
        wrong = [
            model.p99_ms(point.offered_rate, exponential=exponential) / point.p99_ms - 1.0
            for point in points
            if point.offered_rate <= 0.95 * found.knee_rate
        ]
        error = float(np.median(np.abs(wrong))) if wrong else None
        made.append(Prediction(name, "p99", tuple(r for r, _ in finite), tuple(v for _, v in finite), error))
    return (*made, *_scalability(found, rates))


def _scalability(found: Climb, rates: Sequence[float]) -> tuple[Prediction, ...]:
    """Gunther's law over the number of requests in flight (Little's law: throughput times time in service)."""
    at = [(own.concurrency[0], own.answered / own.window_s) for own in found.stretches if own.answered]
    try:
        law = fit_scalability([n for n, _ in at], [x for _, x in at])
    except SizingError:
        return ()
    most = law.throughput(min(law.peak, max(n for n, _ in at)))
    wrong = [law.throughput(n) / x - 1.0 for n, x in at]
    values = tuple(min(rate, most) for rate in rates)
    return (Prediction("USL", "throughput", tuple(rates), values, float(np.median(np.abs(wrong)))),)
