"""One function's log: its handler's output between Lambda's own lines, chunk by chunk to the sink. Knows no processes."""

from local.lambda_service import logs
from local.lambda_service.environment import InitFailure
from local.lambda_service.invocation import Invocation
from local.lambda_service.platform_log import platform_log
from local.lambda_service.types import Status
from local.template import FunctionConfig


class FunctionLog:
    """An invocation's lines are written together when it ends; those of a long one as they come."""

    def __init__(self, config: FunctionConfig, sink: logs.LogSink, region: str) -> None:
        self._name = config.function_name
        self._sink = sink
        self._platform = platform_log(config, region)

    def emit(self, chunk: bytes) -> None:
        """Output of no invocation."""
        if chunk:
            self._sink.write(self._name, chunk)

    # -- init ----------------------------------------------------------------------------------------------------------

    def init_start(self, log_stream: str) -> None:
        self.emit(self._platform.init_start(log_stream))

    def init_done(self, init_ms: float) -> None:
        self.emit(self._platform.init_done(init_ms))

    def init_failed(self, failure: InitFailure, *, phase: str) -> None:
        self.emit(self._platform.init_failed(failure, phase=phase))

    # -- invocations ---------------------------------------------------------------------------------------------------

    def output(self, invocation: Invocation, chunk: bytes) -> None:
        if invocation.live:
            self.emit(chunk)
        if not invocation.live or invocation.tail:
            invocation.log.append(chunk)

    def go_live(self, invocation: Invocation) -> None:
        """From here on the lines of this invocation are written as they come."""
        invocation.live = True
        self.emit(self._whole(invocation, b""))
        if not invocation.tail:
            invocation.log.clear()

    def end(
        self,
        invocation: Invocation,
        *,
        duration_ms: float,
        memory_used_mb: int,
        status: Status,
        error_type: str | None,
        from_runtime: bool,
    ) -> bytes | None:
        """Write what is left of an invocation; returns its tail where the caller asked for one."""
        end = self._platform.end(
            invocation,
            duration_ms=duration_ms,
            memory_used_mb=memory_used_mb,
            status=status,
            error_type=error_type,
            from_runtime=from_runtime,
        )
        whole = b"" if invocation.live and not invocation.tail else self._whole(invocation, end)
        self.emit(end if invocation.live else whole)
        return whole[-logs.TAIL_BYTES :] if invocation.tail else None

    def _whole(self, invocation: Invocation, end: bytes) -> bytes:
        return b"".join((self._platform.start(invocation), *invocation.log, end))
