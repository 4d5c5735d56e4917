"""`warmfront overhead observe`: compares throughput with and without observation; limits 5 % closed, 10 % open.

`closed`: nobody looks; what was noted is entered all the same. `open`: the dashboard's stream of events is read. What a
scrape costs is a column of its own: a Prometheus pays it every few seconds.

`product` is the hot path, a pooled read of the shop, whose handler prints a line of metrics for each request. The other two
handlers do nothing: there the emulator is all there is, and what it does besides shows most.

Two processes of one program differ by more than observation costs, and so does this second from the next. So it is turned
off and on within one process, under one load that goes on, and each slice of time is compared with the one beside it. Many
short slices tell more in the same time than few long ones: a machine that changes its speed does so between more pairs. A pair
in which the machine stalled, by its pulse, is no pair. Several emulators have their slices, one after the other: no one's
layout in memory decides.
"""

import contextlib
import http.client
import random
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import Final

import numpy as np

from warmfront.bench.load.load_process import LoadProcess, Order
from warmfront.bench.load.samples import Outcome, Plan, Target
from warmfront.bench.load.workloads import SHOP_WORKLOADS, load_workloads
from warmfront.bench.run.accounting import process_cpu_s
from warmfront.bench.run.emulator_process import EmulatorProcess
from warmfront.bench.run.pulse import STALLED, BeatHistory, Pulse
from warmfront.bench.statistics import percentiles
from warmfront.bench.statistics.percentiles import IntArray

EVENTS: Final = "/_warmfront/events"
METRICS: Final = "/_warmfront/metrics"
LIMITS_PERCENT: Final = {"closed": 5.0, "open": 10.0}
PATIENCE_S: Final = 30.0
WARM_UP_S: Final = 0.5
LEAD_S: Final = 0.03
"""After observation was turned, what is under way still ends the other way."""
SCRAPES: Final = 3


@dataclass(frozen=True, slots=True)
class Case:
    """A handler and what it is asked."""

    name: str
    workload: str
    variant: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A template, the file of its workloads, and the handlers of it that are measured."""

    template: Path
    file: Path
    cases: tuple[Case, ...]


HERE: Final = Path(__file__).parent / "watched"
SUBJECTS: Final = (
    Subject(Path("template.yaml"), SHOP_WORKLOADS, (Case("product", "product", "pooled"),)),
    Subject(
        HERE / "template.yaml",
        HERE / "workload.toml",
        (Case("silent", "hello", "silent"), Case("measuring", "hello", "measuring")),
    ),
)


@dataclass(frozen=True, slots=True)
class ObserveOptions:
    """How much is measured: fresh emulators of each template, pairs of slices, seconds of a slice, connections."""

    emulators: int = 4
    pairs: int = 40
    slice: float = 0.05
    connections: int = 10
    open: bool = False
    """Measure with the dashboard open as well."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of the load with observation on or off."""

    on: bool
    begin_ns: int
    end_ns: int
    cpu_s: float
    """Of the emulator's process."""


@dataclass(slots=True)
class Mode:
    """One way to be observed. A column of figures: one for each slice, those at the same place ran next to each other."""

    name: str
    watched: bool = False
    rates: dict[tuple[str, bool], list[float]] = field(default_factory=dict)
    """Requests per second by handler, observed or not."""
    cpu_us: dict[tuple[str, bool], list[float]] = field(default_factory=dict)
    scrape_ms: dict[str, list[float]] = field(default_factory=dict)
    errors: int = 0
    beat_history: BeatHistory = field(default_factory=BeatHistory)
    stalled: int = 0
    """Pairs left out because the machine stalled."""

    def run(
        self,
        emulator: EmulatorProcess,
        load: LoadProcess,
        subject: Subject,
        case: Case,
        turns: list[bool],
        options: ObserveOptions,
    ) -> None:
        """`turns`: of observation, on or off."""
        plan = Plan(workers=options.connections, duration_s=WARM_UP_S + len(turns) * (options.slice + LEAD_S + 0.1))
        target = emulator.control.target
        load.prepare(
            Order(file=str(subject.file), workload=case.workload, variant=case.variant, target=target, plan=plan)
        )
        with ThreadPoolExecutor(1) as executor, Pulse() as pulse:
            running = executor.submit(load.run)
            time.sleep(WARM_UP_S)
            slices = [self._slice(emulator, options.slice, on=on) for on in turns]
            recording = running.result()
        done_ns = np.sort(np.asarray(recording.done_ns))
        if done_ns[-1] < slices[-1].end_ns:
            raise SystemExit("the load ended before the last slice: the machine is busy with something else")
        self.errors += len(recording) - recording.outcome.count(Outcome.OK)
        for pair in batched(slices, 2):
            shares = [self.beat_history.stalled(pulse.between(each.begin_ns, each.end_ns)) or 0.0 for each in pair]
            if max(shares) > STALLED:
                self.stalled += 1
                continue
            for each in pair:
                self._enter(case, each, done_ns)
        self.scrape_ms.setdefault(case.name, []).extend(scrape_ms(emulator) for _ in range(SCRAPES))

    def _enter(self, case: Case, each: Slice, done_ns: IntArray) -> None:
        begin, end = np.searchsorted(done_ns, (each.begin_ns, each.end_ns))
        answered = max(int(end - begin), 1)
        self.rates.setdefault((case.name, each.on), []).append(answered * 1e9 / (each.end_ns - each.begin_ns))
        self.cpu_us.setdefault((case.name, each.on), []).append(each.cpu_s * 1e6 / answered)

    def _slice(self, emulator: EmulatorProcess, seconds: float, *, on: bool) -> Slice:
        emulator.control.observe(on=on)
        with contextlib.ExitStack() as stack:
            if on and self.watched:
                stack.callback(Watcher(emulator.control.target).close)
            time.sleep(LEAD_S)
            began_cpu_s, begin_ns = process_cpu_s(emulator.pid) or 0.0, time.monotonic_ns()
            time.sleep(seconds)
            end_ns, ended_cpu_s = time.monotonic_ns(), process_cpu_s(emulator.pid) or 0.0
        return Slice(on, begin_ns, end_ns, ended_cpu_s - began_cpu_s)


def scrape_ms(emulator: EmulatorProcess) -> float:
    """CPU time of one, right after the load: whatever had been put off until then would be in it."""
    before_s = process_cpu_s(emulator.pid) or 0.0
    target = emulator.control.target
    with contextlib.closing(http.client.HTTPConnection(target.host, target.port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", METRICS)
        connection.getresponse().read()
    return ((process_cpu_s(emulator.pid) or 0.0) - before_s) * 1000


class Watcher:
    """A browser's part of an open dashboard: reads the stream of events, and throws it away."""

    def __init__(self, target: Target) -> None:
        self._connection = http.client.HTTPConnection(target.host, target.port, timeout=PATIENCE_S)
        self._connection.request("GET", EVENTS, headers={"Accept": "text/event-stream"})
        self._response = self._connection.getresponse()
        if self._response.status != 200:
            raise SystemExit(f"{EVENTS} answers {self._response.status}: the dashboard cannot be watched")
        self.lines = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException, AttributeError):
            while self._response.readline():
                self.lines += 1

    def close(self) -> None:
        if self._connection.sock is not None:
            self._connection.sock.shutdown(2)
        self._thread.join(PATIENCE_S)
        self._response.close()
        self._connection.close()


def measure(options: ObserveOptions) -> int:
    """Measure and print a table. Returns 1 where a middle estimate is over its limit or requests failed."""
    modes = [Mode("closed")]
    if options.open:
        modes.append(Mode("open", watched=True))
    chance = random.Random(options.seed)
    with LoadProcess.start() as load:
        for index in range(options.emulators):
            print(f"\remulators {index + 1} of {options.emulators}", end="", file=sys.stderr, flush=True)
            _measure(modes, load, chance, options)
    print(file=sys.stderr)
    return show(modes)


def _measure(modes: list[Mode], load: LoadProcess, chance: random.Random, options: ObserveOptions) -> None:
    """A fresh emulator of each template; off and on in random order within each pair."""
    for subject in SUBJECTS:
        with EmulatorProcess.start(subject.template, arguments=("--observe",)) as emulator:
            for call in load_workloads(subject.file).setup_for(tuple(case.variant for case in subject.cases)):
                emulator.control.invoke(call.function, call.event)
            for case in subject.cases:
                for mode in chance.sample(modes, len(modes)):
                    turns = [on for _ in range(options.pairs) for on in chance.sample((False, True), 2)]
                    mode.run(emulator, load, subject, case, turns, options)


def show(modes: list[Mode]) -> int:
    """A row for each handler and mode; exit status 1 where the middle estimate is over its limit or requests failed."""
    cases = [case.name for subject in SUBJECTS for case in subject.cases]
    over = any(mode.errors for mode in modes)
    print(
        f"{'handler':<11}{'dashboard':<11}{'req/s':>8} {'without':>8} {'cost %':>8} {'interval':>16} {'limit':>6}"
        f" {'CPU us':>8} {'scrape ms':>10}"
    )
    for handler in cases:
        for mode in modes:
            observed, without = mode.rates.get((handler, True), []), mode.rates.get((handler, False), [])
            if len(observed) < 2:
                raise SystemExit(f"{handler}: the machine stalled in all pairs but {len(observed)}; come back later")
            cost = percentiles.typical_ratio(observed, without, percentiles.draws(len(observed)))
            percent = 100 * (1 - cost.value)
            interval = f"{100 * (1 - cost.high):.1f} .. {100 * (1 - cost.low):.1f}"
            more_us = statistics.median(mode.cpu_us[handler, True]) - statistics.median(mode.cpu_us[handler, False])
            print(
                f"{handler:<11}{mode.name:<11}{statistics.median(observed):>8,.0f} {statistics.median(without):>8,.0f}"
                f" {percent:>8.1f} {interval:>16} {LIMITS_PERCENT[mode.name]:>6.0f} {more_us:>+8.1f}"
                f" {statistics.mean(mode.scrape_ms[handler]):>10.1f}"
            )
            over = over or percent > LIMITS_PERCENT[mode.name]
    print(
        f"errors: {sum(mode.errors for mode in modes)}; pairs left out because the machine stalled:"
        f" {sum(mode.stalled for mode in modes)}; CPU us: what an invocation costs the emulator's process more;"
        " scrape: CPU time of one, right after the load"
    )
    return 1 if over else 0
