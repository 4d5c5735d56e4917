"""Runs the parts of a benchmark that offer rates: capacity, knee, sweep, equal load."""

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
from .equal_load import CURVE_ROUNDS, CURVE_SHARES, KNEE_SHARE, EqualLoad, Look, plan_of
from .offered import FORMULAS, STEPS, Climb, Offered, climb, model_of, predictions

KNEE_STEPS = (0.55, 0.7, 0.85, 1.0, 1.15, 1.35)  # where only the knee is wanted
CAPACITY_S = 1.0
LOG_FLUSH_S = 0.35  # the emulator writes its functions' log this often
# Cores are shared by slices of time, and what is served so waits as in M/M/c whatever the variation of its service
# (Kleinrock, volume 2: processor sharing).
SIZED_FORMULA = "M/M/c"
SIZED_WINDOWS = 3  # the load that `size` is held against is longer: its p99 is a figure to compare
FOOTPRINT_WINDOWS = 0.5  # environments hold what they hold; only naive's backends come and go, many times in a second
LOOK_BESIDES_S = 1.5  # of a look: ending all environments, starting as many as are needed, coming to rest
ROUNDS_MIN = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """What every stretch of offered load has in common."""

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
    """A variant's curve, what was predicted beside a run, and what there is to say against it."""

    sweep: Sweep
    sized: Sized | None
    late_share: float
    """Of the typical stretch up to 70 % of the knee: a hiccup of the machine spoils one point, not the curve. Nearer to
    the knee the cores are full, and whoever sends waits for them as well."""
    warning: str


@dataclass(slots=True)
class Rates:
    """Offers rates to the variants of one workload, whose environments are warm: no stretch waits for a cold start."""

    meter: Meter
    site: Site
    workload: Workload
    pace: Pace
    step: Callable[[int, int, str], None]
    emulator: EmulatorProcess | None = None

    def capacity(self, variant: Variant) -> float:
        """What a closed loop gets answered in a second: the scale of a climb, and no figure."""
        plan = Plan(workers=self.pace.workers, duration_s=CAPACITY_S, seed=f"{self.pace.seed} capacity")
        recording = self.meter.untimed(self.site, self.workload, variant, plan)
        return max(1.0, len(recording) / max(recording.duration_s, CAPACITY_S))

    def offer(self, variant: Variant, what: str, rate: float, *, windows: float = 1) -> Offered:
        return self.meter.offered(self.site, self.workload, variant, self.pace.plan(what, rate, windows=windows))

    def climb(
        self, variant: Variant, *, steps: Sequence[float] = STEPS, refinements: int = 2, budget: Budget | None = None
    ) -> Climb:
        spare = (budget or budget_of(None)).spare
        taken = 0

        def measure(rate: float) -> Offered:
            nonlocal taken
            taken += 1
            self.step(taken, len(steps) + refinements, f"{variant.name}, {rate:,.0f} requests/s")
            return self.offer(variant, f"climb {taken}", rate)

        return climb(measure, self.capacity(variant), steps=steps, refinements=refinements, spare=spare)

    def sweep(self, variant: Variant, budget: Budget) -> Swept:
        found = self.climb(variant, budget=budget.share(1, keep_s=SIZED_WINDOWS * self.pace.window_s))
        cores = len(os.sched_getaffinity(0))
        made = predictions(found, cores) if self.site.control is not None else ()
        knee = found.knee_rate or None
        sweep = Sweep(self.workload.name, variant.name, found.points, knee, made)
        hurried = f"{self.workload.name} {variant.name}: no time for more rates; its knee may be higher (--budget)"
        calm = [own.late_share for own in found.stretches if own.rate <= KNEE_SHARE * found.knee_rate]
        return Swept(
            sweep,
            sized=self._sized(variant, found, cores) if knee and made else None,
            late_share=median(calm or [0.0]),
            warning=hurried if found.hurried else "",
        )

    def _sized(self, variant: Variant, found: Climb, cores: int) -> Sized | None:
        """The prediction first, then a load that it knows nothing of."""
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
        """About how long it takes."""
        looks = variants * (len(CURVE_SHARES) * CURVE_ROUNDS + rounds)
        return looks * ((1 + FOOTPRINT_WINDOWS) * self.pace.window_s + LOOK_BESIDES_S)

    def rounds_within(self, budget: Budget, variants: int, rounds: int) -> int:
        fitting = [count for count in range(rounds + 1) if self.equal_load_s(variants, count) <= budget.left_s]
        return max(min(rounds, ROUNDS_MIN), *fitting, 0)

    def equal_load(
        self, variants: Sequence[Variant], knee_rate: float, prices: Prices, *, rounds: int, order: random.Random
    ) -> EqualLoad:
        """First what each rate needs, all environments being there; then what just so many environments hold."""
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
            whole.looks.append(self._look(variant, share, rate, number, found))
        return whole

    def _look(self, variant: Variant, share: float, rate: float, number: int, found: Offered) -> Look:
        begin = self.emulator.log_bytes if self.emulator else 0
        needed = max(1, found.concurrency[1])
        what = f"footprint {rate:.3f} {number}"
        plan = self.pace.plan(what, rate, workers=needed, windows=FOOTPRINT_WINDOWS)
        footprint = self.meter.footprint(self.site, self.workload, variant, plan)
        time.sleep(LOG_FLUSH_S)
        reports = tuple(self.emulator.reports(begin)) if self.emulator else ()
        return Look(variant.name, share, rate, found, footprint, reports)
