"""Evaluates load at an offered rate: one point of a curve, the knee, and the models' curves."""

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

HELD = 0.95  # of what was asked in a window, answered within it: less, and the line of those who wait grows
STEPS = (0.15, 0.3, 0.5, 0.7, 0.85, 1.0, 1.15, 1.35, 1.6, 2.0)  # of what a closed loop answered
LOWER = 4  # halvings below the first step before a service is called unable to hold any rate
CURVE_POINTS = 40


@dataclass(frozen=True, slots=True)
class Offered:
    """One stretch of open load: what was recorded, how long was sent for, and the CPU of every part."""

    recording: Recording
    window_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """As it came out: a Poisson stretch of two seconds is several percent off the rate it was drawn with."""
        return len(self.recording) / self.window_s

    @property
    def answered(self) -> int:
        end = min(self.recording.intended_ns, default=0) + int(self.window_s * 1e9)
        return sum(done <= end for done in self.recording.done_ns)

    @property
    def held(self) -> bool:
        """Answered as fast as asked. What is under way when the window ends was not answered in it, nor late: one typical
        answer's time is granted."""
        if not len(self.recording):
            return True
        typical_ns = int(np.median(self._service_ns()))
        due_end = min(self.recording.intended_ns) + int(self.window_s * 1e9) - typical_ns
        due = [done <= due_end + typical_ns for at, done in self._pairs() if at <= due_end]
        return not due or sum(due) / len(due) >= HELD

    @property
    def late_share(self) -> float:
        """What was sent late by the generator's own fault, beside what was waited for: both at their p99."""
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
        """Mean and peak of how many were under way at once: the environments that so much load takes."""
        sent, done = self.recording.sent_ns, self.recording.done_ns
        under_way = peak = 0
        for _, step in sorted([(at, 1) for at in sent] + [(at, -1) for at in done]):
            under_way += step
            peak = max(peak, under_way)
        return float(self._service_ns().sum()) / 1e9 / self.window_s, peak

    def point(self) -> LoadPoint:
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
    """The stretches of a climb in order of their rates, and the highest rate that was held."""

    stretches: tuple[Offered, ...]
    knee_rate: float
    hurried: bool = False
    """There was no time left for more: the knee lies at this rate or above it."""

    @property
    def points(self) -> tuple[LoadPoint, ...]:
        return tuple(own.point() for own in self.stretches)


def climb(
    measure: Callable[[float], Offered],
    capacity: float,
    *,
    steps: Sequence[float] = STEPS,
    refinements: int = 2,
    spare: Callable[[], bool] = lambda: True,
) -> Climb:
    """Rates in steps up to the first that is not held, then halfway between the last two, a few times.

    A rate counts as not held when it failed twice, or once when there is no time for a second: one slow second of the
    machine is no knee. Once there is no time to `spare`, the highest rate that was held by then is the knee; until one
    was held it goes on.
    """
    found: list[Offered] = []
    hurried = False

    def going_on() -> bool:
        nonlocal hurried
        hurried = hurried or not spare()
        return not hurried

    def holds(rate: float) -> bool:
        found.append(measure(rate))
        if not found[-1].held and going_on():
            found.append(measure(rate))
        return found[-1].held

    held, broken = 0.0, math.inf
    for step in steps:
        if held and not going_on():
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
        if not going_on():
            break
        middle = math.sqrt(held * broken)
        held, broken = (middle, broken) if holds(middle) else (held, middle)
    return Climb(tuple(sorted(found, key=lambda own: own.rate)), held, hurried)


@dataclass(frozen=True, slots=True)
class Model:
    """The measured service below the bottleneck, and the line before it: so many servers, so much at most."""

    base: Service  # of an unhurried request, whole
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
    """`servers`: cores of the machine. The base is the slowest rate's service; the most answered is the capacity."""
    calm = next((own for own in found.stretches if len(own.recording) >= 20), None)
    if calm is None:
        raise SizingError("too few requests at the lowest rates to model from: longer stretches are needed")
    base = measured_service([us / 1e6 for us in calm.recording.service_us()], "the lowest rate")
    capacity = max(max(own.answered / own.window_s for own in found.stretches), found.knee_rate)
    return Model(base, servers, capacity)


FORMULAS = {"M/M/c": True, "G/G/c": False}


def predictions(found: Climb, servers: int) -> tuple[Prediction, ...]:
    """M/M/c and G/G/c for the p99, the universal scalability law for the throughput; none where there is too little."""
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
    """Gunther's law over how many were under way (Little: throughput times time in service)."""
    at = [(own.concurrency[0], own.answered / own.window_s) for own in found.stretches if own.answered]
    try:
        law = fit_scalability([n for n, _ in at], [x for _, x in at])
    except SizingError:
        return ()
    most = law.throughput(min(law.peak, max(n for n, _ in at)))
    wrong = [law.throughput(n) / x - 1.0 for n, x in at]
    values = tuple(min(rate, most) for rate in rates)
    return (Prediction("USL", "throughput", tuple(rates), values, float(np.median(np.abs(wrong)))),)
