"""Faults on processes: stop, kill or restart them, and shift their wall clock."""

import asyncio
import contextlib
import math
import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from warmfront.lab.clock import set_clock

STOP_TIMEOUT_S = 5.0

Pids = Callable[[], Awaitable[Sequence[int]]]
"""Called when the fault is applied, because environments come and go."""


def process_tree(pid: int) -> list[int]:
    """Return the process and its living descendants, parents first. A server that forks is only stopped with them."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):  # it has ended in the meantime
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def send(pids: Iterable[int], number: signal.Signals) -> int:
    """Send a signal to the processes that still live, and return their number."""
    reached = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            reached += 1
    return reached


def runs(pid: int) -> bool:
    """Return whether the process exists and is not stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TtZX"
    except OSError:
        return False


class Frozen:
    """Stops processes with SIGSTOP until cleared. Clients see a server that keeps connections open and never responds."""

    def __init__(self, pids: Pids, *, descendants: bool = True) -> None:
        self._pids = pids
        self._descendants = descendants
        self._stopped: list[int] = []

    async def apply(self) -> None:
        for pid in await self._pids():
            self._stopped += process_tree(pid) if self._descendants else [pid]
        send(self._stopped, signal.SIGSTOP)
        # A process stops when it is next scheduled, and only its parent is notified, so its state is polled.
        async with asyncio.timeout(STOP_TIMEOUT_S):
            while any(runs(pid) for pid in self._stopped):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def clear(self) -> None:
        send(reversed(self._stopped), signal.SIGCONT)
        self._stopped = []


class Killed:
    """Kills processes with SIGKILL, once or repeatedly at random times. It does not restart them."""

    def __init__(self, pids: Pids, *, every_s: float | None = None, for_s: float = math.inf, seed: int = 0) -> None:
        self._pids = pids
        self._every_s = every_s
        self._for_s = for_s
        self._rng = random.Random(f"kill {seed}")
        self._killing: asyncio.Task[None] | None = None
        self.killed = 0

    async def apply(self) -> None:
        if self._every_s is None:
            self.killed += send(await self._pids(), signal.SIGKILL)
        else:
            self._killing = asyncio.create_task(self._keep_killing(self._every_s))

    async def _keep_killing(self, every_s: float) -> None:
        now_s = asyncio.get_running_loop().time
        end_s = now_s() + self._for_s
        while now_s() < end_s:
            await asyncio.sleep(every_s * self._rng.uniform(0.5, 1.5))
            if pids := sorted(await self._pids()):
                self.killed += send([self._rng.choice(pids)], signal.SIGKILL)

    async def clear(self) -> None:
        if self._killing is not None:
            self._killing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._killing
            self._killing = None


class ClockJump:
    """Shifts the wall clock of a function's environments, as an NTP step or a resumed virtual machine does."""

    def __init__(self, file: Path, *, offset_s: float) -> None:
        self._file, self._offset_s = file, offset_s

    async def apply(self) -> None:
        set_clock(self._file, self._offset_s)

    async def clear(self) -> None:
        set_clock(self._file, 0.0)


class Restarted:
    """Restarts a server, which is how clients see a failover: all connections end and the service is briefly absent."""

    def __init__(self, restart: Callable[[], object]) -> None:
        self._restart = restart

    async def apply(self) -> None:
        await asyncio.to_thread(self._restart)

    async def clear(self) -> None:
        """Do nothing: the server has already been restarted."""
