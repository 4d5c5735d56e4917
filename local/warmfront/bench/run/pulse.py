"""Detects machine stalls by a CPU heartbeat: one small computation repeated on every processor during a block.

A hypervisor that takes processors away, or lets them run at a tenth of their speed, need not tell its guest: steal in
/proc/stat is a courtesy. It shows in the processor time that a computation takes which is always the same. Waiting for
its turn among other threads is not in that time, so load on this machine hardly changes it (by half, through caches,
where a stall makes it ten times as long). What a pulse cannot see: a processor that is gone altogether between beats.
"""

import contextlib
import os
import threading
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

EVERY_S = 0.005
PROCESSORS = 16  # at most: each costs a thread
SLOW = 3.0  # times the usual: beyond what caches, clock speeds and a second thread of a core's own do
USUAL = (
    0.1  # the quantile of all beats that is called usual: a run on a machine that is slow half the time still has it
)
STALLED = 0.1  # more slow beats than this share, and what was measured meanwhile is the machine's
FEWEST = 10  # beats, below which nothing is said

_MODULUS = (1 << 255) - 19
_BASE = 3**150
_POWER = (1 << 32) - 1  # some twenty microseconds


@dataclass(slots=True)
class Pulse:
    """Beats while it is entered, from a thread on each processor that this process may use."""

    every_s: float = EVERY_S
    _beats: list[array[int]] = field(default_factory=list)  # of each thread: instant, duration, instant, ...
    _threads: list[threading.Thread] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        for processor in sorted(os.sched_getaffinity(0))[:PROCESSORS]:
            own: array[int] = array("q")
            self._beats.append(own)
            thread = threading.Thread(target=self._beat, args=(processor, own), name=f"pulse-{processor}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def between(self, first_ns: int, last_ns: int) -> list[int]:
        """Nanoseconds of processor time of each beat that began between two instants of CLOCK_MONOTONIC."""
        return [
            took
            for own in self._beats
            for at, took in zip(own[::2], own[1::2], strict=True)
            if first_ns <= at <= last_ns
        ]

    def _beat(self, processor: int, own: array[int]) -> None:
        with contextlib.suppress(OSError):  # a processor that was just taken away: the beat goes where it may
            os.sched_setaffinity(0, {processor})  # of this thread
        while not self._done.wait(self.every_s):
            pow(_BASE, 5, _MODULUS)  # fetches what the work touches
            at, before = time.monotonic_ns(), time.thread_time_ns()
            pow(_BASE, _POWER, _MODULUS)
            own.extend((at, time.thread_time_ns() - before))


@dataclass(slots=True)
class Usual:
    """What a beat usually takes, from all that this machine showed so far; by it each stretch is judged."""

    _all: array[int] = field(default_factory=lambda: array("q"))

    def stalled(self, beats: Sequence[int]) -> float | None:
        """The share of these beats that took more than SLOW times the usual; None where too few are known."""
        if len(beats) < FEWEST:
            return None
        self._all.extend(beats)
        limit = SLOW * float(np.quantile(self._all, USUAL))
        return sum(beat > limit for beat in beats) / len(beats)
