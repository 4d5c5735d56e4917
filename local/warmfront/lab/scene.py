"""One experiment on one subject: the servers and emulator it uses, its faults, and what is observed."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis
from warmfront.lab.emulator_process import EmulatorProcess
from warmfront.lab.experiments import Experiment, ExperimentError, FaultSpec, VariantSpec
from warmfront.lab.fault_actions import Fault, OnProxy, Pulsed
from warmfront.lab.measures import Curve
from warmfront.lab.postgres_faults import BackendsTerminated, ConnectionLimit, ConnectionsTaken, DiskFull, LockHeld
from warmfront.lab.process_faults import ClockJump, Frozen, Killed, Restarted
from warmfront.lab.redis_faults import RedisEmptied, RedisGarbage, RedisMemory, RedisPaused
from warmfront.lab.stage import AWS, POSTGRES, REDIS, Stage
from warmfront.lab.tcp_faults import FAULT_KINDS, TcpFault

APP_ROLE = "app"


@dataclass(frozen=True, slots=True)
class Subject:
    """What an experiment is run on: a variant, or a control."""

    name: str
    variant: VariantSpec
    settings: Mapping[str, str] = field(default_factory=dict)
    is_control: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the timeline in which a fault was applied or a breaker was open."""

    kind: str
    label: str
    start_s: float
    end_s: float


@dataclass(slots=True)
class Observation:
    """What was measured, as figures and over time, and examples of failures as text."""

    measures: dict[str, float] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)


class Gate:
    """A barrier at which subjects that run side by side start together, so that no warm-up disturbs another's run."""

    def __init__(self, coming: int) -> None:
        self._coming = coming
        self._known: set[int] = set()
        self._open = asyncio.Event()

    async def arrive(self, who: object) -> None:
        self.leave(who)
        await self._open.wait()

    def leave(self, who: object) -> None:
        """Stop waiting for a subject that has ended."""
        self._known.add(id(who))
        if len(self._known) >= self._coming:
            self._open.set()


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that a procedure needs."""

    stage: Stage
    emulator: EmulatorProcess
    experiment: Experiment
    subject: Subject
    workloads: Path
    seed: int
    say: Callable[[str], None]
    gate: Gate

    async def ready(self) -> None:
        """Wait until all subjects are warm."""
        await self.gate.arrive(self.subject)

    @property
    def variant(self) -> VariantSpec:
        return self.subject.variant

    async def environment_pids(self) -> list[int]:
        return list(await self.emulator.environment_pids(self.variant.function))

    def options[T](self, shape: type[T]) -> T:
        """Return the experiment's options as the procedure's type. Raises ExperimentError if they do not fit."""
        return options(self.experiment, shape)


def options[T](experiment: Experiment, shape: type[T]) -> T:
    known = {name: value for name, value in experiment.options.items() if name != "about_s"}
    try:
        return msgspec.convert(known, shape)
    except msgspec.ValidationError as error:
        raise ExperimentError(f"experiment {experiment.id}: options: {error}") from error


Build = Callable[[Scene, FaultSpec], Fault]


def _server_pids(scene: Scene, spec: FaultSpec) -> Callable[[], Awaitable[list[int]]]:
    """Return the process ids of a backing service, or of the environments of the function under test."""

    async def pids() -> list[int]:
        if spec.on == "environments":
            return await scene.environment_pids()
        server = _server(scene, spec)
        return [server.pid] if server.pid else []

    return pids


def _server(scene: Scene, spec: FaultSpec) -> Postgres | Redis:
    servers: dict[str, Postgres | Redis] = {POSTGRES: scene.stage.postgres, REDIS: scene.stage.redis}
    return servers[spec.on]


def _admin_url(scene: Scene) -> str:
    return scene.stage.postgres.admin_url(scene.variant.database)


def _restart(scene: Scene, spec: FaultSpec) -> Callable[[], None]:
    server = _server(scene, spec)
    return lambda: server.restart("immediate")


FAULTS: dict[str, Build] = {
    "frozen": lambda scene, spec: Frozen(_server_pids(scene, spec)),
    "killed": lambda scene, spec: Killed(
        _server_pids(scene, spec),
        every_s=spec.settings.get("every_s"),
        for_s=spec.settings.get("for_s", math.inf),
        seed=scene.seed,
    ),
    "restarted": lambda scene, spec: Restarted(_restart(scene, spec)),
    "lock": lambda scene, spec: LockHeld(_admin_url(scene), spec.texts["sql"]),
    "connection_limit": lambda scene, spec: ConnectionLimit(
        _admin_url(scene), role=spec.texts.get("role", APP_ROLE), limit=int(spec.settings["limit"])
    ),
    "connections_taken": lambda scene, spec: ConnectionsTaken(
        scene.stage.postgres.admin_url(), leave=int(spec.settings.get("leave", 0))
    ),
    "backends_terminated": lambda scene, spec: BackendsTerminated(
        scene.stage.postgres.admin_url(), role=spec.texts.get("role", APP_ROLE)
    ),
    "disk_full": lambda scene, spec: DiskFull(_admin_url(scene), only=spec.texts.get("table", "%")),
    "clock_jump": lambda scene, spec: ClockJump(scene.emulator.clock_file, offset_s=spec.settings["offset_s"]),
    "redis_paused": lambda scene, spec: RedisPaused(scene.stage.redis.url(), pause_s=spec.settings["pause_s"]),
    "redis_out_of_memory": lambda scene, _: RedisMemory(scene.stage.redis.url()),
    "redis_eviction": lambda scene, _: RedisMemory(scene.stage.redis.url(), policy="allkeys-random"),
    "redis_emptied": lambda scene, _: RedisEmptied(scene.stage.redis.url()),
    "redis_garbage": lambda scene, _: RedisGarbage(scene.stage.redis.url()),
    "environments_retired": lambda scene, _: Retired(scene),
}
"""Faults besides those on a proxy, which are in FAULT_KINDS."""


class Retired:
    """Shuts down every environment of the function, so that cold starts follow."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def apply(self) -> None:
        await self._scene.emulator.retire(self._scene.variant.function)

    async def clear(self) -> None:
        """Do nothing: new environments start by themselves."""


def build_fault(scene: Scene, spec: FaultSpec) -> Fault:
    fault = _build(scene, spec)
    return Pulsed(fault, every_s=spec.pulse_s) if spec.pulse_s else fault


def _build(scene: Scene, spec: FaultSpec) -> Fault:
    where = f"experiment {scene.experiment.id}: fault {spec.kind}"
    if spec.kind in FAULT_KINDS:
        if spec.on not in (POSTGRES, REDIS, AWS):
            raise ExperimentError(f"{where}: on = {spec.on!r}; a TCP fault is on {POSTGRES}, {REDIS} or {AWS}")
        fault = TcpFault(spec.kind, spec.direction, spec.share, scene.seed, spec.settings)
        return OnProxy(scene.stage.proxies, spec.on, fault)
    if spec.kind not in FAULTS:
        raise ExperimentError(f"{where}: no such fault; there are: {', '.join([*FAULT_KINDS, *FAULTS])}")
    try:
        return FAULTS[spec.kind](scene, spec)
    except KeyError as missing:
        raise ExperimentError(f"{where}: {missing} is missing or unknown") from missing


class LogPart:
    """The part of the function log that is written from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._from = path.stat().st_size if path.exists() else 0

    def text(self) -> str:
        if not self._path.exists():
            return ""
        with self._path.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")

    def count(self, pattern: str) -> float:
        return float(len(re.findall(pattern, self.text())))


def ratio(figure: float, base: float) -> float:
    return figure / base if base else math.nan


def as_request(template: Mapping[str, Any], values: Mapping[str, object]) -> tuple[str, str, dict[str, str], bytes]:
    """Return method, path, headers and body of a request with its {placeholders} filled. JSON's own braces are kept."""

    def fill(text: str) -> str:
        return re.sub(r"\{([a-z_]+)\}", lambda hole: str(values[hole[1]]), text)

    headers = {name: fill(value) for name, value in template.get("headers", {}).items()}
    return (
        str(template.get("method", "GET")),
        fill(template["path"]),
        {name: value for name, value in headers.items() if value},
        fill(template.get("body", "")).encode(),
    )
