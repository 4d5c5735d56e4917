"""Measures the first request of fresh environments and the next requests of the same caller, for each way to start."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from warmfront.bench.load.load_process import LoadError
from warmfront.bench.load.workloads import Variant, Workload
from warmfront.results import Cold

from .blocks import Meter, Site
from .plans import Plans
from .progress import Progress

SETTLING = 5
"""Requests after the first that are not counted, because the interpreter still specialises the code that they run."""


@dataclass(slots=True)
class _Found:
    stages: list[dict[str, float]] = field(default_factory=list)
    next_us: list[tuple[int, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """Measures `count` cold starts of each variant and way, each followed by `next_requests` requests of one caller."""

    meter: Meter
    plans: Plans
    progress: Progress
    count: int
    next_requests: int

    def measure(
        self, sites: Mapping[str, Site], workload: Workload, variants: Sequence[Variant], order: random.Random
    ) -> list[Cold]:
        """Measure all cold starts, interleaving ways and variants in random order.

        Args:
            sites: way to start ("on-demand", "snap-start") -> the emulator that uses it.
            workload: the request to send.
            variants: the variants to measure.
            order: draws the order.

        Raises:
            LoadError: a request failed.
        """
        pairs = [(way, variant) for way in sites for variant in variants]
        found = {(way, variant.name): _Found() for way, variant in pairs}
        self.progress.phase(f"{self.count} cold starts of {len(pairs)} kinds")
        for number in range(self.count):
            for way, variant in order.sample(pairs, len(pairs)):
                self.progress.step(number + 1, self.count, f"{variant.name} {way}")
                self._one(sites[way], workload, variant, number, found[way, variant.name])
        return [
            Cold(
                variant.function, variant.name, len(own.stages), tuple(own.stages), way=way, next_us=tuple(own.next_us)
            )
            for way, variant in pairs
            for own in [found[way, variant.name]]
        ]

    def _one(self, site: Site, workload: Workload, variant: Variant, number: int, found: _Found) -> None:
        plan = self.plans.plan(f"cold {number}", workers=1, requests=1)
        found.stages.append(self.meter.cold_start(site, workload, variant, plan))
        if not self.next_requests:
            return
        plan = self.plans.plan(f"next {number}", workers=1, requests=SETTLING + self.next_requests)
        recording = self.meter.untimed(site, workload, variant, plan)
        if recording.errors:
            raise LoadError(f"{recording.errors} requests after a cold start of {variant.function} failed")
        found.next_us.append(tuple(recording.latency_us()[SETTLING:]))
