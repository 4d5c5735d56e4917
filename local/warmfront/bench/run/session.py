"""A whole benchmark in its order: set up, cold starts, warm-up, interleaved blocks, verdict. Knows no table and no shop."""

import itertools
import math
import random
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TextIO

from warmfront import results
from warmfront.bench.load.load_process import LoadProcess
from warmfront.bench.load.samples import Plan
from warmfront.bench.load.workloads import Variant, Workload, WorkloadFile, load_workloads
from warmfront.bench.sizing.prices import Prices, read_prices
from warmfront.bench.statistics import percentiles, summary
from warmfront.results import Block, Check, Cold, Growth, Result, Sized, Summary, Sweep, Validity

from . import checks
from .blocks import Meter, Site
from .budget import Budget, budget_of
from .distant import Distant, distant
from .emulator_process import Control, EmulatorProcess
from .equal_load import EqualLoad
from .growth import GrowthRun, sized_workloads
from .options import BenchOptions, OptionError
from .rates import KNEE_STEPS, Pace, Rates
from .report_lines import read_reports

FLOOR = Path(__file__).with_name("floor")
RESERVE_CONNECTIONS = 20  # of Postgres, beside one for each environment of each variant
WARM_ROUNDS = 4  # requests of each worker in one round of a warm-up; half of it where nothing had to be started


def run_bench(options: BenchOptions, *, stream: TextIO | None = None) -> Result:
    """Runs it all; nothing that was started is left behind, however this ends."""
    with ExitStack() as stack:
        if options.growth:  # a workload with a size in it, the smallest until another is asked for
            file = stack.enter_context(sized_workloads(options.workload, min(options.rows)))
        else:
            file = load_workloads(options.workload)
        budget = budget_of(options.budget_s)
        return Session(options, file, Progress(stream or sys.stderr, budget), stack, budget).run()


class Progress:
    """One line on a terminal, rewritten; elsewhere a line per phase. Says how long is left where that is known."""

    def __init__(self, stream: TextIO, budget: Budget | None = None) -> None:
        self._stream = stream
        self._budget = budget or budget_of(None)
        self._clock = self._budget.clock
        self._began = self._phase_began = self._clock()
        self._live = stream.isatty()
        self._phase = ""

    def phase(self, text: str) -> None:
        self._phase = text
        self._phase_began = self._clock()
        self._write(text, new=True)

    def step(self, done: int, of: int, detail: str = "") -> None:
        """The `done`th of so many begins: what is left of the phase goes by how long those before it took."""
        if not self._live:
            return
        told = f"{self._phase}: {done} of {of}{f', {detail}' if detail else ''}"
        if 1 < done <= of:
            each_s = (self._clock() - self._phase_began) / (done - 1)
            told += f", {_minutes(each_s * (of - done + 1))} of it left"
        self._write(told, new=False)

    def end(self) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _write(self, text: str, *, new: bool) -> None:
        left = "" if math.isinf(self._budget.left_s) else f", about {_minutes(self._budget.left_s)} of its budget left"
        line = f"[{_minutes(self._clock() - self._began)}{left}] {text}"
        self._stream.write(f"\r\x1b[K{line[:110]}" if self._live else f"{line}\n" if new else "")
        self._stream.flush()


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@dataclass(slots=True)
class Session:
    options: BenchOptions
    file: WorkloadFile
    progress: Progress
    stack: ExitStack
    budget: Budget
    blocks: list[Block] = field(default_factory=list)
    floor_blocks: list[Block] = field(default_factory=list)
    set_aside: list[Block] = field(default_factory=list)
    cold: list[Cold] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    backing: dict[str, object] = field(default_factory=dict)
    emulator: EmulatorProcess | None = None
    distant: Distant | None = None
    sweeps: list[Sweep] = field(default_factory=list)
    sized: list[Sized] = field(default_factory=list)
    late_shares: list[float] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    equal: EqualLoad | None = None

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
            return self._result(meter, workloads, variants)
        if self.options.sweep:
            workloads = workloads if self.options.only else workloads[:1]
            self._sweeps(meter, site, workloads, variants)
            self._equal_load(meter, site, workloads[0], variants, rounds, prices)
            self.progress.end()
            return self._result(meter, workloads, variants)
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
        return self._result(meter, workloads, variants)

    # Where

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
            self.warnings.append(f"an address was measured: {absent}, and its data is as it was")
            return Site(self.file, remote, base_path=self.options.base_path)
        if not self.options.template.is_file():
            raise OptionError(
                f"--template {self.options.template} is not there; run from the project, or name a template"
            )
        most = max(self.options.environments) if self.options.growth else self.options.connections
        connections = len(variants) * most + RESERVE_CONNECTIONS
        process = self._start_emulator(connections)
        self.emulator = self.stack.enter_context(process)
        state = process.control.state()
        self.backing = {name: dict(about) for name, about in state.backing.items()}
        if self.distant is not None:
            self.backing["relay"] = self.distant.described
        for variant in variants:
            if variant.function not in state.functions:
                raise OptionError(
                    f"{self.file.path}: variant {variant.name!r} has function {variant.function!r}; "
                    f"{self.options.template} has {', '.join(state.functions)}"
                )
        return Site(self.file, process.control.target, process.control)

    def _start_emulator(self, connections: int) -> EmulatorProcess:
        if not self.options.rtt_s:
            return EmulatorProcess.start(self.options.template, max_connections=connections)
        self.distant = self.stack.enter_context(distant(self.options.rtt_s, max_connections=connections))
        variables, about = self.distant.variables, self.distant.about
        return EmulatorProcess.start(self.options.template, max_connections=connections, variables=variables, own=about)

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
        count = self.options.cold_starts
        if site.control is None or not count:
            return
        self.progress.phase(f"{count} cold starts of each variant")
        found: dict[str, list[dict[str, float]]] = {variant.name: [] for variant in variants}
        for number in range(count):
            for variant in order.sample(variants, len(variants)):
                self.progress.step(number + 1, count, variant.name)
                plan = self._plan(f"cold {number}", workers=1, requests=1)
                found[variant.name].append(meter.cold_start(site, workload, variant, plan))
        for variant in variants:
            samples = tuple(found[variant.name])
            self.cold.append(Cold(variant.function, variant.name, len(samples), samples))

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
        entries = [_Entry(site, workload, variant, self.blocks) for variant in variants]
        if floor is not None and workload.counted:
            entries.append(_Entry(floor, floor.file.workloads[0], floor.file.variants[0], self.floor_blocks))
        for entry in entries:
            self._warm(meter, entry)
        count = self._block_count(workload)
        self.progress.phase(f"{workload.name}: {count} blocks of each variant, in random order")
        for index in range(count):
            for entry in order.sample(entries, len(entries)):
                self.progress.step(index + 1, count, entry.variant.name)
                self._block(meter, entry, index, count)

    def _block(self, meter: Meter, entry: "_Entry", index: int, count: int) -> None:
        memory = None
        if index % -(-count // self.options.memory_rounds) == 0 and entry.blocks is self.blocks:
            plan = self._timed_plan(f"{entry.workload.name} memory {index}", self.options.memory_s)
            memory = meter.memory(entry.site, entry.workload, entry.variant, plan)
        plan = self._block_plan(entry.workload, index, count, len(self.file.variants))
        block = self._calm_block(meter, entry, plan, index, count)
        entry.blocks.append(block if memory is None else _with_memory(block, memory))

    def _calm_block(self, meter: Meter, entry: "_Entry", plan: Plan, index: int, count: int) -> Block:
        """Measured again where the machine stalled in it: what a hypervisor did is no variant's, and is not shared out.

        Its pulse decides, never a latency; for all variants alike, and for half as many blocks as there are at most.
        """
        expected = self._expected(entry)
        block = meter.block(entry.site, entry.workload, entry.variant, plan, index=index, expected=expected)
        while checks.is_stalled(block) and sum(map(entry.names, self.set_aside)) < count // 2:
            self.set_aside.append(block)
            plan = replace(plan, seed=f"{plan.seed} again")  # what was written once is not written anew
            block = meter.block(entry.site, entry.workload, entry.variant, plan, index=index, expected=expected)
        return block

    def _warm(self, meter: Meter, entry: "_Entry") -> None:
        self.progress.phase(f"{entry.workload.name}: warming up {entry.variant.name}")
        if any(request.page_depth for request in entry.workload.requests):
            plan = self._plan("walk", workers=1, requests=1)
            meter.load.walk(entry.site.order(entry.workload, entry.variant, plan))
        self._warm_up(meter, entry)

    def _warm_up(self, meter: Meter, entry: "_Entry") -> None:
        """Until there is an environment for every worker and the medians of two rounds are alike."""
        workers = self.options.workers
        share = 0.5
        if entry.site.control is not None and self._environments(entry) < workers:
            share = 1.0
            ramp = self._plan("ramp", workers=1, requests=1)
            meter.environments(entry.site, entry.workload, entry.variant, workers, ramp)
        medians: list[float] = []
        deadline = time.monotonic() + share * self.options.warm_s
        requests = int(share * WARM_ROUNDS * workers)
        for number in itertools.count():
            plan = self._plan(f"{entry.workload.name} warm {number}", workers=workers, requests=requests)
            medians.append(median(meter.untimed(entry.site, entry.workload, entry.variant, plan).latency_us()))
            settled = percentiles.settled(medians) and self._environments(entry) >= workers
            if settled or time.monotonic() > deadline:
                return

    def _environments(self, entry: "_Entry") -> int:
        control: Control | None = entry.site.control
        return self.options.workers if control is None else len(control.state().functions[entry.variant.function].pids)

    def _expected(self, entry: "_Entry") -> int:
        """How many requests to render for a timed block, from what the last one took."""
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
        self.growth += run.by_rows()
        for variant in variants:
            self.growth += run.by_environments(workloads[0], variant, self.options.environments)

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
                self._warm(meter, _Entry(site, workload, variant, self.blocks))
                self.progress.phase(f"{workload.name}: looking for the knee of {variant.name}")
                rates = self._rates(meter, site, workload, self.options.window_s)
                found = rates.sweep(variant, share)
                self.sweeps.append(found.sweep)
                self.late_shares.append(found.late_share)
                self.sized += [found.sized] if found.sized else []
                self.warnings += [found.warning] if found.warning else []

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
        """At the end: it ends the environments that blocks need. The baseline's knee is the scale, whoever else could do more."""
        if not self._equal_is_due(site):
            return
        rates = self._rates(meter, site, workload, self.options.equal_window_s)
        for variant in variants:
            self._warm(meter, _Entry(site, workload, variant, self.blocks))
        knee = next((own.knee_rate for own in self.sweeps if self._is(own, workload, variants[0])), None)
        if knee is None:
            self.progress.phase(f"{workload.name}: looking for the knee of {variants[0].name}")
            found = rates.climb(variants[0], steps=KNEE_STEPS)
            knee = found.knee_rate
            self.sweeps.append(Sweep(workload.name, variants[0].name, found.points, knee or None))
        if not knee:
            self.warnings.append(f"{variants[0].name} held no rate at all: no memory at equal load")
            return
        self.progress.phase(f"{workload.name}: memory and cost at the same offered rate")
        rounds = rates.rounds_within(self.budget, len(variants), self.options.equal_rounds)
        self.equal = rates.equal_load(variants, knee, prices, rounds=rounds, order=order)

    def _is(self, sweep: Sweep, workload: Workload, variant: Variant) -> bool:
        return (sweep.workload, sweep.variant) == (workload.name, variant.name)

    # Plans

    def _block_count(self, workload: Workload) -> int:
        return self.options.blocks if workload.counted else self.options.box_blocks

    def _block_plan(self, workload: Workload, index: int, count: int, variants: int) -> Plan:
        seed = f"{workload.name} {index}"  # the same for every variant: they are asked the same
        if self.options.for_s is not None:
            return self._block_of(seed, self.options.for_s / count)
        if not workload.counted:
            return self._block_of(seed, self.options.box_s / variants / count)
        share, rest = divmod(self.options.requests, count)
        plan = self._plan(seed, workers=self.options.workers, requests=share + (index < rest))
        return replace(plan, lead=self.options.lead)

    def _block_of(self, seed: str, duration_s: float) -> Plan:
        plan = self._timed_plan(seed, duration_s)
        return plan if plan.rate is not None else replace(plan, lead=self.options.lead)

    def _timed_plan(self, seed: str, duration_s: float) -> Plan:
        plan = self._plan(seed, workers=self.options.connections, duration_s=duration_s)
        return (
            plan if self.options.rate is None else replace(plan, rate=self.options.rate, arrivals=self.options.arrivals)
        )

    def _plan(self, seed: str, *, workers: int, requests: int | None = None, duration_s: float | None = None) -> Plan:
        return Plan(
            workers=workers,
            requests=requests,
            duration_s=duration_s,
            seed=f"{self.options.seed} {seed}",
            timeout_s=self.options.timeout_s,
            keep_alive=self.options.keep_alive,
        )

    # What came of it

    def _result(self, meter: Meter, workloads: Sequence[Workload], variants: Sequence[Variant]) -> Result:
        floor = self._floor()
        names = [variant.name for variant in variants]
        summaries, comparisons = summary.summarise(self.blocks, names, floor=floor, seed=self.options.seed)
        comparisons += summary.with_set_aside(self.blocks, self.set_aside, names, seed=self.options.seed)
        floor_names = list({block.variant: None for block in self.floor_blocks})
        floor_rows, _ = summary.summarise(self.floor_blocks, floor_names, seed=self.options.seed)
        cold_rows, cold_comparisons = summary.summarise_cold(self.cold, seed=self.options.seed)
        equal = self.equal
        found = self._checks(meter, workloads, names[0])
        self.warnings += _failures(meter)
        self.warnings += checks.told_of_set_aside(self.set_aside)
        if (slow := checks.slow_share(self.blocks)) > 0:
            told = (
                f"{slow:.0%} of the blocks ran while the machine was {checks.SLOW_SPIN} times slower than at its best"
            )
            self.warnings.append(f"{told}: ratios hold, absolute figures are worse than they need be")
        if self.options.quick:
            self.warnings.append("--quick: few samples and wide intervals; leave it out for figures to quote")
        return Result(
            kind="bench",
            created=results.now_iso(),
            command=self.options.command,
            machine=results.machine(),
            versions=results.versions(),
            backing=self.backing,
            settings=self._settings(meter, floor),
            validity=Validity(all(check.passed for check in found), found),
            variants=tuple(
                results.Variant(v.name, v.prefix, v.function, v.description, v.complexity, v.best_for) for v in variants
            ),
            blocks=(*self.blocks, *self.floor_blocks),
            set_aside=tuple(self.set_aside),
            summaries=(
                *summaries,
                *self._reported(workloads[0], names),
                *(equal.summaries() if equal else ()),
                *floor_rows,
                *cold_rows,
            ),
            cold=tuple(self.cold),
            comparisons=(*comparisons, *(equal.comparisons() if equal else ()), *cold_comparisons),
            sweeps=tuple(self.sweeps),
            costs=tuple(equal.costs()) if equal else (),
            sized=tuple(self.sized),
            growth=tuple(self.growth),
            worth=tuple(equal.worth()) if equal else (),
            warnings=tuple(self.warnings),
        )

    def _checks(self, meter: Meter, workloads: Sequence[Workload], baseline: str) -> tuple[Check, ...]:
        if self.options.growth:
            return checks.growth_checks(self.growth)
        if self.options.sweep:
            return checks.sweep_checks(self.sweeps, self.late_shares, baseline=baseline)
        return checks.all_checks(
            self.options,
            self.blocks,
            set_aside=self.set_aside,
            baseline=baseline,
            counted=[workload.name for workload in workloads if workload.counted],
            cold=self.cold,
            late_ns=meter.tally.late_ns,
        )

    def _floor(self) -> dict[str, float]:
        """What the emulator alone costs. From latencies its typical time is taken off, also from the tail: the floor's
        own tail is no cost that every slow request paid."""
        if not self.floor_blocks:
            return {}
        typical_ms = median(us for block in self.floor_blocks for us in block.latency_us) / 1000
        requests = sum(block.answered for block in self.floor_blocks)
        cpu_ms = 1000 * sum(block.cpu_s.get("emulator", 0.0) for block in self.floor_blocks) / requests
        return {"p50": typical_ms, "p95": typical_ms, "p99": typical_ms, "cpu_per_request": cpu_ms}

    def _settings(self, meter: Meter, floor: dict[str, float]) -> dict[str, object]:
        options = self.options
        return {
            "loop": "open" if options.sweep else options.loop,
            "workers": options.connections if options.rate is not None else options.workers,
            "requests": options.requests,
            "lead": options.lead if options.rate is None else 0,
            "blocks": options.blocks,
            "box_s": options.box_s,
            "rate": options.rate,
            "for_s": options.for_s,
            "arrivals": options.arrivals if options.rate is not None else None,
            "cold_starts": options.cold_starts if options.url is None else 0,
            "keep_alive": options.keep_alive,
            "timeout_s": options.timeout_s,
            "seed": options.seed,
            "quick": options.quick,
            "workload": options.workload.name,
            "template": None if options.url else options.template.name,
            "url": options.url,
            "start_mode": "on-demand",
            "floor": floor,
            "rtt": self._rtt(meter),
            "load_generator_cpu_us_per_request": round(1e6 * meter.tally.cpu_s / max(1, meter.tally.requests), 2),
        }

    def _reported(self, workload: Workload, variants: Sequence[str]) -> list[Summary]:
        """Of an address: the most memory that its REPORT lines tell, and what a request was billed for, over the whole run."""
        rows = []
        for variant, path in self.options.reports:
            found = read_reports(path) if path.is_file() else []
            if variant not in variants or not found:
                self.warnings.append(f"--reports {variant}={path}: no REPORT line of a variant of this run")
                continue
            most, n = max(own.max_memory_mb for own in found), len(found)
            rows.append(Summary(workload.name, variant, "memory_peak", "MB", most, n=n))
            billed = sum(own.billed_ms for own in found) / n
            rows.append(Summary(workload.name, variant, "billed_duration", "ms", billed, n=n))
        return rows

    def _rtt(self, meter: Meter) -> dict[str, float] | None:
        """What was asked for, what it came to, and what the relay cost: that is in no variant's CPU."""
        if self.distant is None:
            return None
        return {
            "asked_ms": 1000.0 * self.options.rtt_s,
            "measured_ms": round(1000.0 * self.distant.calibration.round_trip_s, 3),
            "relay_cpu_us_per_round_trip": round(1e6 * self.distant.calibration.cpu_s, 1),
            "relay_cpu_us_per_request": round(1e6 * self.distant.relay.cpu_s / max(1, meter.tally.requests), 1),
        }


@dataclass(frozen=True, slots=True)
class _Entry:
    """One variant in the draw of a round, and where its blocks go."""

    site: Site
    workload: Workload
    variant: Variant
    blocks: list[Block]

    def names(self, block: Block) -> bool:
        return (block.workload, block.variant) == (self.workload.name, self.variant.name)


def _with_memory(block: Block, memory: dict[str, int]) -> Block:
    """Memory is sampled under the same load just before, untimed: looking at a hundred processes is felt by a request."""
    from msgspec.structs import replace as replaced

    return replaced(block, memory_pss_bytes=memory)


def _failures(meter: Meter) -> Iterable[str]:
    for (workload, variant, outcome), count in sorted(meter.tally.outcomes.items()):
        yield f"{workload} {variant}: {count} requests ended with {outcome.name.lower()}"
