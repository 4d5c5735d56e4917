"""Detects machine stalls by a CPU heartbeat: one small computation repeated on every processor during a block.

A hypervisor may take processors away or slow them to a tenth of their speed without reporting it (steal time in /proc/stat is
optional). The CPU time of a fixed computation reveals it. CPU time excludes waiting for other threads, so load on this machine
changes it little (by half, through caches, while a stall makes it ten times as long). A processor that is entirely gone
between two beats is not detected.
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
PROCESSORS = 16  # at most, because each needs a thread
SLOW = 3.0  # times the usual duration: more than caches, clock speeds and hyper-threading explain
USUAL = 0.1  # quantile of all beats that counts as usual; low, so that it holds on a machine that is slow half the time
STALLED = 0.1  # with a larger share of slow beats, a block measures the machine rather than the variant
FEWEST = 10  # beats needed to judge a block

_MODULUS = (1 << 255) - 19
_BASE = 3**150
_POWER = (1 << 32) - 1  # some twenty microseconds


@dataclass(slots=True)
class Pulse:
    """Context manager that runs the heartbeat, from one thread on each processor that this process may use."""

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
        """Return the CPU nanoseconds of each beat that began between two times of CLOCK_MONOTONIC (nanoseconds)."""
        return [
            took
            for own in self._beats
            for at, took in zip(own[::2], own[1::2], strict=True)
            if first_ns <= at <= last_ns
        ]

    def _beat(self, processor: int, own: array[int]) -> None:
        with contextlib.suppress(OSError):  # the processor was just taken away: the thread then runs on any other
            os.sched_setaffinity(0, {processor})  # of this thread
        while not self._done.wait(self.every_s):
            pow(_BASE, 5, _MODULUS)  # warms the caches
            at, before = time.monotonic_ns(), time.thread_time_ns()
            pow(_BASE, _POWER, _MODULUS)
            own.extend((at, time.thread_time_ns() - before))


@dataclass(slots=True)
class BeatHistory:
    """All beats of a run so far, by which the beats of each block are judged."""

    _all: array[int] = field(default_factory=lambda: array("q"))

    def stalled(self, beats: Sequence[int]) -> float | None:
        """Add a block's beats (CPU nanoseconds) and return the share that took more than SLOW times the usual.

        None with fewer than FEWEST beats.
        """
        if len(beats) < FEWEST:
            return None
        self._all.extend(beats)
        limit = SLOW * float(np.quantile(self._all, USUAL))
        return sum(beat > limit for beat in beats) / len(beats)
