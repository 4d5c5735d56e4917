"""Measures over time how a jump from no load to many callers is absorbed, for each way to start and each function.

Closed loop: each caller asks again as soon as it is answered, so there are as many requests under way as callers.
"""

import asyncio
import json
import re
import tempfile
import threading
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Self

import asyncpg

from warmfront.bench.load.load_process import LoadProcess, Order
from warmfront.bench.load.samples import Plan, Recording
from warmfront.bench.run.accounting import pss_bytes
from warmfront.bench.run.emulator_process import Control
from warmfront.bench.run.progress import Progress
from warmfront.bench.statistics import percentiles
from warmfront.results import Series, Summary

from . import connections
from .cold_options import AHEAD, PROCESSES, ColdOptions, Subject
from .site import Sites, await_ready, environments, rest

CALLERS = 50
# Beside the one that is always there. Provisioned: half of what is needed, so that the rest spills over; managed never starts
# one because a request waits, so there is room for all (docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances.html).
MORE_AHEAD = {"provisioned": CALLERS // 2 - 1, "managed": -(-CALLERS // PROCESSES) - 1}
LOOK_S = 0.25
STEP_S = 0.25
_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*(?::[^}\"]*)?\})")
DELAYED = 3.0  # times the median of the last third: a request that met the ramp


@dataclass(slots=True)
class Looks:
    """Samples connections opened and memory from a thread while it is entered."""

    control: Control
    function: str
    postgres_url: str | None
    t_ns: list[int] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="ramp-looks", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    async def _run(self) -> None:
        server = await asyncpg.connect(self.postgres_url) if self.postgres_url else None
        try:
            while True:
                await self._look(server)
                if await asyncio.to_thread(self._stop.wait, LOOK_S):
                    break
            await self._look(server)
        finally:
            if server is not None:
                await server.close()

    async def _look(self, server: asyncpg.Connection | None) -> None:
        opened = await connections.opened(server) if server is not None else 0
        found = await asyncio.to_thread(environments, self.control, self.function)
        pids = [pid for each in found for pid in each.get("pids") or [each["pid"]] if pid]
        self.t_ns.append(
            time.monotonic_ns()
        )  # after the response: the emulator may have been too busy to reply at once
        self.opened.append(opened)
        self.memory_mb.append(sum(map(pss_bytes, pids)) / 2**20)


def measure(sites: Sites, options: ColdOptions, progress: Progress) -> tuple[list[Summary], list[Series]]:
    rows: list[Summary] = []
    series: list[Series] = []
    with tempfile.TemporaryDirectory(prefix="warmfront-ramp-") as name:
        file = Path(name) / "ramp.toml"
        file.write_text(workload_text(options.subjects))
        load = LoadProcess.start()
        try:
            for subject in options.subjects:
                for way in options.ways:
                    progress.phase(f"0 to {CALLERS} callers: {subject.function}, {way}")
                    own, lines = _ramp(sites, load, file, way, subject, options.ramp_s)
                    rows += own
                    series += lines
        finally:
            load.close()
    return rows, series


def workload_text(subjects: Sequence[Subject]) -> str:
    """Each function as a workload of its own, asked through the Invoke API."""
    lines = []
    for subject in subjects:
        # A route's {id} would be a placeholder of the file; as a JSON escape it means the same to the function.
        body = json.dumps(_PLACEHOLDER.sub(r"\\u007b\1", subject.event.decode()))
        lines += [
            "[[variant]]",
            f"name = {json.dumps(subject.function)}",
            f"prefix = {json.dumps(f'/2015-03-31/functions/{subject.function}')}",
            f"function = {json.dumps(subject.function)}",
        ]
        lines += ["[[workload]]", f"name = {json.dumps(subject.function)}", "[[workload.request]]"]
        lines += ['path = "/invocations"', 'method = "POST"', f"body = {body}", "expect = [200]"]
    return "\n".join(lines) + "\n"


def _ramp(
    sites: Sites, load: LoadProcess, file: Path, way: str, subject: Subject, ramp_s: float
) -> tuple[list[Summary], list[Series]]:
    control = sites.controls[way]
    control.retire(subject.function)
    if way in AHEAD:
        await_ready(control, subject.function)
        control.start(subject.function, MORE_AHEAD[way])
    rest(control)
    known = {init["environment"] for init in control.inits(subject.function)}
    ahead = len(environments(control, subject.function))
    plan = Plan(workers=CALLERS, duration_s=ramp_s, seed="ramp", timeout_s=ramp_s + 30)
    load.prepare(
        Order(
            file=str(file),
            workload=subject.function,
            variant=subject.function,
            target=control.target,
            plan=plan,
            expected=20 * CALLERS,
        )
    )
    admin = sites.postgres_admin_url
    with Looks(control, subject.function, admin) as looks:
        recording = load.run()
    inits = [each for each in control.inits(subject.function) if each["environment"] not in known]
    found = Ramp.of(recording, [int(each["ready_ns"]) for each in inits], looks, ahead=ahead)
    control.retire(subject.function)
    return found.summaries(way, subject.function), found.series(way, subject.function)


@dataclass(frozen=True, slots=True)
class Ramp:
    """What one jump of load came to; times in seconds after it."""

    warm_s: float
    """Until the last environment that a request had to wait for was ready."""
    environments: int
    delayed: int
    requests: int
    errors: int
    p99_ramp_ms: float
    p99_after_ms: float
    opened_per_s: float
    memory_mb: float
    lines: tuple[tuple[str, str, tuple[float, ...], tuple[float, ...]], ...]

    @classmethod
    def of(cls, recording: Recording, ready_ns: Sequence[int], looks: Looks, *, ahead: int = 0) -> "Ramp":
        """`ahead`: the environments that were ready before the first request."""
        began = min(recording.intended_ns)
        late = [each for each in ready_ns if each > began]
        warm_ns = max(late, default=began)
        latency = recording.latency_us()
        first, last = _split(recording.sent_ns, latency, warm_ns)
        usual = median(sorted_last_third(recording, latency))
        times = [(each - began) / 1e9 for each in looks.t_ns]
        rates = [
            (after - before) / max(1e-3, (later - earlier))
            for before, after, earlier, later in zip(looks.opened, looks.opened[1:], times, times[1:], strict=False)
        ]
        ends = sorted((each - began) / 1e9 for each in late)
        ready = ahead + len(ends)
        over = (max(recording.done_ns) - began) / 1e9
        return cls(
            warm_s=(warm_ns - began) / 1e9,
            environments=len(late),
            delayed=sum(1 for each in latency if each > DELAYED * usual),
            requests=len(recording),
            errors=recording.errors,
            p99_ramp_ms=percentiles.percentile(first, 0.99) / 1000 if first else 0.0,
            p99_after_ms=percentiles.percentile(last, 0.99) / 1000 if last else 0.0,
            opened_per_s=max(rates, default=0.0),
            memory_mb=max(looks.memory_mb, default=0.0),
            lines=(
                (
                    "environments ready",
                    "",
                    (0.0, *ends, over),
                    tuple(float(n) for n in (*range(ahead, ready + 1), ready)),
                ),
                _steps("answers per second", "1/s", recording.done_ns, began, None),
                _steps("p99 in a quarter of a second", "ms", recording.done_ns, began, latency),
                ("connections opened per second", "1/s", tuple(times[1:]), tuple(rates)),
                ("memory of the environments", "MB", tuple(times), tuple(looks.memory_mb)),
            ),
        )

    def summaries(self, way: str, function: str) -> list[Summary]:
        figures = (
            ("time to all warm", "s", self.warm_s),
            ("environments", "", float(self.environments)),
            ("requests", "", float(self.requests)),
            ("delayed", "", float(self.delayed)),
            ("errors", "", float(self.errors)),
            ("p99 in the ramp", "ms", self.p99_ramp_ms),
            ("p99 after it", "ms", self.p99_after_ms),
            ("connections opened per second, most", "1/s", self.opened_per_s),
            ("memory, most", "MB", self.memory_mb),
        )
        return [
            Summary(f"ramp {way}", function, name, unit, value, n=1)
            for name, unit, value in figures
            if value or not name.startswith("p99")  # nothing was asked before, or after
        ]

    def series(self, way: str, function: str) -> list[Series]:
        return [
            Series(name, unit, times, values, variant=function, workload=f"ramp {way}")
            for name, unit, times, values in self.lines
            if times
        ]


def _split(sent_ns: array[int], latency: Sequence[int], at_ns: int) -> tuple[list[int], list[int]]:
    before = [each for sent, each in zip(sent_ns, latency, strict=True) if sent < at_ns]
    return before, [each for sent, each in zip(sent_ns, latency, strict=True) if sent >= at_ns]


def sorted_last_third(recording: Recording, latency: Sequence[int]) -> list[int]:
    """Latencies of the requests that were answered last: the ramp is over for them."""
    order = sorted(range(len(latency)), key=lambda place: recording.done_ns[place])
    return [latency[place] for place in order[-max(1, len(order) // 3) :]]


def _steps(
    name: str, unit: str, done_ns: array[int], began: int, latency: Sequence[int] | None
) -> tuple[str, str, tuple[float, ...], tuple[float, ...]]:
    """Answers, or their 99th percentile, by the quarter of a second in which they came."""
    found: dict[int, list[int]] = {}
    for place, done in enumerate(done_ns):
        found.setdefault(int((done - began) / 1e9 / STEP_S), []).append(latency[place] if latency else 1)
    steps = range(max(found, default=-1) + 1)
    if latency is None:
        return name, unit, tuple(step * STEP_S for step in steps), tuple(len(found.get(s, ())) / STEP_S for s in steps)
    known = [step for step in steps if step in found]
    return (
        name,
        unit,
        tuple(step * STEP_S for step in known),
        tuple(percentiles.percentile(found[step], 0.99) / 1000 for step in known),
    )
