"""Procedures that check responses under load: open loop through the phases, a burst of cold starts, an overload.

Requests come from the experiment's workload file, in the bench's format.
"""

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from warmfront.bench.load.load_process import LoadProcess, Order
from warmfront.bench.load.samples import Outcome, Plan, Recording, Target
from warmfront.lab.experiments import ExperimentError, Load
from warmfront.lab.fault_actions import applied
from warmfront.lab.http_client import Client, NoAnswer, Reply
from warmfront.lab.load_figures import (
    ResourcesBefore,
    Watch,
    breaker_spans,
    describe_responses,
    dial_measures,
    last_error,
    probe_measures,
    resources_of,
    samples_of,
    send_delay_ms,
    watched_curves,
)
from warmfront.lab.measures import curves, measure
from warmfront.lab.process_faults import send
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


async def through_phases(scene: Scene, spec: Load, running: Sequence[LoadProcess]) -> Observation:
    for generator, plan in zip(running, plans(scene, spec), strict=True):
        await prepare(scene, generator, plan)
    log, watch = LogPart(scene.emulator.log_file), Watch()
    resources_before = ResourcesBefore(resources_of(await scene.environment_pids()))
    await scene.stage.reset_proxy_counts()
    began_s, began_wall_s = time.monotonic(), time.time()
    async with watching(scene, watch, began_s):
        run = await _run_with_fault(scene, running, began_s)
    phases = scene.experiment.phases
    samples = samples_of(run.recordings, began_s)
    observed = Observation(measure(samples, phases, budget_ms=scene.experiment.budget_ms))
    late_ms = send_delay_ms(run.recordings[:1], began_s + phases.fault_on_s)
    if late_ms > LATE_MAX_MS:
        raise TooBusy(f"not judged: requests left {late_ms:.0f} ms late (p95) before anything was broken")
    _require_steady_state(observed.measures["before.ok_share"], log)
    observed.examples = describe_responses(samples, phases, log)
    observed.curves = [*curves(samples, phases.end_s), *watched_curves(watch)]
    breaker = breaker_spans(log.text(), began_wall_s, phases.end_s)
    observed.spans = [run.fault, *breaker]
    opened_s = min((span.start_s for span in breaker), default=math.inf)
    observed.measures["breaker_opens_after_s"] = opened_s - run.fault.start_s
    observed.measures |= resources_before.measures(resources_of(await scene.environment_pids()))
    observed.measures |= dial_measures(samples, phases, run.stats)
    observed.measures |= probe_measures(watch, run.fault) | await _aftermath(scene, log)
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


async def _run_with_fault(scene: Scene, running: Sequence[LoadProcess], began_s: float) -> Run:
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


def _require_steady_state(ok_share: float, log: LogPart) -> None:
    if ok_share < STEADY_SHARE:
        raise NoSteadyState(
            f"{100 * ok_share:.0f} % of the requests were served before anything was broken; "
            f"the function's log says: {last_error(log)}"
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


async def burst(scene: Scene) -> Observation:
    """Send simultaneous requests without any environment, so that every one is a cold start."""
    count = scene.options(LoadOptions).burst
    log = LogPart(scene.emulator.log_file)
    await scene.emulator.retire(scene.variant.function)
    await scene.stage.reset_proxy_counts()
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
    return Observation(measures, [*curves(samples, end_s), *watched_curves(watch)])


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
