"""Reads CPU seconds and memory of the processes behind an API, by part."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
QUIET_SHARE = 0.02  # of one core: below this between two readings, servers are idle and no backend is ending
QUIET_STEP_S = 0.01
SPIN_ROUNDS = 12_000  # about a millisecond
SAMPLE_S = 0.25
SAMPLER_DUTY = 0.25


def process_cpu_s(pid: int) -> float | None:
    """Return the CPU seconds of a process and all its threads, ended ones included; None if the process has ended.

    The kernel's clock of another process (clock_getcpuclockid(3), made of the pid as the kernel does) is exact to the
    nanosecond and costs under a microsecond. /proc/PID/schedstat has the main thread alone, /proc/PID/stat 10 ms ticks.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
    except OSError:
        return None


def children(pid: int) -> list[int]:
    """Return the process ids of the live children of a process."""
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return found
    for task in tasks:
        try:
            found += map(int, (task / "children").read_bytes().split())
        except OSError:  # the thread has ended, or the kernel lacks this file
            continue
    return found


def reaped_cpu_s(pid: int) -> float:
    """Return the CPU seconds of the children that a process has waited for (cutime + cstime), e.g. ended Postgres backends."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / TICKS_PER_S


def tree_cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, its live children and its reaped children."""
    reaped = reaped_cpu_s(pid)  # read first: a child that ends in between may be missed, but is never counted twice
    return reaped + (process_cpu_s(pid) or 0.0) + sum(process_cpu_s(child) or 0.0 for child in children(pid))


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process; 0 if it has ended or may not be read.

    Shared pages are divided among the processes that use them, so sums over processes are meaningful.
    """
    try:
        with Path(f"/proc/{pid}/smaps_rollup").open("rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:  # ended, or no permission
        return 0
    return 0


@dataclass(frozen=True, slots=True)
class Environments:
    """The live execution environments' process ids, and the CPU seconds of those that have ended."""

    pids: tuple[int, ...] = ()
    exited_cpu_s: float = 0.0

    def cpu_s(self) -> float:
        return self.exited_cpu_s + sum(process_cpu_s(pid) or 0.0 for pid in self.pids)


@dataclass(frozen=True, slots=True)
class Parts:
    """Process ids of the parts whose CPU and memory are counted. None: not on this machine, or not readable."""

    emulator: int | None = None
    postgres: int | None = None
    redis: int | None = None

    def cpu_s(self, environments: Environments | None = None) -> dict[str, float]:
        """Return CPU seconds so far by part. Only the difference of two readings is meaningful."""
        reading: dict[str, float] = {}
        if self.emulator is not None:
            reading["emulator"] = process_cpu_s(self.emulator) or 0.0
        if environments is not None:
            reading["environments"] = environments.cpu_s()
        if self.postgres is not None:
            reading["postgres"] = tree_cpu_s(self.postgres)
        if self.redis is not None:
            reading["redis"] = process_cpu_s(self.redis) or 0.0
        return reading

    def backends(self) -> dict[int, float]:
        """Return Postgres' live children: process id -> CPU seconds used."""
        if self.postgres is None:
            return {}
        return {pid: used for pid in children(self.postgres) if (used := process_cpu_s(pid)) is not None}

    def pss_bytes(self, environments: Iterable[int], idle: Mapping[int, float] | None = None) -> dict[str, int]:
        """Return memory (PSS) in bytes by part.

        Args:
            environments: process ids of the environments to count.
            idle: Postgres' backends and their CPU seconds before the load. A backend that has used no CPU since serves no
                request of this load and is left out.
        """
        reading = {"environments": sum(map(pss_bytes, environments))}
        if self.emulator is not None:
            reading["emulator"] = pss_bytes(self.emulator)
        if self.postgres is not None:
            others = idle or {}
            busy = (pid for pid in children(self.postgres) if others.get(pid) != process_cpu_s(pid))
            reading["postgres"] = pss_bytes(self.postgres) + sum(map(pss_bytes, busy))
        if self.redis is not None:
            reading["redis"] = pss_bytes(self.redis)
        return reading


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return after - before for the parts that both readings have, at least 0."""
    return {part: max(0.0, after[part] - before[part]) for part in after if part in before}


def wait_until_quiet(
    read: Callable[[], float],
    *,
    at_most_s: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until processes use almost no CPU: backends have ended, environments are frozen.

    Work that a block left behind is thereby counted for that block and not for the next.

    Args:
        read: returns the CPU seconds of the processes so far.
        at_most_s: gives up after this time.
        clock: monotonic seconds.
        sleep: waits for seconds.

    Returns:
        False if the processes were still busy at the end.
    """
    deadline = clock() + at_most_s
    before, looked = read(), clock()
    while clock() < deadline:
        sleep(QUIET_STEP_S)
        now, at = read(), clock()
        if now - before <= QUIET_SHARE * (at - looked):
            return True
        before, looked = now, at
    return False


def spin_ms(rounds: int = SPIN_ROUNDS, repeats: int = 5) -> float:
    """Return how many milliseconds a fixed computation takes now, as a measure of the machine's speed (median of `repeats`)."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        total = 0
        for number in range(rounds):
            total += number * number
        times.append(time.perf_counter_ns() - start)
    return sorted(times)[repeats // 2] / 1e6


@dataclass(slots=True)
class MemorySampler:
    """Context manager that samples memory from a thread and keeps the reading with the largest sum, in `peak`.

    Reading a hundred processes takes about 50 ms of CPU, so use it only around load that is not timed. Between readings it
    sleeps at least three times as long as a reading took.
    """

    look: Callable[[], dict[str, int]]
    every_s: float = SAMPLE_S
    peak: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="memory-sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        rest = self.every_s / 4  # the load has to be under way
        while not self._stop.wait(rest):
            start = time.thread_time()
            self._keep(self.look())
            cost = time.thread_time() - start
            rest = max(self.every_s, cost * (1 / SAMPLER_DUTY - 1))
        if self.samples == 0:
            self._keep(self.look())

    def _keep(self, reading: dict[str, int]) -> None:
        self.samples += 1
        if sum(reading.values()) > sum(self.peak.values()):
            self.peak = reading
