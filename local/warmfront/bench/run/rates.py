"""Runs the parts of a benchmark that offer a rate: capacity, knee, sweep and equal load."""

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from warmfront.bench.load.samples import Arrivals, Plan
from warmfront.bench.load.workloads import Variant, Workload
from warmfront.bench.sizing.prices import Prices
from warmfront.bench.sizing.queueing import SizingError
from warmfront.bench.statistics import percentiles
from warmfront.results import Sized, Sweep

from .blocks import Meter, Site
from .budget import Budget, budget_of
from .emulator_process import EmulatorProcess
from .equal_load import CURVE_ROUNDS, CURVE_SHARES, KNEE_SHARE, EqualLoad, Observation, plan_of
from .offered import FORMULAS, STEPS, Climb, Offered, climb, model_of, predictions

KNEE_STEPS = (0.55, 0.7, 0.85, 1.0, 1.15, 1.35)  # fewer steps, to find only the knee
CAPACITY_S = 1.0
LOG_FLUSH_S = 0.35  # the emulator writes its functions' log this often
# Cores are shared in time slices. Under processor sharing the response is that of M/M/c for any variation of service times
# (Kleinrock, volume 2).
SIZED_FORMULA = "M/M/c"
SIZED_WINDOWS = 3  # windows of the load that checks a prediction: its p99 needs more samples
FOOTPRINT_WINDOWS = 0.5  # short: environments' memory is constant, and naive's backends come and go many times a second
FOOTPRINT_OVERHEAD_S = (
    1.5  # overhead of a footprint: ending all environments, starting the needed ones, waiting until idle
)
ROUNDS_MIN = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """Settings shared by all windows of offered load."""

    workers: int
    window_s: float
    seed: int
    timeout_s: float
    arrivals: Arrivals = "poisson"

    def plan(self, what: str, rate: float, *, workers: int | None = None, windows: float = 1) -> Plan:
        return Plan(
            workers=workers or self.workers,
            duration_s=self.window_s * windows,
            rate=rate,
            arrivals=self.arrivals,
            seed=f"{self.seed} {what}",
            timeout_s=self.timeout_s,
        )


@dataclass(frozen=True, slots=True)
class Swept:
    """A variant's curve, a prediction with the run that checks it, and the curve's limits."""

    sweep: Sweep
    sized: Sized | None
    late_share: float
    """Median over the windows up to 70 % of the knee, so that one hiccup of the machine spoils only one point. Nearer to the
    knee the cores are busy and the load generator waits for them too."""
    warning: str


@dataclass(slots=True)
class Rates:
    """Offers rates to the variants of one workload. Their environments must be warm, so that no window has a cold start."""

    meter: Meter
    site: Site
    workload: Workload
    pace: Pace
    step: Callable[[int, int, str], None]
    emulator: EmulatorProcess | None = None

    def capacity(self, variant: Variant) -> float:
        """Return the throughput of a closed loop (1/s), as the scale of a climb; too short for a reported figure."""
        plan = Plan(workers=self.pace.workers, duration_s=CAPACITY_S, seed=f"{self.pace.seed} capacity")
        recording = self.meter.untimed(self.site, self.workload, variant, plan)
        return max(1.0, len(recording) / max(recording.duration_s, CAPACITY_S))

    def offer(self, variant: Variant, what: str, rate: float, *, windows: float = 1) -> Offered:
        """Offer a rate (1/s) for a number of windows; `what` makes the seed unique."""
        return self.meter.offered(self.site, self.workload, variant, self.pace.plan(what, rate, windows=windows))

    def climb(
        self, variant: Variant, *, steps: Sequence[float] = STEPS, refinements: int = 2, budget: Budget | None = None
    ) -> Climb:
        """Find the knee of a variant; see offered.climb."""
        has_time_left = (budget or budget_of(None)).has_time_left
        taken = 0

        def measure(rate: float) -> Offered:
            nonlocal taken
            taken += 1
            self.step(taken, len(steps) + refinements, f"{variant.name}, {rate:,.0f} requests/s")
            return self.offer(variant, f"climb {taken}", rate)

        return climb(measure, self.capacity(variant), steps=steps, refinements=refinements, has_time_left=has_time_left)

    def sweep(self, variant: Variant, budget: Budget) -> Swept:
        """Measure a variant's curve within a budget, and check a prediction by a run at 70 % of the knee."""
        found = self.climb(variant, budget=budget.share(1, keep_s=SIZED_WINDOWS * self.pace.window_s))
        cores = len(os.sched_getaffinity(0))
        made = predictions(found, cores) if self.site.control is not None else ()
        knee = found.knee_rate or None
        sweep = Sweep(self.workload.name, variant.name, found.points, knee, made)
        out_of_time = f"{self.workload.name} {variant.name}: time ran out; its knee may be higher (raise --budget)"
        calm = [own.late_share for own in found.stretches if own.rate <= KNEE_SHARE * found.knee_rate]
        return Swept(
            sweep,
            sized=self._sized(variant, found, cores) if knee and made else None,
            late_share=median(calm or [0.0]),
            warning=out_of_time if found.out_of_time else "",
        )

    def _sized(self, variant: Variant, found: Climb, cores: int) -> Sized | None:
        """Predict the p99 at 70 % of the knee, then measure it with load that the prediction has not seen."""
        try:
            model = model_of(found, cores)
        except SizingError:
            return None
        offered = self.offer(variant, "sized", KNEE_SHARE * found.knee_rate, windows=SIZED_WINDOWS)
        if not len(offered.recording):
            return None
        around = percentiles.order_statistics_interval(offered.recording.latency_us(), 0.99)
        return Sized(
            workload=self.workload.name,
            variant=variant.name,
            rate=offered.rate,
            formula=SIZED_FORMULA,
            servers=cores,
            predicted_p99_ms=model.p99_ms(offered.rate, exponential=FORMULAS[SIZED_FORMULA]),
            measured_p99_ms=around.value / 1000.0,
            low=around.low / 1000.0,
            high=around.high / 1000.0,
            n=len(offered.recording),
        )

    # Equal load

    def equal_load_s(self, variants: int, rounds: int) -> float:
        """Return an estimate of the duration of `equal_load`, in seconds."""
        observations = variants * (len(CURVE_SHARES) * CURVE_ROUNDS + rounds)
        return observations * ((1 + FOOTPRINT_WINDOWS) * self.pace.window_s + FOOTPRINT_OVERHEAD_S)

    def rounds_within(self, budget: Budget, variants: int, rounds: int) -> int:
        fitting = [count for count in range(rounds + 1) if self.equal_load_s(variants, count) <= budget.left_s]
        return max(min(rounds, ROUNDS_MIN), *fitting, 0)

    def equal_load(
        self, variants: Sequence[Variant], knee_rate: float, prices: Prices, *, rounds: int, order: random.Random
    ) -> EqualLoad:
        """Compare all variants at the same rates.

        First each rate is offered while all environments are alive, to count how many it needs; then the memory of exactly
        that many environments is measured.

        Args:
            variants: the variants; the first is the baseline.
            knee_rate: of the baseline (1/s); rates are shares of it.
            prices: of Lambda.
            rounds: at the main rate.
            order: draws the order of the variants in each round.
        """
        whole = EqualLoad(self.workload.name, [variant.name for variant in variants], prices, self.pace.seed)
        stretches = [
            (variant, share, rate, number)
            for share, rate, count in plan_of(knee_rate, rounds)
            for number in range(count)
            for variant in order.sample(list(variants), len(variants))
        ]
        offered = []
        for done, (variant, _, rate, number) in enumerate(stretches, 1):
            self.step(done, 2 * len(stretches), f"{variant.name}, {rate:,.0f} requests/s")
            offered.append(self.offer(variant, f"equal {rate:.3f} {number}", rate))
        for done, ((variant, share, rate, number), found) in enumerate(zip(stretches, offered, strict=True), 1):
            self.step(len(stretches) + done, 2 * len(stretches), f"{variant.name}, memory")
            whole.observations.append(self._observe(variant, share, rate, number, found))
        return whole

    def _observe(self, variant: Variant, share: float, rate: float, number: int, found: Offered) -> Observation:
        begin = self.emulator.log_bytes if self.emulator else 0
        needed = max(1, found.concurrency[1])
        what = f"footprint {rate:.3f} {number}"
        plan = self.pace.plan(what, rate, workers=needed, windows=FOOTPRINT_WINDOWS)
        footprint = self.meter.footprint(self.site, self.workload, variant, plan)
        time.sleep(LOG_FLUSH_S)
        reports = tuple(self.emulator.reports(begin)) if self.emulator else ()
        return Observation(variant.name, share, rate, found, footprint, reports)
