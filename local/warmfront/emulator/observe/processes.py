"""Reads CPU time and memory of processes and their children from /proc."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Use(NamedTuple):
    """What a process and all that descends from it use; children that have ended count with their CPU time."""

    cpu_s: float
    resident_bytes: int


def use_of(pid: int, *, children: bool = True) -> Use:
    """Zero for a process that has ended."""
    cpu_s, resident_bytes = 0.0, 0
    queue = [pid]
    while queue:
        each = queue.pop()
        with contextlib.suppress(OSError):
            # After the name, which may hold anything: state is field 3, utime, stime, cutime, cstime are 14 to 17, rss is 24.
            fields = Path(f"/proc/{each}/stat").read_bytes().rpartition(b") ")[2].split()
            cpu_s += sum(map(int, fields[11:15])) / _TICKS
            resident_bytes += int(fields[21]) * _PAGE_BYTES
            queue += _children(each) if children else []
    return Use(cpu_s, resident_bytes)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names only
        found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
    return found
