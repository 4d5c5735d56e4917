"""Measures one block or one cold start: load on one variant, with the CPU and memory it took."""

from dataclasses import dataclass, field, replace
from typing import Self

from warmfront.bench.load.load_process import LoadError, LoadProcess, Order
from warmfront.bench.load.samples import Outcome, Plan, Recording, Target
from warmfront.bench.load.workloads import Variant, Workload, WorkloadFile
from warmfront.results import Block

from .accounting import MemorySampler, difference, process_cpu_s, pss_bytes, spin_ms, wait_until_quiet
from .cold_stages import stages_of
from .emulator_process import Control, State
from .offered import Offered
from .pulse import BeatHistory, Pulse


@dataclass(frozen=True, slots=True)
class Site:
    """An API to measure: its address, its workload file, and the control surface if it is an emulator of this run."""

    file: WorkloadFile
    target: Target
    control: Control | None = None
    base_path: str = ""

    def order(self, workload: Workload, variant: Variant, plan: Plan, *, expected: int = 0) -> Order:
        return Order(
            file=str(self.file.path.resolve()),
            workload=workload.name,
            variant=variant.name,
            target=self.target,
            plan=plan,
            base_path=self.base_path,
            expected=expected,
        )


RAMP = 5  # environments started at once: fifty simultaneous inits would exceed the init timeout
RAMP_ATTEMPTS = 3
FOOTPRINT_EVERY_S = 0.02  # a Postgres backend of the naive variant lives for about ten milliseconds


@dataclass(frozen=True, slots=True)
class Footprint:
    """Number of live environments, peak number of Postgres backends, and memory (PSS) of both in bytes."""

    environments: int
    connections: int
    pss_bytes: dict[str, int]

    @property
    def whole_bytes(self) -> int:
        return sum(self.pss_bytes.values())


@dataclass(slots=True)
class Tally:
    """Totals of the load generator over all blocks: requests, CPU, lateness and failures."""

    requests: int = 0
    cpu_s: float = 0.0
    late_ns: list[int] = field(default_factory=list)
    outcomes: dict[tuple[str, str, Outcome], int] = field(default_factory=dict)

    def add(self, workload: str, variant: str, recording: Recording, cpu_s: float) -> None:
        self.requests += len(recording) + len(recording.around)
        self.cpu_s += cpu_s
        self.late_ns += recording.late_ns
        for outcome in Outcome:
            if outcome is not Outcome.OK and (count := recording.count(outcome)):
                key = (workload, variant, outcome)
                self.outcomes[key] = self.outcomes.get(key, 0) + count


@dataclass(slots=True)
class Meter:
    """Runs blocks and reads CPU and memory of the parts before and after them."""

    load: LoadProcess
    began_s: float
    order: int = 0
    tally: Tally = field(default_factory=Tally)
    beat_history: BeatHistory = field(default_factory=BeatHistory)

    def block(
        self, site: Site, workload: Workload, variant: Variant, plan: Plan, *, index: int, expected: int = 0
    ) -> Block:
        """Run one timed block. Its CPU is read after everything that it started has become idle.

        Args:
            site: the API.
            workload: the requests.
            variant: the variant to send them to.
            plan: size and pace.
            index: number of the round.
            expected: how many requests to render where the plan gives a duration.

        Raises:
            LoadError: the load generator failed.
        """
        self.load.prepare(site.order(workload, variant, plan, expected=expected))
        spin = spin_ms()
        accounts = None if site.control is None else Accounts.open(site.control)
        generator_s = process_cpu_s(self.load.pid) or 0.0
        with Pulse() as pulse:
            recording = self.load.run()
        self.tally.add(workload.name, variant.name, recording, (process_cpu_s(self.load.pid) or 0.0) - generator_s)
        cpu_s, environments = _closed(accounts, variant.function)
        self.order += 1
        return Block(
            workload=workload.name,
            variant=variant.name,
            index=index,
            order=self.order - 1,
            started_s=max(0.0, recording.first_ns / 1e9 - self.began_s),
            duration_s=recording.duration_s,
            requests=len(recording),
            errors=recording.errors,
            around=len(recording.around),
            latency_us=tuple(recording.latency_us()),
            service_us=None if plan.rate is None else tuple(recording.service_us()),
            cpu_s=cpu_s,
            spin_ms=spin,
            environments=environments,
            stalled=self.beat_history.stalled(pulse.between(recording.first_ns, max(recording.done_ns, default=0))),
        )

    def offered(self, site: Site, workload: Workload, variant: Variant, plan: Plan) -> Offered:
        """Send load at the plan's rate, and return its samples with the CPU of every part."""
        assert plan.rate is not None
        assert plan.duration_s is not None
        self.load.prepare(site.order(workload, variant, plan))
        accounts = None if site.control is None else Accounts.open(site.control)
        generator_s = process_cpu_s(self.load.pid) or 0.0
        recording = self.load.run()
        self.tally.add(workload.name, variant.name, recording, (process_cpu_s(self.load.pid) or 0.0) - generator_s)
        cpu_s, _ = _closed(accounts, variant.function)
        return Offered(recording, plan.duration_s, cpu_s)

    def untimed(self, site: Site, workload: Workload, variant: Variant, plan: Plan) -> Recording:
        """Send load whose samples do not enter the result, e.g. to warm up."""
        self.load.prepare(site.order(workload, variant, plan, expected=plan.requests or 0))
        recording = self.load.run()
        _wait_until_idle(site.control)
        return recording

    def environments(self, site: Site, workload: Workload, variant: Variant, count: int, plan: Plan) -> None:
        """Start environments until `count` are alive and each has served a request; fewer if some do not start or end again.

        The emulator sends requests to the newest environments first, so each batch gets as many requests at once. `plan`
        gives the seed and the timeout.
        """
        assert site.control is not None
        for _ in range(count // RAMP + RAMP_ATTEMPTS):
            alive = len(site.control.state().functions[variant.function].pids)
            batch = min(RAMP, count - alive)
            if batch <= 0 or not site.control.start(variant.function, batch)["started"]:
                return
            requests = replace(plan, workers=batch, requests=2 * batch, duration_s=None, seed=f"{plan.seed} {alive}")
            self.untimed(site, workload, variant, requests)

    def footprint(self, site: Site, workload: Workload, variant: Variant, plan: Plan) -> Footprint:
        """Measure the memory of the variant's environments and of their Postgres backends under this load.

        Environments of other functions share pages with these and would make them appear smaller, so all are ended first.

        Raises:
            LoadError: the load did not create as many environments as the plan has workers.
        """
        control = site.control
        assert control is not None
        for function, about in control.state().functions.items():
            if about.pids:
                control.retire(function)
        _wait_until_idle(control)
        parts = control.state().parts
        others = set(parts.backends())  # the server's own processes
        pids = self._exactly(site, workload, variant, plan)
        most = 0

        def look() -> dict[str, int]:
            nonlocal most
            held = [size for pid in parts.backends() if pid not in others and (size := pss_bytes(pid))]
            most = max(most, len(held))
            return {"backends": sum(held)}

        self.load.prepare(site.order(workload, variant, plan))
        with MemorySampler(look, every_s=FOOTPRINT_EVERY_S) as sampler:
            self.load.run()
        held = {"environments": sum(map(pss_bytes, pids)), "backends": sampler.peak.get("backends", 0)}
        _wait_until_idle(control)
        return Footprint(len(pids), most, held)

    def _exactly(self, site: Site, workload: Workload, variant: Variant, plan: Plan) -> tuple[int, ...]:
        """Create as many environments as the plan has workers, by a closed loop of that many; returns their process ids."""
        assert site.control is not None
        for attempt in range(RAMP_ATTEMPTS):
            seed = f"{plan.seed} ramp {attempt}"
            ramp = Plan(workers=plan.workers, requests=3 * plan.workers, seed=seed, timeout_s=plan.timeout_s)
            recording = self.untimed(site, workload, variant, ramp)
            pids = site.control.state().functions[variant.function].pids
            if len(pids) >= plan.workers:
                return pids
        outcomes = ", ".join(sorted({Outcome(one).name for one in recording.outcome}))
        raise LoadError(
            f"{plan.workers} workers made {len(pids)} environments of {variant.function}; their requests ended with {outcomes}"
        )

    def memory(self, site: Site, workload: Workload, variant: Variant, plan: Plan) -> dict[str, int] | None:
        """Return the peak memory in bytes under this load, by part: environments of this variant, emulator, Postgres, Redis.

        None where no emulator of this run is measured.
        """
        if site.control is None:
            return None
        self.load.prepare(site.order(workload, variant, plan))
        control = site.control

        def look() -> dict[str, int]:
            return parts.pss_bytes(pids, idle)

        state = control.state()
        parts, pids = state.parts, state.functions[variant.function].pids
        idle = parts.backends()
        with MemorySampler(look) as sampler:
            self.load.run()
        _wait_until_idle(control)
        return sampler.peak

    def cold_start(self, site: Site, workload: Workload, variant: Variant, plan: Plan) -> dict[str, float]:
        """End the function's environments, send one request, and return its stages in milliseconds (see cold_stages).

        Raises:
            LoadError: the request failed, or an existing environment served it.
        """
        control = site.control
        assert control is not None
        known = {init["environment"] for init in control.inits(variant.function)}
        control.retire(variant.function)
        _wait_until_idle(control)
        self.load.prepare(site.order(workload, variant, plan))
        recording = self.load.run()
        if recording.errors:
            outcome = Outcome(recording.outcome[0])
            raise LoadError(
                f"a cold start of {variant.function} ended with {outcome.name}, status {recording.status[0]}"
            )
        newest = control.inits(variant.function)[-1]
        if newest["environment"] in known:
            raise LoadError(f"no cold start of {variant.function}: an existing environment served the request")
        return stages_of(newest, first_byte_ns=recording.done_ns[0])


def _closed(accounts: "Accounts | None", function: str) -> tuple[dict[str, float], int | None]:
    if accounts is None:
        return {}, None
    cpu_s, state = accounts.close()
    return cpu_s, len(state.functions[function].pids) if function in state.functions else None


def _wait_until_idle(control: Control | None) -> None:
    if control is None:
        return
    state = control.state()
    wait_until_quiet(lambda: sum(state.parts.cpu_s(state.environments).values()))


@dataclass(frozen=True, slots=True)
class Accounts:
    """CPU of every part at the start of a block; `close` returns what the block used."""

    control: Control
    state: State
    before: dict[str, float]

    @classmethod
    def open(cls, control: Control) -> Self:
        state = control.state()
        return cls(control, state, state.parts.cpu_s(state.environments))

    def close(self) -> tuple[dict[str, float], State]:
        """Return CPU seconds by part, and the emulator's state, which is requested after the reading because it costs CPU."""
        parts = self.state.parts
        wait_until_quiet(lambda: sum(parts.cpu_s(self.state.environments).values()))
        after = parts.cpu_s()
        state = self.control.state()
        return difference(self.before, after | {"environments": state.environments.cpu_s()}), state
