"""Measures the first invocation after a pause and compares it with a warm one; long pauses are simulated by their effect.

AWS drops flows that are idle for 350 s. Here the connections are dropped directly, so that a run need not wait ten minutes.
"""

import random
import time
from collections.abc import Sequence

from warmfront.bench.run.emulator_process import EmulatorError
from warmfront.bench.run.progress import Progress
from warmfront.bench.statistics import percentiles
from warmfront.results import Summary

from . import connections
from .caller import Caller
from .cold_options import ColdOptions, Subject
from .site import Sites

PAUSES = (("1 s", 1.0, 10), ("60 s", 60.0, 2))  # name, seconds, rounds; all functions and ways wait at the same time
CLOSED, CLOSED_ROUNDS = "10 min (connections closed)", 10
SETTLED_S = 0.05  # the environment is frozen after 10 ms without work


def measure(sites: Sites, options: ColdOptions, progress: Progress) -> list[Summary]:
    pairs = [(way, subject) for way in options.ways for subject in options.subjects]
    order = random.Random(f"thaw {options.seed}")
    rows: list[Summary] = []
    for name, pause_s, rounds in PAUSES:
        progress.phase(f"thaw after {name}, {rounds} times")
        found = _rounds(sites, pairs, order, rounds, pause_s, close=False)
        rows += _rows(name, found)
    if sites.postgres_admin_url or sites.redis_url:
        progress.phase(f"thaw after {CLOSED}, {CLOSED_ROUNDS} times")
        rows += _rows(CLOSED, _rounds(sites, pairs, order, CLOSED_ROUNDS, SETTLED_S, close=True))
    return rows


type Pairs = Sequence[tuple[str, Subject]]
type Found = dict[tuple[str, str], list[float]]


def _rounds(sites: Sites, pairs: Pairs, order: random.Random, rounds: int, pause_s: float, *, close: bool) -> Found:
    found: Found = {(way, subject.function): [] for way, subject in pairs}
    for _ in range(rounds):
        for way, subject in pairs:
            _invoke(sites, way, subject, times=3)  # warm, whatever was before
        if close:
            time.sleep(SETTLED_S)
            connections.close_idle(sites.postgres_admin_url, sites.redis_url)
        time.sleep(pause_s)
        for way, subject in order.sample(pairs, len(pairs)):
            found[way, subject.function].append(_invoke(sites, way, subject, times=1))
    return found


def _invoke(sites: Sites, way: str, subject: Subject, *, times: int) -> float:
    """Latency of the last one."""
    with Caller(sites.controls[way].target, subject.function, subject.event) as caller:
        for number in range(times):
            call = caller.call()
            if call.problem and number == times - 1:
                raise EmulatorError(f"{subject.function}, {way}, after a pause: answered {call.problem}")
    return call.latency_ms


def _rows(name: str, found: Found) -> list[Summary]:
    rows = []
    for (way, function), values in found.items():
        around = percentiles.order_statistics_interval(values, 0.5)
        rows.append(
            Summary(
                f"thaw {way} after {name}", function, "p50", "ms", around.value, around.low, around.high, len(values)
            )
        )
    return rows
