"""`warmfront overhead emulator`: measures the emulator's cost of a warm invocation against a bare Starlette route.

It also times the start. `make bench-peer` adds the fastest peer known to the same run.
"""

import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from warmfront.bench.load.load_process import LoadProcess, Order
from warmfront.bench.load.samples import Outcome, Plan, Recording, Target
from warmfront.bench.overhead.peer import peer_server
from warmfront.bench.overhead.start import Start, describe, measure_starts
from warmfront.bench.run.accounting import process_cpu_s
from warmfront.bench.run.emulator_process import EmulatorProcess

HERE = Path(__file__).parent
CPU_BUDGET_MS = 0.20
STARTED_TOGETHER = 20  # environments: many more simultaneous inits would exceed the init timeout
P50_BUDGET = 3.5
PEER_P50 = 0.9
PEER_RATE = 1.3
Site = tuple[Target, int]
"""Where a server answers, and its process id."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One way of asking: who answers, over how many connections, kept alive or new for each request."""

    site: str
    handler: str
    connections: int
    keep_alive: bool = True

    @property
    def title(self) -> str:
        return (
            f"{self.site:<10}{self.handler:<10}{self.connections:>4} {'keep-alive' if self.keep_alive else 'new each'}"
        )


@dataclass(slots=True)
class Tally:
    """What the blocks of one scene recorded."""

    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    requests: int = 0
    errors: int = 0

    def add(self, recording: Recording, cpu_s: float) -> None:
        latencies = sorted(recording.latency_us())
        self.p50_ms.append(latencies[len(latencies) // 2] / 1000)
        self.p99_ms.append(latencies[int(len(latencies) * 0.99)] / 1000)
        self.rate.append(len(recording) / recording.duration_s)
        self.cpu_ms.append(cpu_s * 1000 / len(recording))
        self.requests += len(recording)
        self.errors += len(recording) - recording.outcome.count(Outcome.OK)

    def row(self) -> str:
        middle = statistics.median
        return (
            f"{self.requests:>8,} {middle(self.p50_ms):>8.3f} {middle(self.p99_ms):>8.3f} {middle(self.rate):>8,.0f}"
            f" {middle(self.cpu_ms):>8.3f} {self.errors:>6}"
        )


class Bench:
    """The servers, the load generator, and the books."""

    def __init__(self, load: LoadProcess, bare: Site, emulator: EmulatorProcess, peer: Site | None, seed: int) -> None:
        self._load = load
        self._sites = {"starlette": bare, "emulator": (emulator.control.target, emulator.pid)}
        if peer is not None:
            self._sites["peer"] = peer
        self._random = random.Random(seed)
        self.tallies: dict[Scene, Tally] = {}

    def run(self, scene: Scene, duration_s: float, *, counted: bool = True) -> None:
        target, pid = self._sites[scene.site]
        plan = Plan(workers=scene.connections, duration_s=duration_s, keep_alive=scene.keep_alive)
        order = Order(
            file=str(HERE / "workload.toml"), workload="hello", variant=scene.handler, target=target, plan=plan
        )
        self._load.prepare(order)
        before_s = process_cpu_s(pid) or 0.0
        recording = self._load.run()
        spent_s = (process_cpu_s(pid) or 0.0) - before_s
        if counted:
            self.tallies.setdefault(scene, Tally()).add(recording, spent_s)

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self._sites)

    def interleave(self, scenes: list[Scene], *, rounds: int, duration_s: float) -> None:
        for scene in scenes:
            self.run(scene, 0.3, counted=False)
        for index in range(rounds):
            self._random.shuffle(scenes)
            print(f"\rround {index + 1} of {rounds}", end="", file=sys.stderr, flush=True)
            for scene in scenes:
                self.run(scene, duration_s)
        print(file=sys.stderr)

    def middle(self, scene: Scene, figure: str) -> float:
        return float(statistics.median(getattr(self.tallies[scene], figure)))


@contextmanager
def bare_server() -> Iterator[Site]:
    process = subprocess.Popen([sys.executable, str(HERE / "bare.py")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Target("127.0.0.1", port), process.pid
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def scenes(sites: tuple[str, ...]) -> list[Scene]:
    return [
        Scene(site, handler, connections, keep_alive)
        for site in sites
        for handler, connections, keep_alive in (
            ("silent", 1, True),
            ("silent", 10, True),
            ("printing", 1, True),
            ("printing", 10, True),
            ("silent", 10, False),
        )
        if site != "starlette" or handler == "silent"
    ]


@dataclass(frozen=True, slots=True)
class EmulatorOverheadOptions:
    """How much is measured: blocks of each scene, seconds of a block, environments of the dispatch comparison, starts."""

    rounds: int = 9
    block: float = 1.0
    environments: int = 200
    starts: int = 5
    seed: int = 1
    peer: Path | None = None
    """Folder into which npm installed serverless-offline, to measure it beside."""


def measure(options: EmulatorOverheadOptions) -> int:
    starts = measure_starts(options.starts) if options.starts else []
    with (
        LoadProcess.start() as load,
        bare_server() as bare,
        peer_server(options.peer) if options.peer else nullcontext() as peer,
        EmulatorProcess.start(HERE / "template.yaml") as emulator,
    ):
        bench = Bench(load, bare, emulator, peer, options.seed)
        bench.interleave(scenes(bench.sites), rounds=options.rounds, duration_s=options.block)
        few, many = dispatch(bench, emulator, options.environments, rounds=options.rounds, duration_s=options.block)
    show(bench, few, many, options.environments, starts)
    if wrong := sum(tally.errors for tally in bench.tallies.values()) + few.errors + many.errors:
        print(f"bench-emulator: {wrong:,} answers were wrong: no figure above counts", file=sys.stderr)
        return 1
    return 0


def dispatch(
    bench: Bench, emulator: EmulatorProcess, environments: int, *, rounds: int, duration_s: float
) -> tuple[Tally, Tally]:
    """CPU per invocation with ten environments there, then with `environments` (190 of them idle): before and after."""
    scene = Scene("emulator", "silent", 10)
    tallies = []
    kept = bench.tallies.pop(scene)
    for count in (10, environments):
        emulator.control.retire("Silent")
        for begun in range(0, count, STARTED_TOGETHER):
            emulator.control.start("Silent", min(STARTED_TOGETHER, count - begun))
        bench.run(scene, 0.5, counted=False)
        print(f"{len(emulator.control.state().functions['Silent'].pids)} environments", file=sys.stderr)
        for _ in range(rounds):
            bench.run(scene, duration_s)
        tallies.append(bench.tallies.pop(scene))
    bench.tallies[scene] = kept
    return tallies[0], tallies[1]


def show(bench: Bench, few: Tally, many: Tally, environments: int, starts: list[Start]) -> None:
    print(f"{'':<30}{'n':>8} {'p50 ms':>8} {'p99 ms':>8} {'req/s':>8} {'CPU ms':>8} {'errors':>6}")
    for scene in sorted(
        bench.tallies, key=lambda each: (each.connections, not each.keep_alive, each.handler != "silent", each.site)
    ):
        print(f"{scene.title:<30}{bench.tallies[scene].row()}")
    one, bare = Scene("emulator", "silent", 1), Scene("starlette", "silent", 1)
    ratio = bench.middle(one, "p50_ms") / bench.middle(bare, "p50_ms")
    cpu_ms = bench.middle(Scene("emulator", "silent", 10), "cpu_ms")
    growth = statistics.median(many.cpu_ms) / statistics.median(few.cpu_ms)
    print(f"p50 at one connection: {ratio:.2f} x bare Starlette (aim: at most {P50_BUDGET} x)")
    print(
        f"CPU of the emulator process at ten connections: {cpu_ms:.3f} ms an invocation (aim: at most {CPU_BUDGET_MS:.2f})"
    )
    print(f"CPU an invocation, {environments} environments against 10: {growth:.2f} x (aim: at most 1.10 x)")
    if starts:
        print(describe(starts))
    if "peer" in bench.sites:
        show_peer(bench)


def show_peer(bench: Bench) -> None:
    for handler in ("silent", "printing"):
        p50, rate = (
            bench.middle(Scene("emulator", handler, connections), figure)
            / bench.middle(Scene("peer", handler, connections), figure)
            for connections, figure in ((1, "p50_ms"), (10, "rate"))
        )
        print(
            f"beside serverless-offline, {handler}: p50 at one connection {p50:.2f} x (aim: at most {PEER_P50} x),"
            f" throughput at ten {rate:.2f} x (aim: at least {PEER_RATE} x)"
        )
