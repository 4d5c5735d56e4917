"""Measures how reads slow down with more rows and with more environments, and fits the order of growth."""

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import numpy as np

from warmfront.bench.load.samples import Plan
from warmfront.bench.load.workloads import Variant, Workload, WorkloadFile, load_workloads
from warmfront.bench.statistics import percentiles
from warmfront.results import Growth

from .blocks import Meter, Site

READERS = 4  # enough to keep two cores busy, too few to measure a queue
REQUESTS = 240  # of each read at each size, in turns
TURNS = 4
FLAT = 1.3  # a figure within this ratio over all sizes has not grown: a shared machine alone varies as much


@dataclass(frozen=True, slots=True)
class Point:
    """Latencies of one read at one size."""

    size: int
    samples_us: tuple[int, ...]

    @property
    def interval(self) -> percentiles.Interval:
        return percentiles.order_statistics_interval(self.samples_us, 0.5)


def growth_of(name: str, variant: str, size_name: str, points: Sequence[Point]) -> Growth:
    """Return the medians (ms) of the points with their intervals, and the fitted order of growth."""
    around = [point.interval for point in points]
    sizes = tuple(float(point.size) for point in points)
    values = tuple(own.value / 1000.0 for own in around)
    low, high = (tuple(getattr(own, side) / 1000.0 for own in around) for side in ("low", "high"))
    return Growth(name, variant, size_name, sizes, "ms", values, fitted_order(sizes, values), low, high)


def fitted_order(sizes: Sequence[float], values: Sequence[float]) -> str:
    """Return "O(1)", "O(log N)" or "O(N)": the curve a + b f(N), b >= 0, with the smallest relative error.

    Figures within a ratio of FLAT are O(1); fewer than three sizes give "".
    """
    if len(sizes) < 3 or max(values) <= FLAT * min(values):
        return "O(1)" if len(sizes) >= 3 else ""
    n, y = np.asarray(sizes, dtype=np.float64), np.asarray(values, dtype=np.float64)
    errors = {}
    for order, f in (("O(log N)", np.log(n)), ("O(N)", n)):
        columns = np.stack([np.ones_like(n), f], axis=1) / y[:, None]
        found, *_ = np.linalg.lstsq(columns, np.ones_like(n), rcond=None)
        errors[order] = float(((columns @ found - 1.0) ** 2).sum()) if found[1] > 0 else np.inf
    if min(errors.values()) == np.inf:
        return "O(1)"  # the figures fell with size
    return min(errors, key=lambda order: errors[order])


@contextmanager
def sized_workloads(source: Path, rows: int) -> Iterator[WorkloadFile]:
    """Write a copy of a workload file with its $rows filled in, and load it. The load generator reads the copy too."""
    tenth = rows // 10
    text = Template(source.read_text(encoding="utf-8")).safe_substitute(
        rows=rows, tenth=tenth, depth=max(100, tenth - tenth // 10)
    )
    with tempfile.TemporaryDirectory(prefix="warmfront-growth-") as folder:
        path = Path(folder) / f"{source.stem}-{rows}.toml"
        path.write_text(text, encoding="utf-8")
        yield load_workloads(path)


@dataclass(slots=True)
class GrowthRun:
    """Runs the growth measurements against one emulator; `step` shows progress."""

    meter: Meter
    site: Site
    seed: int
    order: random.Random
    step: Callable[[str], None]
    taken: dict[tuple[str, str], list[Point]] = field(default_factory=dict)

    def at_rows(self, file: WorkloadFile, rows: int, variants: Sequence[str], workloads: Sequence[str] = ()) -> None:
        """Set up a number of rows and measure every read of every variant, interleaved in random order.

        Args:
            file: the workload file for this number of rows.
            rows: the number of rows.
            variants: names of the variants.
            workloads: names of the reads; empty: all.
        """
        site = Site(file, self.site.target, self.site.control)
        assert site.control is not None
        for call in file.setup_for(tuple(variants)):
            self.step(f"set-up: {call.function}, {rows:,} rows")
            site.control.invoke(call.function, call.event)
        chosen = [own for own in file.workloads if not workloads or own.name in workloads]
        pairs = [(workload, file.variant(name)) for workload in chosen for name in variants]
        found: dict[tuple[str, str], list[int]] = {(w.name, v.name): [] for w, v in pairs}
        for workload, variant in pairs:
            self.step(f"{rows:,} rows: warming up {workload.name}, {variant.name}")
            if any(request.page_depth for request in workload.requests):
                self.meter.load.walk(site.order(workload, variant, self._plan("walk", 1, 1)))
            self.meter.untimed(site, workload, variant, self._plan("warm", READERS, 10 * READERS))
        self.step(f"{rows:,} rows: reading")
        for turn in range(TURNS):
            for workload, variant in self.order.sample(pairs, len(pairs)):
                plan = self._plan(f"{workload.name} {turn}", READERS, REQUESTS // TURNS)
                recording = self.meter.untimed(site, workload, variant, plan)
                found[workload.name, variant.name] += recording.latency_us()
        for key, samples in found.items():
            self.taken.setdefault(key, []).append(Point(rows, tuple(samples)))

    def by_rows(self) -> list[Growth]:
        """Return the growth of every read over the row counts measured so far."""
        return [growth_of(f"{workload}, p50", variant, "rows", own) for (workload, variant), own in self.taken.items()]

    def by_environments(self, workload: Workload, variant: Variant, sizes: Sequence[int]) -> list[Growth]:
        """Measure single requests with each number of live environments, and the time to start that many."""
        control = self.site.control
        assert control is not None
        control.retire(variant.function)
        reads, setups = [], []
        spent_s = 0.0
        for size in sizes:
            self.step(f"{size} environments of {variant.name}")
            start = time.monotonic()
            self.meter.environments(self.site, workload, variant, size, self._plan("ramp", 1, 1))
            spent_s += time.monotonic() - start
            setups.append((size, spent_s))
            recording = self.meter.untimed(self.site, workload, variant, self._plan(f"hot {size}", 1, REQUESTS))
            reads.append(Point(size, tuple(recording.latency_us())))
        control.retire(variant.function)
        sizes_f, seconds = tuple(float(size) for size, _ in setups), tuple(value for _, value in setups)
        setup = Growth(
            "start of all environments",
            variant.name,
            "environments",
            sizes_f,
            "s",
            seconds,
            fitted_order(sizes_f, seconds),
        )
        return [growth_of("one request at a time, p50", variant.name, "environments", reads), setup]

    def _plan(self, what: str, workers: int, requests: int) -> Plan:
        return Plan(workers=workers, requests=requests, seed=f"{self.seed} growth {what}")
