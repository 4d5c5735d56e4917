"""Runs a whole benchmark: set-up, cold starts, warm-up, interleaved blocks, then equal load."""

import itertools
import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TextIO

from warmfront.bench.load.load_process import LoadProcess
from warmfront.bench.load.samples import Plan
from warmfront.bench.load.workloads import Variant, Workload, WorkloadFile, load_workloads
from warmfront.bench.sizing.prices import Prices, read_prices
from warmfront.bench.statistics import percentiles
from warmfront.results import Block, Result, Sweep

from . import checks
from .blocks import Meter, Site
from .budget import Budget, budget_of
from .cold_starts import ColdStarts
from .emulator_process import Control, EmulatorProcess
from .growth import GrowthRun, sized_workloads
from .measured import Measured
from .options import BenchOptions, OptionError
from .outcome import result_of
from .plans import Plans
from .progress import Progress
from .rates import KNEE_STEPS, Pace, Rates
from .servers import Needs, Servers, servers

FLOOR = Path(__file__).with_name("floor")
BENCH_SERVERS = ("--backing", "url")  # the servers that the bench started, on loopback
RESERVE_CONNECTIONS = 20  # of Postgres, in addition to one for each environment of each variant
WARM_ROUNDS = 4  # requests of each worker in one round of a warm-up; half as many where all environments exist already


def run_bench(options: BenchOptions, *, stream: TextIO | None = None) -> Result:
    """Run a benchmark. Every process that it starts is stopped, also after an error.

    Args:
        options: what to measure.
        stream: where progress goes; standard error by default.

    Raises:
        OptionError: options contradict each other or name something missing.
        WorkloadError: the workload file is invalid.
        PriceError: the price file is invalid.
        EmulatorError: the emulator did not start or rejected a request.
        LoadError: the load generator failed.
        BackingError: a backing service did not start.
    """
    with ExitStack() as stack:
        if options.growth:  # a workload file with a size in it; begin with the smallest
            file = stack.enter_context(sized_workloads(options.workload, min(options.rows)))
        else:
            file = load_workloads(options.workload)
        budget = budget_of(options.budget_s)
        return Session(options, file, Progress(stream or sys.stderr, budget), stack, budget).run()


@dataclass(slots=True)
class Session:
    """The state of one run."""

    options: BenchOptions
    file: WorkloadFile
    progress: Progress
    stack: ExitStack
    budget: Budget
    measured: Measured = field(default_factory=Measured)
    emulator: EmulatorProcess | None = None
    servers: Servers | None = None

    @property
    def plans(self) -> Plans:
        return Plans(self.options)

    def run(self) -> Result:
        workloads = self._chosen(self.file.workloads, self.options.only, "--only")
        variants = self._chosen(self.file.variants, self.options.variants, "--variants")
        prices = read_prices(self.options.prices)
        meter = Meter(self.stack.enter_context(LoadProcess.start()), time.monotonic())
        self.progress.phase("starting the emulator" if self.options.url is None else f"measuring {self.options.url}")
        site = self._site(variants)
        floor = None if self.options.sweep or self.options.growth else self._floor_site()
        if not self.options.growth:
            self._set_up(site, variants)
        rounds = random.Random(f"order {self.options.seed}")
        if self.options.growth:
            self._growth(meter, site, workloads, variants, rounds)
            self.progress.end()
            return result_of(self.options, self.measured, meter, workloads, variants)
        if self.options.sweep:
            workloads = workloads if self.options.only else workloads[:1]
            self._sweeps(meter, site, workloads, variants)
            self._equal_load(meter, site, workloads[0], variants, rounds, prices)
            self.progress.end()
            return result_of(self.options, self.measured, meter, workloads, variants)
        self._cold_starts(meter, site, workloads[0], variants, rounds)
        for number, workload in enumerate(workloads):
            if workload.fresh and number:
                self._set_up(site, variants)
            self._workload(meter, site, workload, variants, rounds, floor)
            if not any(later.counted for later in workloads[number + 1 :]):
                floor = None
        if self.options.rate is None:
            self._equal_load(meter, site, workloads[0], variants, rounds, prices)
        self.progress.end()
        return result_of(self.options, self.measured, meter, workloads, variants)

    # The API to measure

    def _chosen[T: (Variant, Workload)](self, things: Sequence[T], names: Sequence[str], option: str) -> tuple[T, ...]:
        known = {thing.name: thing for thing in things}
        for name in names:
            if name not in known:
                raise OptionError(f"{option} {name}: {self.file.path} has {', '.join(known)}")
        return tuple(known[name] for name in names) if names else tuple(things)

    def _site(self, variants: Sequence[Variant]) -> Site:
        remote = self.options.remote
        if remote is not None:
            absent = "no cold starts and no CPU" if self.options.reports else "no cold starts, CPU or memory"
            self.measured.warnings.append(f"a deployed API was measured: {absent}, and its data was not reset")
            return Site(self.file, remote, base_path=self.options.base_path)
        if not self.options.template.is_file():
            raise OptionError(
                f"--template {self.options.template} does not exist; run in the project's folder or give the path of a template"
            )
        most = max(self.options.environments) if self.options.growth else self.options.connections
        connections = len(variants) * most + RESERVE_CONNECTIONS
        process = self._start_emulator(connections)
        self.emulator = self.stack.enter_context(process)
        state = process.control.state()
        self.measured.backing = {name: dict(about) for name, about in state.backing.items()}
        if self.measured.distance is not None:
            self.measured.backing["relay"] = self.measured.distance.described
        for variant in variants:
            if variant.function not in state.functions:
                raise OptionError(
                    f"{self.file.path}: variant {variant.name!r} has function {variant.function!r}; "
                    f"{self.options.template} has {', '.join(state.functions)}"
                )
        return Site(self.file, process.control.target, process.control)

    def _start_emulator(self, connections: int) -> EmulatorProcess:
        options = self.options
        if options.needs or options.rtt_s:
            needs = options.needs or Needs(postgres=True, redis=True)
            started = servers(needs, rtt_s=options.rtt_s, max_connections=connections)
            self.servers = self.stack.enter_context(started)
            self.measured.distance = self.servers.distance
        return self._emulator(connections)

    def _emulator(self, connections: int, *arguments: str) -> EmulatorProcess:
        own = self.servers
        if own is None:
            return EmulatorProcess.start(self.options.template, max_connections=connections, arguments=arguments)
        return EmulatorProcess.start(
            self.options.template,
            max_connections=connections,
            arguments=(*BENCH_SERVERS, *arguments),
            variables=own.variables,
            bench_servers=own.about,
        )

    def _floor_site(self) -> Site | None:
        if self.options.url is not None or not self.options.floor:
            return None
        process = EmulatorProcess.start(FLOOR / "template.yaml")
        self.stack.enter_context(process)
        return Site(load_workloads(FLOOR / "workload.toml"), process.control.target, process.control)

    def _set_up(self, site: Site, variants: Sequence[Variant]) -> None:
        if site.control is None:
            return
        for call in self.file.setup_for(tuple(variant.name for variant in variants)):
            self.progress.phase(f"set-up: {call.function}")
            site.control.invoke(call.function, call.event)

    # Cold

    def _cold_starts(
        self, meter: Meter, site: Site, workload: Workload, variants: Sequence[Variant], order: random.Random
    ) -> None:
        options = self.options
        if site.control is None or not options.cold_starts:
            return
        with ExitStack() as stack:
            sites = {"on-demand": site}
            if options.snap_start and self.servers is not None:
                self.progress.phase("starting an emulator with SnapStart")
                snap = stack.enter_context(self._emulator(0, "--start", "snap-start"))
                sites["snap-start"] = Site(self.file, snap.control.target, snap.control)
            cold = ColdStarts(meter, self.plans, self.progress, options.cold_starts, options.next_requests)
            self.measured.cold += cold.measure(sites, workload, variants, order)

    # Warm

    def _workload(
        self,
        meter: Meter,
        site: Site,
        workload: Workload,
        variants: Sequence[Variant],
        order: random.Random,
        floor: Site | None,
    ) -> None:
        entries = [_Entry(site, workload, variant, self.measured.blocks) for variant in variants]
        if floor is not None and workload.counted:
            entries.append(_Entry(floor, floor.file.workloads[0], floor.file.variants[0], self.measured.floor_blocks))
        for entry in entries:
            self._warm(meter, entry)
        count = self.plans.block_count(workload)
        self.progress.phase(f"{workload.name}: {count} blocks of each variant, in random order")
        for index in range(count):
            for entry in order.sample(entries, len(entries)):
                self.progress.step(index + 1, count, entry.variant.name)
                self._block(meter, entry, index, count)

    def _block(self, meter: Meter, entry: "_Entry", index: int, count: int) -> None:
        memory = None
        if index % -(-count // self.options.memory_rounds) == 0 and entry.blocks is self.measured.blocks:
            plan = self.plans.timed(f"{entry.workload.name} memory {index}", self.options.memory_s)
            memory = meter.memory(entry.site, entry.workload, entry.variant, plan)
        plan = self.plans.block(entry.workload, index, count, len(self.file.variants))
        block = self._calm_block(meter, entry, plan, index, count)
        entry.blocks.append(block if memory is None else _with_memory(block, memory))

    def _calm_block(self, meter: Meter, entry: "_Entry", plan: Plan, index: int, count: int) -> Block:
        """Run a block, and again if the machine stalled during it, because a stall says nothing about the variant.

        The CPU heartbeat decides, never a latency, and by the same rule for all variants. At most half as many blocks are
        re-run as the variant has.
        """
        expected = self._expected(entry)
        block = meter.block(entry.site, entry.workload, entry.variant, plan, index=index, expected=expected)
        while checks.is_stalled(block) and sum(map(entry.names, self.measured.rerun)) < count // 2:
            self.measured.rerun.append(block)
            plan = replace(
                plan, seed=f"{plan.seed} again"
            )  # a new seed: the same writes would meet the rows of the first attempt
            block = meter.block(entry.site, entry.workload, entry.variant, plan, index=index, expected=expected)
        return block

    def _warm(self, meter: Meter, entry: "_Entry") -> None:
        self.progress.phase(f"{entry.workload.name}: warming up {entry.variant.name}")
        if any(request.page_depth for request in entry.workload.requests):
            plan = self.plans.plan("walk", workers=1, requests=1)
            meter.load.walk(entry.site.order(entry.workload, entry.variant, plan))
        self._warm_up(meter, entry)

    def _warm_up(self, meter: Meter, entry: "_Entry") -> None:
        """Send load until every worker has an environment and the medians of two rounds agree, or the time is over."""
        workers = self.options.workers
        share = 0.5
        if entry.site.control is not None and self._environments(entry) < workers:
            share = 1.0
            ramp = self.plans.plan("ramp", workers=1, requests=1)
            meter.environments(entry.site, entry.workload, entry.variant, workers, ramp)
        medians: list[float] = []
        deadline = time.monotonic() + share * self.options.warm_s
        requests = int(share * WARM_ROUNDS * workers)
        for number in itertools.count():
            plan = self.plans.plan(f"{entry.workload.name} warm {number}", workers=workers, requests=requests)
            medians.append(median(meter.untimed(entry.site, entry.workload, entry.variant, plan).latency_us()))
            settled = percentiles.settled(medians) and self._environments(entry) >= workers
            if settled or time.monotonic() > deadline:
                return

    def _environments(self, entry: "_Entry") -> int:
        control: Control | None = entry.site.control
        return self.options.workers if control is None else len(control.state().functions[entry.variant.function].pids)

    def _expected(self, entry: "_Entry") -> int:
        """How many requests to render for a timed block, estimated from the last one."""
        own = [block for block in entry.blocks if entry.names(block)]
        return int(own[-1].requests * 1.2) if own else 4 * self.options.workers

    # Growth

    def _growth(
        self,
        meter: Meter,
        site: Site,
        workloads: Sequence[Workload],
        variants: Sequence[Variant],
        order: random.Random,
    ) -> None:
        run = GrowthRun(meter, site, self.options.seed, order, self.progress.phase)
        names, reads = [variant.name for variant in variants], [workload.name for workload in workloads]
        for rows in self.options.rows:
            with sized_workloads(self.options.workload, rows) as file:
                run.at_rows(file, rows, names, reads)
        self.measured.growth += run.by_rows()
        for variant in variants:
            self.measured.growth += run.by_environments(workloads[0], variant, self.options.environments)

    # Offered rates

    def _rates(self, meter: Meter, site: Site, workload: Workload, window_s: float) -> Rates:
        options = self.options
        pace = Pace(options.connections, window_s, options.seed, options.timeout_s, options.arrivals)
        return Rates(meter, site, workload, pace, self.progress.step, self.emulator)

    def _sweeps(self, meter: Meter, site: Site, workloads: Sequence[Workload], variants: Sequence[Variant]) -> None:
        equal = self._rates(meter, site, workloads[0], self.options.equal_window_s)
        keep_s = equal.equal_load_s(len(variants), self.options.equal_rounds) if self._equal_is_due(site) else 0.0
        for number, workload in enumerate(workloads):
            if workload.fresh and number:
                self._set_up(site, variants)
            for place, variant in enumerate(variants):
                to_come = (len(workloads) - number) * len(variants) - place
                share = self.budget.share(to_come, keep_s=keep_s)
                self._warm(meter, _Entry(site, workload, variant, self.measured.blocks))
                self.progress.phase(f"{workload.name}: looking for the knee of {variant.name}")
                rates = self._rates(meter, site, workload, self.options.window_s)
                found = rates.sweep(variant, share)
                self.measured.sweeps.append(found.sweep)
                self.measured.late_shares.append(found.late_share)
                self.measured.sized += [found.sized] if found.sized else []
                self.measured.warnings += [found.warning] if found.warning else []

    def _equal_is_due(self, site: Site) -> bool:
        return site.control is not None and self.options.equal_load and bool(self.options.equal_rounds)

    def _equal_load(
        self,
        meter: Meter,
        site: Site,
        workload: Workload,
        variants: Sequence[Variant],
        order: random.Random,
        prices: Prices,
    ) -> None:
        """Compare at equal load, at shares of the baseline's knee. Runs last, because it ends the environments of the blocks."""
        if not self._equal_is_due(site):
            return
        rates = self._rates(meter, site, workload, self.options.equal_window_s)
        for variant in variants:
            self._warm(meter, _Entry(site, workload, variant, self.measured.blocks))
        knee = next((own.knee_rate for own in self.measured.sweeps if self._is(own, workload, variants[0])), None)
        if knee is None:
            self.progress.phase(f"{workload.name}: looking for the knee of {variants[0].name}")
            found = rates.climb(variants[0], steps=KNEE_STEPS)
            knee = found.knee_rate
            self.measured.sweeps.append(Sweep(workload.name, variants[0].name, found.points, knee or None))
        if not knee:
            self.measured.warnings.append(
                f"{variants[0].name} sustained no rate, so memory at equal load was not measured"
            )
            return
        self.progress.phase(f"{workload.name}: memory and cost at the same offered rate")
        rounds = rates.rounds_within(self.budget, len(variants), self.options.equal_rounds)
        knee = sustained(knee, self.measured.blocks, workload.name, variants[0].name)
        self.measured.equal = rates.equal_load(variants, knee, prices, rounds=rounds, order=order)

    def _is(self, sweep: Sweep, workload: Workload, variant: Variant) -> bool:
        return (sweep.workload, sweep.variant) == (workload.name, variant.name)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One variant (or the floor) that takes turns in a round, and the list that collects its blocks."""

    site: Site
    workload: Workload
    variant: Variant
    blocks: list[Block]

    def names(self, block: Block) -> bool:
        return (block.workload, block.variant) == (self.workload.name, self.variant.name)


def _with_memory(block: Block, memory: dict[str, int]) -> Block:
    """Add memory that was sampled just before under the same load, untimed, because sampling slows requests."""
    from msgspec.structs import replace as replaced

    return replaced(block, memory_pss_bytes=memory)


def sustained(knee: float, blocks: Sequence[Block], workload: str, variant: str) -> float:
    """Return the knee, at most the throughput of the closed blocks.

    A knee is found in short windows, whose backlog a slow variant may still carry: offered 70 % of a knee that is too
    high, it is overloaded, and what it is billed at "equal load" is the wait of a queue.
    """
    own = [block for block in blocks if (block.workload, block.variant) == (workload, variant)]
    seconds = sum(block.duration_s for block in own)
    return min(knee, sum(block.requests for block in own) / seconds) if seconds else knee
