"""How invocations end: the log's last lines, the counters, the answer to the caller."""

import time
from collections.abc import Callable

from warmfront.emulator.lambda_service import failures
from warmfront.emulator.lambda_service.environments.environment import Environment
from warmfront.emulator.lambda_service.functions.invocation_observer import Observer
from warmfront.emulator.lambda_service.functions.shared_state import Counters
from warmfront.emulator.lambda_service.invocation import Invocation
from warmfront.emulator.lambda_service.logs.function_log import FunctionLog
from warmfront.emulator.lambda_service.logs.sinks import TAIL_BYTES
from warmfront.emulator.lambda_service.types import InvocationResult, ServiceError, Status
from warmfront.emulator.template import FunctionConfig

_MB = 1024 * 1024


class Outcomes:
    """Of one function. Every admitted invocation comes here exactly once."""

    def __init__(
        self,
        config: FunctionConfig,
        log: FunctionLog,
        counters: Counters,
        observer: Observer | None,
        *,
        timeout_s: float,
        on_end: Callable[[], None],
    ) -> None:
        """`on_end`: called once an invocation, when it no longer counts as running and before its caller hears of it."""
        self._name = config.logical_id
        self._memory_mb = config.memory_mb
        self._log = log
        self._counters = counters
        self._observer = observer
        self._timeout_s = timeout_s
        self._on_end = on_end

    def observe(self, observer: Observer | None) -> None:
        self._observer = observer

    def answered(
        self, environment: Environment, invocation: Invocation, body: bytes, *, failed: bool, error_type: str | None
    ) -> None:
        """The runtime answered, if only with an error."""
        status: Status = "error" if failed else "ok"
        self._conclude(environment, invocation, body, status=status, error_type=error_type, from_runtime=True)

    def failed(self, environment: Environment, invocation: Invocation, payload: bytes, error_type: str) -> None:
        self._conclude(environment, invocation, payload, status="error", error_type=error_type)

    def exited(self, environment: Environment, invocation: Invocation, status: int) -> None:
        self.failed(
            environment, invocation, failures.runtime_exited(invocation.request_id, status), "Runtime.ExitError"
        )

    def out_of_memory(self, environment: Environment, invocation: Invocation) -> None:
        self.failed(environment, invocation, failures.out_of_memory(invocation.request_id), "Runtime.OutOfMemory")

    def timed_out(self, environment: Environment, invocation: Invocation) -> None:
        payload = failures.timed_out(invocation.request_id, self._timeout_s)
        self._conclude(environment, invocation, payload, status="timeout", error_type="Sandbox.Timedout")

    def refused(self, invocation: Invocation, error: ServiceError) -> None:
        """It ends before any handler sees it."""
        self._on_end()
        self._counters.errors += 1
        if invocation.future is not None and not invocation.future.done():
            invocation.future.set_exception(error)

    def _conclude(
        self,
        environment: Environment,
        invocation: Invocation,
        payload: bytes,
        *,
        status: Status,
        error_type: str | None,
        from_runtime: bool = False,
    ) -> None:
        duration_ms = self._timeout_s * 1e3
        if status != "timeout":
            duration_ms = (time.monotonic_ns() - invocation.dispatched_ns) / 1e6
        if invocation.timer is not None:
            invocation.timer.cancel()
        self._take_output(environment, invocation)
        memory_used_mb = min(round(environment.memory_peak_bytes / _MB), self._memory_mb)
        log = self._log.end(
            invocation,
            duration_ms=duration_ms,
            memory_used_mb=memory_used_mb,
            status=status,
            error_type=error_type,
            from_runtime=from_runtime,
        )
        self._on_end()
        if status != "ok":
            self._counters.errors += 1
        self._answer(invocation, payload, status, error_type, log)
        if self._observer is not None:
            self._observer.concluded(
                self._name, environment, invocation, status, error_type, duration_ms, memory_used_mb, log
            )

    def _take_output(self, environment: Environment, invocation: Invocation) -> None:
        environment.watch_output(False)
        output = environment.read_output()
        if output:
            self._log.output(invocation, output)
            if self._observer is not None:
                self._observer.printed(self._name, environment, output)

    @staticmethod
    def _answer(invocation: Invocation, payload: bytes, status: Status, error_type: str | None, log: bytes) -> None:
        future = invocation.future
        assert future is not None
        if future.done():
            return
        result = InvocationResult(
            invocation.request_id,
            payload,
            status,
            None if status == "ok" else "Unhandled",
            error_type,
            invocation.version,
            log[-TAIL_BYTES:] if invocation.tail else None,
        )
        future.set_result(result)
