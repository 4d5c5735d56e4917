"""CPU and memory of other processes are counted for processes, threads and children, also after they end."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from warmfront.bench.run.accounting import (
    Environments,
    MemorySampler,
    Parts,
    children,
    difference,
    process_cpu_s,
    pss_bytes,
    spin_ms,
    tree_cpu_s,
    wait_until_quiet,
)

BURN = """
import os, sys, threading, time
def burn(seconds):
    start = time.thread_time()
    while time.thread_time() - start < seconds:
        pass
"""


@contextmanager
def child(program: str) -> Iterator[subprocess.Popen[str]]:
    """Runs until its stdin closes; the block begins when it has printed a line."""
    source = BURN + program + "\nprint(os.getpid(), flush=True)\nsys.stdin.read()\n"
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline()
        yield process
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def test_what_a_process_burns_is_counted_to_the_millisecond() -> None:
    with child("print('up', flush=True); sys.stdin.readline(); burn(0.1)") as burning:
        assert burning.stdin is not None
        assert burning.stdout is not None
        before = process_cpu_s(burning.pid)
        print(file=burning.stdin, flush=True)
        assert burning.stdout.readline()
        after = process_cpu_s(burning.pid)
        assert before is not None
        assert after is not None
        assert 0.095 < after - before < 0.2


def test_a_thread_that_has_ended_is_counted() -> None:
    with child("t = threading.Thread(target=burn, args=(0.1,)); t.start(); t.join()") as process:
        assert (process_cpu_s(process.pid) or 0) > 0.1


def test_a_process_that_is_gone_has_no_clock() -> None:
    with child("pass") as process:
        pid = process.pid
    assert process_cpu_s(pid) is None


def test_children_count_while_they_live_and_after_they_were_waited_for() -> None:
    waited = "pid = os.fork()\nif not pid:\n    burn(0.15); os._exit(0)\nos.waitpid(pid, 0)"
    living = "r, w = os.pipe()\nif not os.fork():\n    burn(0.15); os.write(w, b'x'); os.read(0, 1); os._exit(0)\nos.read(r, 1)"
    with child(waited) as process:
        assert tree_cpu_s(process.pid) > 0.14
        assert (process_cpu_s(process.pid) or 0) < 0.14
        assert children(process.pid) == []
    with child(living) as process:
        assert len(children(process.pid)) == 1
        assert tree_cpu_s(process.pid) > 0.14


def test_parts_that_are_unknown_are_left_out() -> None:
    assert Parts().cpu_s() == {}
    assert set(Parts(emulator=os.getpid()).cpu_s(Environments())) == {"emulator", "environments"}


def test_environments_that_ended_stay_on_the_bill() -> None:
    with child("burn(0.05)") as process:
        reading = Environments((process.pid, 2**22 - 1), exited_cpu_s=2.0).cpu_s()
        assert 2.05 < reading < 2.5


def test_a_difference_has_the_parts_of_both_readings_and_is_never_negative() -> None:
    assert difference({"a": 1.0, "b": 5.0}, {"a": 3.0, "b": 4.0, "c": 1.0}) == {"a": 2.0, "b": 0.0}


def test_memory_of_a_process_grows_with_what_it_holds() -> None:
    with child("x = bytearray(40_000_000)") as heavy, child("pass") as light:
        assert 38_000_000 < pss_bytes(heavy.pid) - pss_bytes(light.pid) < 45_000_000


def test_a_backend_that_has_done_nothing_since_serves_somebody_else() -> None:
    one = "if not os.fork():\n    x = bytearray(30_000_000); os.write(w, b'x'); os.read(0, 1); os._exit(0)\nos.read(r, 1)\n"
    fork = "r, w = os.pipe()\n" + 2 * one
    with child(fork) as process:
        parts = Parts(postgres=process.pid)
        all_of_it = parts.pss_bytes([])["postgres"]
        idle = parts.backends()
        assert len(idle) == 2
        assert all_of_it - parts.pss_bytes([], idle)["postgres"] > 50_000_000
        first = next(iter(idle))
        assert all_of_it - parts.pss_bytes([], {first: idle[first]})["postgres"] > 25_000_000


def test_the_sampler_keeps_the_instant_at_which_the_sum_was_largest() -> None:
    readings = iter([{"a": 1, "b": 1}, {"a": 5, "b": 1}, {"a": 1, "b": 4}])
    seen = threading.Event()

    def look() -> dict[str, int]:
        try:
            return next(readings)
        except StopIteration:
            seen.set()
            return {}

    with MemorySampler(look, every_s=0.001) as sampler:
        assert seen.wait(10)
    assert sampler.peak == {"a": 5, "b": 1}


def test_the_sampler_looks_at_least_once() -> None:
    with MemorySampler(lambda: {"a": 3}, every_s=60) as sampler:
        pass
    assert sampler.peak == {"a": 3}
    assert sampler.samples == 1


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("busy_until_s", "quiet"), [(0.0, True), (0.3, True), (5.0, False)])
def test_waiting_for_quiet_ends_when_the_work_does_or_the_bound_is_reached(busy_until_s: float, quiet: bool) -> None:
    clock = Clock()
    came = wait_until_quiet(lambda: min(clock.now, busy_until_s), at_most_s=1.0, clock=clock, sleep=clock.sleep)
    assert came is quiet
    assert clock.now == pytest.approx(min(busy_until_s, 1.0), abs=0.03)


def test_a_spin_takes_time_and_more_of_it_for_more_work() -> None:
    assert 0 < spin_ms(2_000) < spin_ms(40_000)
