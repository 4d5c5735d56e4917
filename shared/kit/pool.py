"""A small connection pool for one execution environment: bounded, fair, and safe after a freeze.

The pool is our own and not asyncpg's: taking a connection and giving it back costs 4 us, check included, against 28 (a
test holds the ratio); waiting in asyncpg's is unfair (MagicStack/asyncpg#1247) and without end unless each caller says
otherwise; and its timers do not run while the environment is frozen.

No reset query is sent between uses: it is a round trip, and under RDS Proxy it pins the session. That is safe because
nothing that a reset would undo outlives a use: settings are only ever set with SET LOCAL, there are no session-level
locks, LISTENs or cursors, and a connection whose use did not end cleanly and outside a transaction is closed.
"""

import asyncio
import select
import time
from collections.abc import Awaitable, Callable
from typing import Any

from asyncpg import exceptions as pg

from shared.kit import telemetry
from shared.kit.bound import Bound
from shared.kit.problems import Overloaded

type Connection = Any  # asyncpg.Connection; the driver is not annotated
type Connect = Callable[[float], Awaitable[Connection]]
type Measure = Callable[[str, float], None]

TICKS_MAX = 10


class Member:
    """One open connection of the pool."""

    __slots__ = ("_cancelling", "_poll", "_task", "bound", "connection", "expired", "idle_since_s")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.expired = False
        self.idle_since_s = 0.0
        self.bound = Bound(asyncio.get_running_loop(), self.expire)
        self._task: asyncio.Task[Any] | None = None  # the one that uses it now
        self._cancelling = 0
        self._poll = select.poll()
        # asyncpg keeps the transport to itself; its version is pinned, and a test holds this to it.
        self._poll.register(connection._transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)

    async def alive(self) -> bool:
        """Whether it may be used: an idle connection on which something has arrived was mostly closed by the server.

        Between invocations the loop does not run, so nobody has read it yet. Asking the socket costs 1 us; running the
        loop without need (three times, or the end is only half noticed) would cost ten.
        """
        connection = self.connection
        for _ in range(TICKS_MAX):
            if connection.is_closed() or not self._poll.poll(0):
                break
            await asyncio.sleep(0)
        return not connection.is_closed()

    def begin(self, within_s: float) -> None:
        """From now on the current task's use of the connection has `within_s` seconds."""
        self._task = task = asyncio.current_task()
        self._cancelling = task.cancelling() if task is not None else 0
        self.bound.begin(within_s)

    def finish(self) -> bool:
        """Ends the use. Whether the task was cancelled meanwhile, and not by `expire`."""
        self.bound.finish()
        task, self._task = self._task, None
        if not self.expired or task is None:
            return False
        return task.uncancel() > self._cancelling

    def expire(self) -> None:
        """Ends the use: the connection, because a cancel request would wait on the same dead path, and the work on it."""
        self.expired = True
        self.terminate()
        if self._task is not None:
            self._task.cancel("the time for this use of the connection is over")

    def terminate(self) -> None:
        self.bound.close()
        self.connection.terminate()


class Pool:
    """At most `size` uses at a time, first come first served, and the connections they leave. Belongs to one loop."""

    def __init__(
        self,
        connect: Connect,
        *,
        size: int,
        queue_max: int,
        idle_max_s: float,
        clock: Callable[[], float],
        measure: Measure,
    ) -> None:
        self._connect = connect
        self._slots = asyncio.Semaphore(size)
        self._queue_max = queue_max
        self._idle_max_s = idle_max_s
        self._clock = clock
        self._measure = measure
        self._idle: list[Member] = []
        self._waiting = 0
        self.open = 0

    async def enter(self, wait_s: float) -> None:
        """Waits for a turn, at most `wait_s`; every enter needs its leave. Raises Overloaded."""
        if not self._slots.locked():
            await self._slots.acquire()  # takes no time here
            self._measure(telemetry.ACQUIRE_WAIT, 0.0)
            return
        if self._waiting >= self._queue_max:
            raise Overloaded("Every connection is in use, and the queue for one is full.")
        self._waiting += 1
        begun_s = time.perf_counter()
        try:
            async with asyncio.timeout(wait_s):
                await self._slots.acquire()
        except TimeoutError:
            raise Overloaded(f"No connection came free within {wait_s:.2f} s.") from None
        finally:
            self._waiting -= 1
            self._measure(telemetry.ACQUIRE_WAIT, (time.perf_counter() - begun_s) * 1000)
            telemetry.spend("wait", begun_s)

    def leave(self) -> None:
        self._slots.release()

    async def take(self, connect_s: float) -> Member:
        """The connection last used, the likeliest to be alive; dead ones on the way are dropped. Else a new one."""
        while self._idle:
            member = self._idle.pop()
            self.open -= 1
            if self._clock() - member.idle_since_s < self._idle_max_s and await member.alive():
                self.open += 1
                return member
            member.terminate()
            self._measure(telemetry.CONNECTIONS_LOST, 1)
        begun_s = time.monotonic()
        member = Member(await self._connect(connect_s))
        self.open += 1
        self._measure(telemetry.CONNECT_TIME, (time.monotonic() - begun_s) * 1000)
        return member

    def put(self, member: Member, *, clean: bool) -> None:
        """Gives a connection back; it is kept if its use ended cleanly and outside a transaction."""
        connection = member.connection
        if clean and not connection.is_closed() and not connection.is_in_transaction():
            member.idle_since_s = self._clock()
            self._idle.append(member)
        else:
            self.open -= 1
            member.terminate()

    async def aclose(self) -> None:
        idle, self._idle = self._idle, []
        self.open -= len(idle)
        for member in idle:
            member.bound.close()
            try:
                await member.connection.close(timeout=1)
            except (OSError, pg.PostgresError, pg.InterfaceError, pg.InternalClientError):
                member.connection.terminate()
