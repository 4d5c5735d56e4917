"""Procedures that check responses under load: open loop through the phases, a burst of cold starts, an overload.

Requests come from the experiment's workload file, in the bench's format.
"""

import asyncio
import contextlib
import datetime
import json
import math
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from warmfront.bench.load.load_process import LoadProcess, Order
from warmfront.bench.load.samples import Outcome, Plan, Recording, Target
from warmfront.lab.experiments import ExperimentError, Load, Phases
from warmfront.lab.fault_actions import applied, send
from warmfront.lab.http_client import Client, NoAnswer, Reply
from warmfront.lab.measures import Curve, Sample, curves, measure, quantile, windows
from warmfront.lab.proxy_process import ProxyStats
from warmfront.lab.scene import LogPart, Observation, Scene, Span, build_fault, ratio
from warmfront.lab.stage import POSTGRES

STEADY_SHARE = 0.9
LATE_MAX_MS = 150.0  # far below every bound that a criterion sets
WATCH_EVERY_S = 0.25
PROBE_EVERY_S = 0.2


class NotJudged(Exception):
    """The run cannot be judged; the message says why."""


class NoSteadyState(NotJudged):
    """The service did not work before the fault either."""


class TooBusy(NotJudged):
    """The machine was too busy to send requests in time, so the figures describe the machine."""


class LoadOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of experiments under load."""

    probe: str = ""  # a GET path whose complete responses are checked
    log_counts: dict[str, str] = {}  # NAME -> pattern: measure `log.NAME` counts it in the function's log
    burst: int = 0  # procedure `burst`: simultaneous requests, without any warm environment
    overload: float = 3.0  # procedure `overload`: offered rate as a multiple of the capacity
    capacity_workers: int = 8


async def load(scene: Scene) -> Observation:
    """Run open-loop load before, during and after the fault."""
    spec = scene.experiment.load
    if spec is None:
        raise ExperimentError(f"experiment {scene.experiment.id}: the procedure `load` needs an [experiment.load]")
    async with generators(2 if spec.rate_during else 1) as (generator, *second):
        await warm_up(scene, generator, spec.warm_environments)
        await scene.ready()
        return await through_phases(scene, spec, [generator, *second])


async def warm_up(scene: Scene, generator: LoadProcess, environments: int) -> None:
    """Send simultaneous requests until this many environments are warm."""
    await run_block(scene, generator, Plan(workers=environments, requests=environments, timeout_s=60))
    await run_block(scene, generator, Plan(workers=environments, requests=environments, timeout_s=60))


@contextlib.asynccontextmanager
async def generators(count: int) -> AsyncIterator[list[LoadProcess]]:
    started = [LoadProcess.start() for _ in range(count)]
    try:
        yield started
    except BaseException:  # nobody reads their results any more
        send((generator.pid for generator in started), signal.SIGKILL)
        raise
    finally:
        for generator in started:
            await asyncio.to_thread(generator.close)


async def prepare(scene: Scene, generator: LoadProcess, plan: Plan) -> None:
    workload = scene.experiment.load.workload if scene.experiment.load else ""
    order = Order(
        file=str(scene.workloads),
        workload=workload,
        variant=scene.variant.name,
        target=Target(scene.emulator.host, scene.emulator.port),
        plan=plan,
        expected=plan.requests or 100,
    )
    await asyncio.to_thread(generator.prepare, order)


async def run_block(scene: Scene, generator: LoadProcess, plan: Plan) -> Recording:
    await prepare(scene, generator, plan)
    return await asyncio.to_thread(generator.run)


@dataclass(slots=True)
class Watch:
    """What was observed from outside while the load ran."""

    t_s: list[float] = field(default_factory=list)
    connections: list[float] = field(default_factory=list)
    environments: list[float] = field(default_factory=list)
    probes: list[tuple[float, Reply | None]] = field(default_factory=list)


async def through_phases(scene: Scene, spec: Load, running: Sequence[LoadProcess]) -> Observation:
    for generator, plan in zip(running, plans(scene, spec), strict=True):
        await prepare(scene, generator, plan)
    log, watch = LogPart(scene.emulator.log_file), Watch()
    kept_open = Before(processes(await scene.environment_pids()))
    await scene.stage.count_anew()
    began_s, began_wall_s = time.monotonic(), time.time()
    async with watching(scene, watch, began_s):
        run = await _break_and_mend(scene, running, began_s)
    phases = scene.experiment.phases
    samples = samples_of(run.recordings, began_s)
    observed = Observation(measure(samples, phases, budget_ms=scene.experiment.budget_ms))
    late_ms = _late_ms(run.recordings[:1], began_s + phases.fault_on_s)
    if late_ms > LATE_MAX_MS:
        raise TooBusy(f"not judged: requests left {late_ms:.0f} ms late (p95) before anything was broken")
    _require_steady_state(observed.measures["before.ok_share"], log)
    observed.examples = _answers(samples, phases, log)
    observed.curves = [*curves(samples, phases.end_s), *_watched_curves(watch)]
    breaker = breaker_spans(log.text(), began_wall_s, phases.end_s)
    observed.spans = [run.fault, *breaker]
    opened_s = min((span.start_s for span in breaker), default=math.inf)
    observed.measures["breaker_opens_after_s"] = opened_s - run.fault.start_s
    observed.measures |= kept_open.measures(processes(await scene.environment_pids()))
    observed.measures |= _dial_measures(samples, phases, run.stats)
    observed.measures |= _probe_measures(watch, run.fault) | await _aftermath(scene, log)
    return observed


def plans(scene: Scene, spec: Load) -> list[Plan]:
    """Return the plan of the whole run's load, and of the load that is added during the fault."""
    phases = scene.experiment.phases
    base = Plan(
        workers=spec.connections,
        rate=spec.rate,
        duration_s=phases.end_s,
        seed=f"{scene.experiment.id} {scene.seed}",
        timeout_s=spec.timeout_s,
        arrivals=spec.arrivals,
    )
    if not spec.rate_during:
        return [base]
    more = max(0.1, spec.rate_during - spec.rate)
    return [base, replace(base, workers=4 * spec.connections, rate=more, duration_s=phases.during_s)]


@dataclass(frozen=True, slots=True)
class Run:
    """The load's recordings, the time of the fault, and the proxy's counts at its start, middle and end and after the run."""

    recordings: Sequence[Recording]
    fault: Span
    stats: Sequence[ProxyStats]


async def _break_and_mend(scene: Scene, running: Sequence[LoadProcess], began_s: float) -> Run:
    async def reach(moment_s: float) -> float:
        await asyncio.sleep(max(0.0, began_s + moment_s - time.monotonic()))
        return time.monotonic() - began_s

    phases = scene.experiment.phases
    faults = [build_fault(scene, fault) for fault in scene.experiment.fault]
    blocks = [asyncio.ensure_future(asyncio.to_thread(running[0].run))]
    try:
        await reach(phases.fault_on_s)
        stats = [await scene.stage.proxies.stats(POSTGRES)]
        blocks += [asyncio.ensure_future(asyncio.to_thread(each.run)) for each in running[1:]]
        scene.say("fault on" if faults else "overload")
        async with applied(*faults):
            on_s = time.monotonic() - began_s
            await reach(phases.fault_on_s + phases.during_s / 2)
            stats.append(await scene.stage.proxies.stats(POSTGRES))
            off_s = await reach(phases.fault_off_s)
            stats.append(await scene.stage.proxies.stats(POSTGRES))
        scene.say("fault off")
        recordings = await asyncio.gather(*blocks)
    finally:
        for block in blocks:
            block.cancel()
    stats.append(await scene.stage.proxies.stats(POSTGRES))
    label = ", ".join(fault.kind for fault in scene.experiment.fault) or "overload"
    return Run(recordings, Span("fault", label, on_s, off_s), stats)


@dataclass(frozen=True, slots=True)
class Holding:
    """The open files (sockets included) and the memory of one process."""

    files: int
    memory_mb: float


def processes(pids: Iterable[int]) -> dict[int, Holding]:
    """Return the holdings of the living processes, by process id."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            status = Path(f"/proc/{pid}/status").read_text().splitlines()
            resident = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
            found[pid] = Holding(len(list(Path(f"/proc/{pid}/fd").iterdir())), resident)
    return found


@dataclass(frozen=True, slots=True)
class Before:
    """The holdings of the warm environments before the fault."""

    held: Mapping[int, Holding]

    def measures(self, now: Mapping[int, Holding]) -> dict[str, float]:
        """Return the largest growth among environments that still exist."""
        same = [(self.held[pid], now[pid]) for pid in self.held.keys() & now.keys()]
        return {
            "files_grown": float(max((after.files - before.files for before, after in same), default=0)),
            "memory_grown_mb": max((after.memory_mb - before.memory_mb for before, after in same), default=0.0),
        }


def _require_steady_state(ok_share: float, log: LogPart) -> None:
    if ok_share < STEADY_SHARE:
        raise NoSteadyState(
            f"{100 * ok_share:.0f} % of the requests were served before anything was broken; "
            f"the function's log says: {_last_complaint(log)}"
        )


@contextlib.asynccontextmanager
async def watching(scene: Scene, watch: Watch, began_s: float) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(_watch(scene, watch, began_s))]
    if path := scene.options(LoadOptions).probe:
        tasks.append(asyncio.create_task(_probe(scene, watch, began_s, scene.variant.prefix + path)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


async def _watch(scene: Scene, watch: Watch, began_s: float) -> None:
    while True:
        stats = await scene.stage.proxies.stats(POSTGRES)
        environments = await scene.emulator.environments(scene.variant.function)
        watch.t_s.append(time.monotonic() - began_s)
        watch.connections.append(float(stats.open))
        watch.environments.append(float(len(environments)))
        await asyncio.sleep(WATCH_EVERY_S)


async def _probe(scene: Scene, watch: Watch, began_s: float, path: str) -> None:
    """Send probes at intervals, each on its own connection, so that a hanging one does not delay the others."""
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(_probe_once(scene.emulator.client(), watch, time.monotonic() - began_s, path))
            await asyncio.sleep(PROBE_EVERY_S)


async def _probe_once(client: Client, watch: Watch, due_s: float, path: str) -> None:
    reply: Reply | None = None
    with contextlib.suppress(NoAnswer):
        reply = await client.request("GET", path)
    watch.probes.append((due_s, reply))
    await client.close()


def samples_of(recordings: Sequence[Recording], began_s: float) -> list[Sample]:
    """Return the requests of all generators, in the order of their due times."""
    found = [
        Sample(
            due_s=intended / 1e9 - began_s,
            latency_s=(done - intended) / 1e9,
            status=status if outcome in (Outcome.OK, Outcome.STATUS, Outcome.BODY) else 0,
            ok=outcome == Outcome.OK,
            wrong_body=outcome == Outcome.BODY,
        )
        for recording in recordings
        for intended, done, status, outcome in zip(
            recording.intended_ns, recording.done_ns, recording.status, recording.outcome, strict=True
        )
    ]
    return sorted(found, key=lambda sample: sample.due_s)


def _answers(samples: Sequence[Sample], phases: Phases, log: LogPart) -> list[str]:
    """Describe which responses came in each phase, and the last error in the log."""
    lines = []
    for name, window in windows(samples, phases, 1.0).items():
        statuses = Counter(sample.status for sample in window.samples)
        counts = ", ".join(f"{count} x {status or 'no answer'}" for status, count in sorted(statuses.items()))
        lines.append(f"{name}: {counts}")
    return [*lines, f"log: {_last_complaint(log)}"]


def _late_ms(recordings: Sequence[Recording], until_s: float) -> float:
    """Return how late the load generator sent (p95, ms). Only a busy machine delays it."""
    late = sorted(
        (sent - due) / 1e6
        for recording in recordings
        for due, sent in zip(recording.intended_ns, recording.sent_ns, strict=True)
        if due / 1e9 < until_s
    )
    return quantile(late, 0.95) if late else 0.0


def is_planned(reply: Reply | None) -> bool:
    """Return whether a client can act on the reply: success, or problem details, with Retry-After for a 503."""
    if reply is None:
        return False
    if reply.status < 400:
        return True
    problem = reply.headers.get("content-type", "").startswith("application/problem+json")
    return problem and reply.status != 500 and (reply.status != 503 or "retry-after" in reply.headers)


def _probe_measures(watch: Watch, fault: Span) -> dict[str, float]:
    during = [reply for due_s, reply in watch.probes if fault.start_s <= due_s < fault.end_s]
    unplanned = sum(not is_planned(reply) for reply in during)
    return {"during.probes": float(len(during)), "during.unplanned_share": ratio(unplanned, len(during))}


def _dial_measures(samples: Sequence[Sample], phases: Phases, stats: Sequence[ProxyStats]) -> dict[str, float]:
    """Return the rate of new database connections; `late` is the fault's second half, when all breakers have opened."""
    at_start, at_half, at_end, after = (each.accepted for each in stats)
    half_s = phases.fault_on_s + phases.during_s / 2
    early = sum(phases.fault_on_s <= sample.due_s < half_s for sample in samples)
    late = sum(half_s <= sample.due_s < phases.fault_off_s for sample in samples)
    return {
        "during.dials": float(at_end - at_start),
        "during.dials_per_request": ratio(at_end - at_start, early + late),
        "during.late_dials_per_request": ratio(at_end - at_half, late),
        "after.dials": float(after - at_end),
        "connections_max": float(stats[-1].open_max),
    }


def _last_complaint(log: LogPart) -> str:
    complaints = [line for line in log.text().splitlines() if "rror" in line]
    return complaints[-1][:300] if complaints else "(no error)"


async def _aftermath(scene: Scene, log: LogPart) -> dict[str, float]:
    """Measure what is left after the run: connections, open transactions and log lines."""
    stuck = await scene.stage.query(
        scene.variant.database,
        "SELECT count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS in_transaction, count(*) AS backends"
        " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    environments = await scene.emulator.environments(scene.variant.function)
    found = {
        "idle_in_transaction": float(stuck[0]["in_transaction"]),
        "backends_left": float(stuck[0]["backends"]),
        "backends_beyond_environments": float(max(0, stuck[0]["backends"] - len(environments))),
    }
    counts = scene.options(LoadOptions).log_counts
    return found | {f"log.{name}": log.count(pattern) for name, pattern in counts.items()}


def _watched_curves(watch: Watch) -> list[Curve]:
    t_s = tuple(watch.t_s)
    return [
        Curve("connections", "1", t_s, tuple(watch.connections)),
        Curve("environments", "1", t_s, tuple(watch.environments)),
    ]


def breaker_spans(log: str, began_wall_s: float, end_s: float) -> list[Span]:
    """Return the times in which at least one environment's breaker was open, from the breakers' log lines."""
    moves = sorted(_moves(log, began_wall_s), key=lambda move: move[0])
    spans: list[Span] = []
    not_closed, since_s = 0, 0.0
    for at_s, from_state, to_state in moves:
        if from_state == "closed":
            since_s = since_s if not_closed else at_s
            not_closed += 1
        elif to_state == "closed" and not_closed:
            not_closed -= 1
            if not not_closed:
                spans.append(Span("breaker", "open", since_s, at_s))
    return [*spans, Span("breaker", "open", since_s, end_s)] if not_closed else spans


def _moves(log: str, began_wall_s: float) -> list[tuple[float, str, str]]:
    found = []
    for line in log.splitlines():
        if '"to_state"' not in line:
            continue
        with contextlib.suppress(ValueError, KeyError):
            entry = json.loads(line[line.index("{") :])
            moment = datetime.datetime.strptime(entry["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z").timestamp()
            found.append((moment - began_wall_s, str(entry["from_state"]), str(entry["to_state"])))
    return found


async def burst(scene: Scene) -> Observation:
    """Send simultaneous requests without any environment, so that every one is a cold start."""
    count = scene.options(LoadOptions).burst
    log = LogPart(scene.emulator.log_file)
    await scene.emulator.retire(scene.variant.function)
    await scene.stage.count_anew()
    began_s = time.monotonic()
    watch = Watch()
    async with generators(1) as (generator,), watching(scene, watch, began_s):
        recording = await run_block(scene, generator, Plan(workers=count, requests=count, timeout_s=60))
    samples = samples_of([recording], began_s)
    stats = await scene.stage.proxies.stats(POSTGRES)
    measures = {
        "requests": float(len(samples)),
        "failed": float(sum(not sample.ok for sample in samples)),
        "environments_max": max(watch.environments, default=0.0),
        "connections_max": float(stats.open_max),
    }
    measures |= await _aftermath(scene, log)
    end_s = max(sample.due_s + sample.latency_s for sample in samples)
    return Observation(measures, [*curves(samples, end_s), *_watched_curves(watch)])


async def overload(scene: Scene) -> Observation:
    """Measure the capacity in a closed loop first; then offer a multiple of it as the fault."""
    wanted = scene.options(LoadOptions)
    spec = scene.experiment.load
    if spec is None:
        raise ExperimentError(f"experiment {scene.experiment.id}: the procedure `overload` needs an [experiment.load]")
    async with generators(2) as running:
        await warm_up(scene, running[0], wanted.capacity_workers)
        peak = await run_block(scene, running[0], Plan(workers=wanted.capacity_workers, duration_s=2.0))
        capacity = peak.outcome.count(Outcome.OK) / peak.duration_s
        scene.say(f"capacity {capacity:.0f}/s")
        rates = msgspec.structs.replace(spec, rate=capacity / 4, rate_during=capacity * wanted.overload)
        observed = await through_phases(scene, rates, running)
    observed.measures["capacity"] = capacity
    observed.measures["goodput_of_capacity"] = ratio(observed.measures["during.goodput"], capacity)
    return observed
