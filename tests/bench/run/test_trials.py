"""The method tried on real servers: A/A runs, planted slowdowns, a stall, and what the load generator itself costs.

`pytest -s -m stress tests/bench/run/test_trials.py`, 100 s; each alone by `-k itself`, `planted`, `stall` or `wrk`. The same
claims on a simulated noisy machine are in test_stats.py, the stall on a simulated clock in test_stall.py.
"""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from warmfront.bench.load.load_process import LoadProcess, Order
from warmfront.bench.load.samples import Plan, Recording, Target
from warmfront.bench.run.accounting import process_cpu_s
from warmfront.bench.statistics.percentiles import percentile
from warmfront.bench.statistics.summary import summarise
from warmfront.results import Block, Comparison

pytestmark = pytest.mark.stress

SERVER = Path(__file__).parent.with_name("trial_server.py")
WORK = 6_000  # rounds of a spin: about half a millisecond
# A planted slowdown is one of waiting, as a handler waits for its database: on a busy machine 30 rounds of 20 ms have an
# interval of 0.3 % to each side. Rounds of work scatter with whoever else works, and had one of 8 %.
WAIT_MS = 20.0
ROUNDS, REQUESTS, WORKERS = 30, 40, 4
RUNS = 20
VARIANTS = ("a", "b")
WRK_S = 3

# Both variants are paths of one process. Two processes of one program need not be equally fast, wherever that comes from: on a
# busy machine 18 of 20 runs told one pair apart, and a method that did not would be a poor one. (A real variant is served by
# fifty, among which that evens out.)
WORKLOAD = """
[[variant]]
name = "a"
prefix = "/a"
[[variant]]
name = "b"
prefix = "/b"
[[workload]]
name = "read"
[[workload.request]]
path = "/x"
"""


@contextlib.contextmanager
def serving(spins: int = 0, *, wait_ms: float = 0.0, slower: float = 1.0, stall_s: float = 0.0) -> Iterator[Target]:
    """So much work and so long a wait for each request; under /b the wait is so many times as long."""
    figures = map(str, (spins, wait_ms, wait_ms * slower, stall_s))
    with subprocess.Popen(
        [sys.executable, str(SERVER), *figures], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Target("127.0.0.1", int(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait(10)


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "trial.toml").write_text(WORKLOAD)
    return str(tmp_path / "trial.toml")


@pytest.fixture
def load() -> Iterator[LoadProcess]:
    with LoadProcess.start() as process:
        yield process


def run(load: LoadProcess, file: str, target: Target, variant: str, plan: Plan) -> Recording:
    load.prepare(Order(file=file, workload="read", variant=variant, target=target, plan=plan))
    return load.run()


def compared(load: LoadProcess, file: str, target: Target, *, seed: int) -> dict[str, Comparison]:
    """Interleaved blocks in random order, as a benchmark's; b against a."""
    order = random.Random(seed)
    blocks: list[Block] = []
    for variant in VARIANTS:
        run(load, file, target, variant, Plan(workers=WORKERS, requests=REQUESTS))
    for index in range(ROUNDS):
        for variant in order.sample(VARIANTS, len(VARIANTS)):
            found = run(load, file, target, variant, Plan(workers=WORKERS, requests=REQUESTS))
            latencies = tuple(found.latency_us())
            blocks.append(Block("read", variant, index, len(blocks), 0.0, found.duration_s, len(found), 0, latencies))
    rows = summarise(blocks, VARIANTS, seed=seed)[1]
    return {row.metric: row for row in rows if not row.same_variant}


def test_20_runs_of_a_server_against_itself_find_next_to_no_difference(load: LoadProcess, file: str) -> None:
    false = {"p50": 0, "p99": 0}
    widest = dict.fromkeys(false, 1.0)
    with serving(WORK) as target:
        for seed in range(RUNS):
            rows = compared(load, file, target, seed=seed)
            for metric in false:
                false[metric] += rows[metric].verdict != "not significant"
                widest[metric] = max(widest[metric], rows[metric].high / rows[metric].low)
    print(f"\n{RUNS} A/A runs: false differences {false}; widest interval, high over low {_rounded(widest)}")
    assert false["p50"] <= 1, false
    assert false["p99"] <= 2, false


@pytest.mark.parametrize(("slower", "verdict"), [(1.10, "worse"), (1.01, "not significant")])
def test_a_planted_slowdown_of_10_percent_is_found_and_one_of_1_percent_is_not_claimed(
    load: LoadProcess, file: str, slower: float, verdict: str
) -> None:
    with serving(wait_ms=WAIT_MS, slower=slower) as target:
        row = compared(load, file, target, seed=1)["p50"]
    print(
        f"\nplanted {slower - 1:.0%} longer a wait: p50 times {1 / row.ratio:.3f}, {1 / row.high:.3f} to {1 / row.low:.3f}"
    )
    print(f"  verdict: {row.verdict}")
    assert row.verdict == verdict, row


def test_the_open_loop_shows_a_stall_of_100_ms_each_second_and_the_closed_one_hides_it(
    load: LoadProcess, file: str
) -> None:
    with serving(stall_s=0.1) as target:
        closed = run(load, file, target, "a", Plan(workers=1, duration_s=4.0)).latency_us()
        opened = run(load, file, target, "a", Plan(workers=50, duration_s=4.0, rate=300.0)).latency_us()
    print(f"\np99: closed {percentile(closed, 0.99) / 1000:.2f} ms, open {percentile(opened, 0.99) / 1000:.2f} ms")
    assert percentile(opened, 0.99) > 60_000
    assert percentile(closed, 0.99) < percentile(opened, 0.99) / 10


def test_a_request_costs_the_generator_at_most_twice_what_it_costs_wrk(load: LoadProcess, file: str) -> None:
    wrk = shutil.which("wrk")
    if wrk is None:
        pytest.skip("needs wrk: apt-get install wrk")
    pytest.importorskip("uvloop")
    ours_us, wrks_us = [], []
    with serving() as target:
        for _ in range(3):  # in turns: the machine has fast and slow minutes
            before = process_cpu_s(load.pid) or 0.0
            sent = len(run(load, file, target, "a", Plan(workers=50, duration_s=WRK_S)))
            ours_us.append(1e6 * ((process_cpu_s(load.pid) or 0.0) - before) / sent)
            wrks_us.append(_wrk_us(wrk, target))
    print(f"\nCPU per request, us: ours {min(ours_us):.1f}, wrk's {min(wrks_us):.1f}")
    assert min(ours_us) <= 2 * min(wrks_us), (ours_us, wrks_us)


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()}


def _wrk_us(wrk: str, target: Target) -> float:
    """CPU of wrk per request, its threads and itself, by what the kernel billed to an ended child."""
    before, start = os.times(), time.monotonic()
    said = subprocess.run(
        [wrk, "-t1", "-c50", f"-d{WRK_S}s", f"http://{target.authority}/x"], capture_output=True, text=True, check=True
    ).stdout
    assert time.monotonic() - start >= WRK_S
    used = os.times()
    cpu_s = used.children_user + used.children_system - before.children_user - before.children_system
    requests = next(int(line.split()[0]) for line in said.splitlines() if " requests in " in line)
    return 1e6 * cpu_s / requests
