"""The load generator's two loops: closed (N workers) and open (a schedule).

Every exchange that was started becomes one sample, failed ones too. Latency counts from the time the exchange was due; in
the closed loop that is when it was sent.
"""

import asyncio
import contextlib
import ssl
import time
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable

from .connection import Connection
from .pacing import Pacer, schedule
from .render import Exchange, Renderer, body_is_right
from .samples import Outcome, Plan, Recording, Target
from .workloads import Step

CHUNK = 256  # exchanges rendered at once when a block needs more than were prepared
IDLE_MAX_S = (
    2.0  # servers close idle connections after some seconds; longer idle ones are replaced before a block, untimed
)
RECONNECT_S = 0.02  # pause after a refused connection, so that a dead server does not produce a million samples
SWEEP_SHARE = 10  # timeouts are checked ten times per timeout
CATCH_UP = 64  # exchanges sent in a row while the generator is behind its schedule


class Generator:
    """Sends blocks of load to one target. Connections stay open between blocks; `prepare` is untimed, `run` is timed."""

    def __init__(self, target: Target, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._target = target
        self.clock = clock
        self._tls = ssl.create_default_context() if target.tls else None
        self._connections: list[Connection] = []
        self._plan = Plan(workers=1, requests=0)
        self.renderer: Renderer = None  # type: ignore[assignment]  # set by prepare, before any connection exists
        self.keep_bodies = False
        self._rows: array[int] = array("q")
        self._left: int | None = 0
        self._end_ns: int | None = None
        self._active = 0
        self._opened = 0
        self._finished: asyncio.Future[None] | None = None
        self._ready: list[Exchange] = []
        self._to_check: list[tuple[int, Step, Exchange, list[bytes]]] = []
        self._free: list[Connection] = []
        self._queue: deque[tuple[Exchange, int]] = deque()
        self._due: array[int] = array("q")
        self._late: array[int] = array("q")
        self._sweeping: asyncio.TimerHandle

    async def prepare(self, plan: Plan, renderer: Renderer, *, expected: int) -> None:
        """Render requests and open connections, before the timed section.

        Args:
            plan: the block's size, rate and timeout.
            renderer: renders the workload's requests for one variant.
            expected: how many exchanges to render where the plan gives a duration and no count.
        """
        self._plan = plan
        self.renderer = renderer
        self.keep_bodies = any(
            step.checks_body or any(capture.json for capture in step.captures)
            for request in renderer.requests
            for step in request.steps
        )
        self._due = schedule(plan) if plan.rate is not None else array("q")
        count = len(self._due) or plan.sent_at_most or expected
        self._ready = renderer.exchanges(count)
        self._ready.reverse()  # taken from the end
        await self._open_connections()

    async def _open_connections(self) -> None:
        for connection in self._connections[self._plan.workers :]:
            connection.drop()
        del self._connections[self._plan.workers :]
        self._connections += [Connection(self) for _ in range(self._plan.workers - len(self._connections))]
        oldest = self.clock() - int(IDLE_MAX_S * 1e9)
        for connection in self._connections:
            if connection.transport is not None and (connection.idle_since_ns < oldest or not self._plan.keep_alive):
                connection.drop()
            if connection.transport is not None:
                connection.fresh_parser()
        if self._plan.keep_alive:
            absent = [connection for connection in self._connections if connection.transport is None]
            await asyncio.gather(*(self._connect(connection) for connection in absent))

    async def run(self) -> Recording:
        """Send the prepared block and return its samples when every exchange has ended."""
        loop = asyncio.get_running_loop()
        self._rows = array("q")
        self._late = array("q")
        self._to_check = []
        self._opened = 0
        self._finished = loop.create_future()
        self._sweeping = loop.call_later(self._plan.timeout_s / SWEEP_SHARE, self._sweep)
        try:
            if self._plan.rate is None:
                self._start_closed()
                await self._finished
            else:
                await self._run_open(loop)
        finally:
            self._sweeping.cancel()
        self._check_bodies()
        recording = Recording.from_rows(self._rows, self._opened, self._late)
        lead = self._plan.lead
        return recording.counted(lead, self._counted_until(recording)) if lead else recording

    def _counted_until(self, recording: Recording) -> int:
        if self._plan.requests is not None:
            return self._plan.lead + self._plan.requests
        assert self._end_ns is not None
        in_time = bisect_right(recording.done_ns, self._end_ns)
        return max(in_time, min(2 * self._plan.lead, len(recording)))

    # Closed loop: each connection sends its next request when its response has arrived.

    def _start_closed(self) -> None:
        now = self.clock()
        self._left = self._plan.sent_at_most
        self._end_ns = None if self._plan.duration_s is None else now + int(self._plan.duration_s * 1e9)
        self._active = len(self._connections)
        for connection in self._connections:
            self._next_closed(connection, self.clock())

    def _next_closed(self, connection: Connection, now: int) -> None:
        if self._left is not None:
            if self._left == 0:
                self._retire(connection)
                return
            self._left -= 1
        elif self._end_ns is not None and now >= self._end_ns and self._answered >= 2 * self._plan.lead:
            self._retire(connection)
            return
        self._send(connection, self._take(), now, now)

    @property
    def _answered(self) -> int:
        return len(self._rows) // len(Recording.COLUMNS)

    def _retire(self, connection: Connection) -> None:
        connection.exchange = None
        self._active -= 1
        if self._active == 0:
            self._settle()

    # Open loop: requests are sent on schedule, and wait in a queue when no connection is free.

    async def _run_open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._free = list(self._connections)
        self._queue.clear()
        self._active = len(self._due)
        start = self.clock() + 1_000_000
        pacer = Pacer(loop, self.clock)
        try:
            await self._send_on_time(start, pacer)
            if self._active:
                assert self._finished is not None
                with contextlib.suppress(TimeoutError):  # what is still queued was never sent: _give_up records it
                    await asyncio.wait_for(asyncio.shield(self._finished), self._plan.timeout_s * 1.5)
        finally:
            pacer.close()
        self._give_up()

    async def _send_on_time(self, start: int, pacer: Pacer) -> None:
        for index, due in enumerate(self._due):
            at = start + due
            if self.clock() < at:
                await pacer.until(at)
            elif index % CATCH_UP == 0:  # behind the schedule: let the loop read responses in between
                await asyncio.sleep(0)
            exchange = self._take()
            if self._free:
                now = self.clock()
                self._late.append(now - at)
                self._send(self._free.pop(), exchange, at, now)
            else:
                self._queue.append((exchange, at))

    def _next_open(self, connection: Connection, now: int) -> None:
        self._active -= 1
        connection.exchange = None
        if self._queue:
            exchange, due = self._queue.popleft()
            self._send(connection, exchange, due, now)
        else:
            self._free.append(connection)
        if self._active == 0:
            self._settle()

    def _give_up(self) -> None:
        """Record queued exchanges that were never sent as timeouts, and end those still in flight."""
        now = self.clock()
        while self._queue:
            exchange, due = self._queue.popleft()
            self._rows.extend((due, now, now, 0, 0, exchange.kind, Outcome.TIMEOUT))
        for connection in self._connections:
            if connection.exchange is not None:
                connection.drop()
                connection.end(Outcome.TIMEOUT)

    # Used by both loops

    def _take(self) -> Exchange:
        if not self._ready:
            self._ready = self.renderer.exchanges(CHUNK)
        return self._ready.pop()

    def _send(self, connection: Connection, exchange: Exchange, due: int, now: int) -> None:
        connection.begin(exchange, due, now)
        if connection.transport is None and connection.opening is None:
            connection.opening = asyncio.get_running_loop().create_task(self._connect_and_resume(connection))

    def finished(self, connection: Connection, outcome: Outcome, now: int) -> None:
        exchange = connection.exchange
        assert exchange is not None
        if self.keep_bodies and outcome == Outcome.OK:
            step = self.renderer.requests[exchange.kind].steps[-1]
            if step.checks_body:
                self._to_check.append((len(self._rows) + len(Recording.COLUMNS) - 1, step, exchange, connection.bodies))
                connection.bodies = []
        status = connection.status
        self._rows.extend((connection.due_ns, connection.sent_ns, now, status, connection.size, exchange.kind, outcome))
        connection.exchange = None
        if not self._plan.keep_alive:
            connection.drop()
        if outcome == Outcome.CONNECT:
            asyncio.get_running_loop().call_later(RECONNECT_S, self._continue, connection)
        else:
            self._continue(connection, now)

    def _continue(self, connection: Connection, now: int | None = None) -> None:
        now = self.clock() if now is None else now
        if self._plan.rate is None:
            self._next_closed(connection, now)
        else:
            self._next_open(connection, now)

    def _settle(self) -> None:
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)

    async def _connect(self, connection: Connection) -> bool:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(
                loop.create_connection(lambda: connection, self._target.host, self._target.port, ssl=self._tls),
                self._plan.timeout_s,
            )
        except (OSError, TimeoutError):
            return False
        self._opened += 1
        return True

    async def _connect_and_resume(self, connection: Connection) -> None:
        connected = await self._connect(connection)
        connection.opening = None
        if connection.exchange is None:  # timed out while connecting
            return
        if connected:
            connection.resume()
        else:
            connection.end(Outcome.CONNECT)

    def _sweep(self) -> None:
        """End exchanges that exceeded the timeout. Checking all connections at intervals is cheaper than a timer for each."""
        now = self.clock()
        limit = now - int(self._plan.timeout_s * 1e9)
        for connection in self._connections:
            if connection.exchange is not None and connection.sent_ns <= limit:
                connection.drop()
                connection.end(Outcome.TIMEOUT)
        self._sweeping = asyncio.get_running_loop().call_later(self._plan.timeout_s / SWEEP_SHARE, self._sweep)

    def _check_bodies(self) -> None:
        """Check response bodies after the timed section, because a check costs more CPU than its request."""
        for position, step, exchange, body in self._to_check:
            if not body_is_right(step, exchange.values, b"".join(body)):
                self._rows[position] = Outcome.BODY
        self._to_check = []

    def close(self) -> None:
        """Abort all connections."""
        for connection in self._connections:
            connection.drop()
        self._connections = []
