"""Notes requests, invocations and output while they happen, and enters them in batches into counts, histograms and records."""

import asyncio
import operator
import time
from collections.abc import Callable, Iterable
from typing import Any

from warmfront.emulator.gateway.exchange import Call, Response
from warmfront.emulator.lambda_service.environments.environment import Environment
from warmfront.emulator.lambda_service.invocation import Invocation
from warmfront.emulator.lambda_service.types import Status
from warmfront.emulator.observe.access_log import AccessLog
from warmfront.emulator.observe.emf import CIRCUIT_MARK, METRICS_MARK, Emf
from warmfront.emulator.observe.recorder import (
    Answered,
    Ended,
    FunctionBook,
    Records,
    RouteBook,
    Row,
    Seconds,
    answered_at,
    begun_at,
    by_second,
    codes,
    ended_at,
    init_times,
)
from warmfront.emulator.template import Api

LOG_BYTES_MAX = 32_768
BATCH = 64
"""So many notes are entered together; more would push what is in use out of the processor's caches."""
SETTLE_S = 0.05
CHUNK_BYTES_MAX = 65_536
"""Output longer than this is entered at once: with BATCH it bounds how much waits."""
_SECOND_NS = 1_000_000_000
_function_of = operator.itemgetter(Ended._fields.index("function"))
_route_of = operator.itemgetter(*map(Answered._fields.index, ("api", "route", "function")))


class Observation:
    """Observer of the Lambda service and of the gateways.

    A note waits for SETTLE_S at most, or until there are BATCH of them: then all are entered, whether or not somebody
    looks. So nothing is lost for coming too fast, and no reader finds work that was put off.
    """

    def __init__(
        self,
        functions: Iterable[str],
        *,
        access: AccessLog | None,
        note: Callable[[str], None] | None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.functions = {name: FunctionBook() for name in functions}
        self.routes: dict[tuple[str, str, str], RouteBook] = {}
        """By API, route key and function; the latter two are empty for requests that no route took."""
        self.emf = Emf(note)
        self._access = access
        self._ended: list[Row] = []
        self._answered: list[Row] = []
        self._printed: list[tuple[str, str, bytes]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._requests = Records(Answered)
        self._seconds = Seconds()
        self._clock_ns = clock_ns

    # -- the Lambda service tells (Observer): the hot path -------------------------------------------------------------

    def printed(self, function: str, environment: Environment, output: bytes) -> None:
        if METRICS_MARK in output or CIRCUIT_MARK in output:
            printed = self._printed
            printed.append((function, environment.id, output))
            if self._timer is None or len(printed) >= BATCH or len(output) > CHUNK_BYTES_MAX:
                self._later(now=len(printed) >= BATCH or len(output) > CHUNK_BYTES_MAX)

    def throttled(self, function: str, invocation: Invocation) -> None:  # noqa: ARG002
        self._seconds.at(self._clock_ns() // _SECOND_NS).throttles += 1

    def concluded(
        self,
        function: str,
        environment: Environment,
        invocation: Invocation,
        status: Status,
        error_type: str | None,
        duration_ms: float,
        memory_used_mb: int,
        log: bytes,
    ) -> None:
        if len(log) > LOG_BYTES_MAX:
            log = log[: LOG_BYTES_MAX // 2] + b"\n...\n" + log[-LOG_BYTES_MAX // 2 :]
        ended = self._ended
        ended.append(
            (
                self._clock_ns(), invocation.request_id, invocation.trace_id, status, error_type,
                invocation.received_ns, invocation.dispatched_ns, duration_ms, invocation.init_ms,
                invocation.restore_ms, memory_used_mb, environment.id, environment.spawned_ns, environment.ready_ns,
                log, function,
            )
        )  # fmt: skip
        if self._timer is None or len(ended) >= BATCH:
            self._later(now=len(ended) >= BATCH)

    # -- the gateway tells (RequestObserver): the hot path -------------------------------------------------------------

    def answered(
        self, api: Api, method: str, path: str, call: Call | None, response: Response, request_id: str, began_ns: int
    ) -> None:
        route, function, trace_header = "", "", ""
        if call is not None:
            route, function, trace_header = call.route.key, call.route.function, call.trace_id
        self._answered.append(
            (
                self._clock_ns(), began_ns, api.logical_id, route, function, method, path, response.status,
                len(response.body), request_id, trace_header,
            )
        )  # fmt: skip
        if self._timer is None:  # what it invoked counts towards BATCH, and what no route took waits SETTLE_S
            self._later(now=False)

    # -- off the hot path: what was noted is entered in batches, whether or not somebody looks ------------------------

    def _later(self, *, now: bool) -> None:
        if now:
            self.settle()
        else:
            self._timer = asyncio.get_running_loop().call_later(SETTLE_S, self.settle)

    def settle(self) -> None:
        """Enter what was noted. Whoever reads calls it first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        printed, ended, answered = self._printed, self._ended, self._answered
        self._printed, self._ended, self._answered = [], [], []
        if printed:
            self.emf.read(printed)
        if ended:
            self._enter_ended(ended)
        if answered:
            self._enter_answers(answered)

    def _enter_ended(self, rows: list[Row]) -> None:
        for function, of_function in _groups(rows, _function_of).items():
            self.functions[function].add_all(of_function)
        inits = init_times(rows)
        if inits.count(None) < len(rows):
            for ended_ns, init_ms in zip(ended_at(rows), inits, strict=True):
                if init_ms is not None:
                    self._seconds.at(ended_ns // _SECOND_NS).cold_starts += 1

    def _enter_answers(self, rows: list[Row]) -> None:
        for key, of_route in _groups(rows, _route_of).items():
            book = self.routes.get(key)
            if book is None:
                book = self.routes[key] = RouteBook()
            book.add_all(of_route)
            if key[1]:
                self._requests.add_all(of_route)
        ended_ns = answered_at(rows)
        latencies_ms = [each / 1e6 for each in map(operator.sub, ended_ns, begun_at(rows))]
        for number, within_ms in by_second(ended_ns, latencies_ms):
            self._seconds.at(number).add_all(within_ms)
        statuses = codes(rows)
        if max(statuses) >= 500:
            self._enter_failures([row for row, status in zip(rows, statuses, strict=True) if status >= 500])
        if self._access is not None:
            self._access.write(rows)

    def _enter_failures(self, rows: list[Row]) -> None:
        for each in map(Answered._make, rows):
            self._seconds.at(each.ended_ns // _SECOND_NS).errors += 1
        self._requests.add_failed(row for row in rows if _route_of(row)[1])


def _groups(rows: list[Row], key_of: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """In their order; few keys, and most often one."""
    keys = list(map(key_of, rows))
    if keys.count(keys[0]) == len(keys):
        return {keys[0]: rows}
    found: dict[Any, list[Row]] = {}
    for key, row in zip(keys, rows, strict=True):
        found.setdefault(key, []).append(row)
    return found
