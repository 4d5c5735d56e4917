"""`python -m local.bench.cost.observe`: throughput with observation and without, interleaved in one run; limits 5 % closed, 10 % open.

`closed`: nobody looks; what was noted is entered all the same, within the block. `open`: the dashboard's stream of events
is read. After each block there is a scrape, whose CPU time is a column of its own: a Prometheus pays it every few seconds.

Two processes of one program need not be equally fast, so each emulator is measured against one other and then replaced:
a pair of fresh ones is one observation, whatever the number of its blocks.
"""

import argparse
import contextlib
import http.client
import random
import statistics
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local.bench import stats
from local.bench.accounting import process_cpu_s
from local.bench.emulator import EmulatorProcess
from local.bench.load_process import LoadProcess, Order
from local.bench.samples import Outcome, Plan, Target

HERE: Final = Path(__file__).parent / "watched"
EVENTS: Final = "/_warmfront/events"
METRICS: Final = "/_warmfront/metrics"
LIMITS_PERCENT: Final = {"closed": 5.0, "open": 10.0}
EMULATORS_MIN: Final = 2
HANDLERS: Final = ("silent", "measuring")
PATIENCE_S: Final = 30.0


@dataclass(slots=True)
class Site:
    """One way to run the emulator, and what the blocks of those that ran so gave by handler."""

    name: str
    argument: str
    blocks: dict[str, list[float]] = field(default_factory=dict)
    """Requests per second in each block of the emulator that runs now."""
    rates: dict[str, list[float]] = field(default_factory=dict)
    """The same, one middle figure for each emulator."""
    cpu_ms: dict[str, list[float]] = field(default_factory=dict)
    scrape_ms: dict[str, list[float]] = field(default_factory=dict)
    errors: int = 0
    _emulator: EmulatorProcess | None = None

    @property
    def emulator(self) -> EmulatorProcess:
        assert self._emulator is not None
        return self._emulator

    def renew(self, stack: contextlib.ExitStack) -> None:
        """A fresh emulator, and whoever watches it; both end with the stack."""
        self._emulator = stack.enter_context(EmulatorProcess.start(HERE / "template.yaml", arguments=(self.argument,)))
        if self.name == "open":
            stack.callback(Watcher(self._emulator.control.target).close)

    def conclude(self) -> None:
        """The emulator that runs now has had its blocks."""
        for handler, rates in self.blocks.items():
            self.rates.setdefault(handler, []).append(statistics.median(rates))
        self.blocks = {}

    def run(self, load: LoadProcess, handler: str, *, connections: int, duration_s: float, counted: bool) -> None:
        order = Order(
            file=str(HERE / "workload.toml"),
            workload="hello",
            variant=handler,
            target=self.emulator.control.target,
            plan=Plan(workers=connections, duration_s=duration_s),
        )
        load.prepare(order)
        before_s = process_cpu_s(self.emulator.pid) or 0.0
        recording = load.run()
        spent_s = (process_cpu_s(self.emulator.pid) or 0.0) - before_s
        if counted:
            self.blocks.setdefault(handler, []).append(len(recording) / recording.duration_s)
            self.cpu_ms.setdefault(handler, []).append(spent_s * 1000 / len(recording))
            self.errors += len(recording) - recording.outcome.count(Outcome.OK)

    def scrape(self, handler: str) -> None:
        """What a scrape costs the emulator right after a block: whatever had been put off until then would be in it."""
        before_s = process_cpu_s(self.emulator.pid) or 0.0
        target = self.emulator.control.target
        with contextlib.closing(http.client.HTTPConnection(target.host, target.port, timeout=PATIENCE_S)) as connection:
            connection.request("GET", METRICS)
            connection.getresponse().read()
        spent_s = (process_cpu_s(self.emulator.pid) or 0.0) - before_s
        self.scrape_ms.setdefault(handler, []).append(spent_s * 1000)


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.bench.cost.observe", description=__doc__)
    parser.add_argument("--emulators", type=int, default=8, help="fresh ones of each kind (default: 8)")
    parser.add_argument("--rounds", type=int, default=4, help="blocks of each of them and handler (default: 4)")
    parser.add_argument("--block", type=float, default=0.5, metavar="SECONDS", help="length of a block (default: 0.5)")
    parser.add_argument("--connections", type=int, default=10, help="of the closed loop (default: 10)")
    parser.add_argument("--open", action="store_true", help="with the dashboard open as well")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.emulators < EMULATORS_MIN:
        parser.error(f"--emulators {args.emulators}: an interval needs at least {EMULATORS_MIN}")
    sites = [Site("without", "--no-observe"), Site("closed", "--observe")]
    if args.open:
        sites.append(Site("open", "--observe"))
    order = random.Random(args.seed)
    with LoadProcess.start() as load:
        for index in range(args.emulators):
            print(f"\remulators {index + 1} of {args.emulators}", end="", file=sys.stderr, flush=True)
            _measure(sites, load, order, args)
    print(file=sys.stderr)
    return show(sites)


def _measure(sites: list[Site], load: LoadProcess, order: random.Random, args: argparse.Namespace) -> None:
    """One fresh emulator of each kind, blocks in random order."""
    with contextlib.ExitStack() as stack:
        for site in order.sample(sites, len(sites)):
            site.renew(stack)
            for handler in HANDLERS:
                site.run(load, handler, connections=args.connections, duration_s=0.5, counted=False)
        for _ in range(args.rounds):
            for handler in HANDLERS:
                for site in order.sample(sites, len(sites)):
                    site.run(load, handler, connections=args.connections, duration_s=args.block, counted=True)
                    if site.name != "without":
                        site.scrape(handler)
        for site in sites:
            site.conclude()


def show(sites: list[Site]) -> int:
    """A row for each handler and site; exit status 1 where the middle estimate is over its limit or requests failed."""
    without, *observed = sites
    drawn = stats.draws(len(without.rates[HANDLERS[0]]))
    over = any(site.errors for site in sites)
    print(
        f"{'handler':<11}{'dashboard':<11}{'req/s':>8} {'without':>8} {'cost %':>8} {'interval':>16} {'limit':>6}"
        f" {'CPU us':>8} {'scrape ms':>10}"
    )
    for handler in HANDLERS:
        for site in observed:
            cost = stats.typical_ratio(site.rates[handler], without.rates[handler], drawn)
            percent = 100 * (1 - cost.value)
            interval = f"{100 * (1 - cost.high):.1f} .. {100 * (1 - cost.low):.1f}"
            more_us = 1000 * (statistics.median(site.cpu_ms[handler]) - statistics.median(without.cpu_ms[handler]))
            print(
                f"{handler:<11}{site.name:<11}{statistics.median(site.rates[handler]):>8,.0f}"
                f" {statistics.median(without.rates[handler]):>8,.0f} {percent:>8.1f} {interval:>16}"
                f" {LIMITS_PERCENT[site.name]:>6.0f} {more_us:>+8.1f} {statistics.mean(site.scrape_ms[handler]):>10.1f}"
            )
            over = over or percent > LIMITS_PERCENT[site.name]
    print(
        f"errors: {sum(site.errors for site in sites)}; CPU us: what an invocation costs the emulator's process more;"
        " scrape: CPU time of one, right after a block"
    )
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
