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
from .pulse import Pulse, Usual


@dataclass(frozen=True, slots=True)
class Site:
    """An API to be measured: where it answers, what is asked of it, and the emulator behind it if that is ours."""

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


RAMP = 5  # environments started together: fifty inits at once take longer than an init may
RAMP_ATTEMPTS = 3
FOOTPRINT_EVERY_S = 0.02  # a backend of the naive kind lives for some ten milliseconds


@dataclass(frozen=True, slots=True)
class Footprint:
    """Environments alive and what they hold; the most backends seen at once, and the most that they held."""

    environments: int
    connections: int
    pss_bytes: dict[str, int]

    @property
    def whole_bytes(self) -> int:
        return sum(self.pss_bytes.values())


@dataclass(slots=True)
class Tally:
    """What all blocks together say of the load generator itself."""

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
    """Runs blocks and reads the accounts around them."""

    load: LoadProcess
    began_s: float
    order: int = 0
    tally: Tally = field(default_factory=Tally)
    usual: Usual = field(default_factory=Usual)

    def block(
        self, site: Site, workload: Workload, variant: Variant, plan: Plan, *, index: int, expected: int = 0
    ) -> Block:
        """One timed block. Its accounts are closed only when everything it set off has come to rest."""
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
            stalled=self.usual.stalled(pulse.between(recording.first_ns, max(recording.done_ns, default=0))),
        )

    def offered(self, site: Site, workload: Workload, variant: Variant, plan: Plan) -> Offered:
        """One stretch of open load, with its accounts."""
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
        """Load that only warms: nothing of it enters the result."""
        self.load.prepare(site.order(workload, variant, plan, expected=plan.requests or 0))
        recording = self.load.run()
        _rest(site.control)
        return recording

    def environments(self, site: Site, workload: Workload, variant: Variant, count: int, plan: Plan) -> None:
        """Start environments until there are `count`, each of which has answered; fewer where they do not start or stay.

        Requests go to the newest, so these are asked as many at once. `plan` gives the seed and the patience.
        """
        assert site.control is not None
        for _ in range(count // RAMP + RAMP_ATTEMPTS):
            there = len(site.control.state().functions[variant.function].pids)
            some = min(RAMP, count - there)
            if some <= 0 or not site.control.start(variant.function, some)["started"]:
                return
            few = replace(plan, workers=some, requests=2 * some, duration_s=None, seed=f"{plan.seed} {there}")
            self.untimed(site, workload, variant, few)

    def footprint(self, site: Site, workload: Workload, variant: Variant, plan: Plan) -> Footprint:
        """What the variant's environments and their Postgres backends hold under this load; nothing else is counted.

        Environments of other functions share pages with these and would make them look smaller, so all are ended first.
        """
        control = site.control
        assert control is not None
        for function, about in control.state().functions.items():
            if about.pids:
                control.retire(function)
        _rest(control)
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
        _rest(control)
        return Footprint(len(pids), most, held)

    def _exactly(self, site: Site, workload: Workload, variant: Variant, plan: Plan) -> tuple[int, ...]:
        """As many environments as the plan has workers: a closed loop of so many makes them."""
        assert site.control is not None
        for attempt in range(RAMP_ATTEMPTS):
            seed = f"{plan.seed} ramp {attempt}"
            calm = Plan(workers=plan.workers, requests=3 * plan.workers, seed=seed, timeout_s=plan.timeout_s)
            recording = self.untimed(site, workload, variant, calm)
            pids = site.control.state().functions[variant.function].pids
            if len(pids) >= plan.workers:
                return pids
        outcomes = ", ".join(sorted({Outcome(one).name for one in recording.outcome}))
        raise LoadError(
            f"{plan.workers} workers made {len(pids)} environments of {variant.function}; their requests ended with {outcomes}"
        )

    def memory(self, site: Site, workload: Workload, variant: Variant, plan: Plan) -> dict[str, int] | None:
        """The peak of memory under this load: environments of this variant, the emulator, Postgres, Redis."""
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
        _rest(control)
        return sampler.peak

    def cold_start(self, site: Site, workload: Workload, variant: Variant, plan: Plan) -> dict[str, float]:
        """One fresh process: retire, let everything rest, send one request, then take it apart by its milestones."""
        control = site.control
        assert control is not None
        known = {init["environment"] for init in control.inits(variant.function)}
        control.retire(variant.function)
        _rest(control)
        self.load.prepare(site.order(workload, variant, plan))
        recording = self.load.run()
        if recording.errors:
            outcome = Outcome(recording.outcome[0])
            raise LoadError(
                f"a cold start of {variant.function} ended with {outcome.name}, status {recording.status[0]}"
            )
        newest = control.inits(variant.function)[-1]
        if newest["environment"] in known:
            raise LoadError(f"a cold start of {variant.function} was answered by an environment that existed before")
        return stages_of(newest, first_byte_ns=recording.done_ns[0])


def _closed(accounts: "Accounts | None", function: str) -> tuple[dict[str, float], int | None]:
    if accounts is None:
        return {}, None
    cpu_s, state = accounts.close()
    return cpu_s, len(state.functions[function].pids) if function in state.functions else None


def _rest(control: Control | None) -> None:
    if control is None:
        return
    state = control.state()
    wait_until_quiet(lambda: sum(state.parts.cpu_s(state.environments).values()))


@dataclass(frozen=True, slots=True)
class Accounts:
    """CPU of every part when a block began; what the block used is known when they are closed."""

    control: Control
    state: State
    before: dict[str, float]

    @classmethod
    def open(cls, control: Control) -> Self:
        state = control.state()
        return cls(control, state, state.parts.cpu_s(state.environments))

    def close(self) -> tuple[dict[str, float], State]:
        """CPU by part, and the state at the end. Asking for that comes after the reading, because the answer costs CPU."""
        parts = self.state.parts
        wait_until_quiet(lambda: sum(parts.cpu_s(self.state.environments).values()))
        after = parts.cpu_s()
        state = self.control.state()
        return difference(self.before, after | {"environments": state.environments.cpu_s()}), state
