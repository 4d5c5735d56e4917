"""Derives the plan of each block from the options of a run: requests or seconds, seeds and connections."""

from dataclasses import dataclass, replace

from warmfront.bench.load.samples import Plan
from warmfront.bench.load.workloads import Workload

from .options import BenchOptions


@dataclass(frozen=True, slots=True)
class Plans:
    """Makes the plans of blocks and of untimed load."""

    options: BenchOptions

    def block_count(self, workload: Workload) -> int:
        return self.options.blocks if workload.counted else self.options.box_blocks

    def block(self, workload: Workload, index: int, count: int, variants: int) -> Plan:
        seed = f"{workload.name} {index}"  # the same for every variant, so all get the same requests
        if self.options.for_s is not None:
            return self._block_of(seed, self.options.for_s / count)
        if not workload.counted:
            return self._block_of(seed, self.options.box_s / variants / count)
        share, rest = divmod(self.options.requests, count)
        plan = self.plan(seed, workers=self.options.workers, requests=share + (index < rest))
        return replace(plan, lead=self.options.lead)

    def _block_of(self, seed: str, duration_s: float) -> Plan:
        plan = self.timed(seed, duration_s)
        return plan if plan.rate is not None else replace(plan, lead=self.options.lead)

    def timed(self, seed: str, duration_s: float) -> Plan:
        plan = self.plan(seed, workers=self.options.connections, duration_s=duration_s)
        return (
            plan if self.options.rate is None else replace(plan, rate=self.options.rate, arrivals=self.options.arrivals)
        )

    def plan(self, seed: str, *, workers: int, requests: int | None = None, duration_s: float | None = None) -> Plan:
        return Plan(
            workers=workers,
            requests=requests,
            duration_s=duration_s,
            seed=f"{self.options.seed} {seed}",
            timeout_s=self.options.timeout_s,
            keep_alive=self.options.keep_alive,
        )
