"""One function's log: its handler's output between Lambda's own lines, chunk by chunk to the sink."""

from warmfront.emulator.lambda_service.environments.start_modes import Way
from warmfront.emulator.lambda_service.environments.starter import InitFailure
from warmfront.emulator.lambda_service.invocation import Invocation
from warmfront.emulator.lambda_service.logs import sinks
from warmfront.emulator.lambda_service.logs.platform_log import platform_log
from warmfront.emulator.lambda_service.runtimes.log_frames import with_line_breaks
from warmfront.emulator.lambda_service.types import Status
from warmfront.emulator.template import FunctionConfig

CHUNKS_MAX = 1000
"""So many of the last chunks are kept of a log that is written as it comes."""


class FunctionLog:
    """An invocation's lines are written together when it ends; those of a long one as they come."""

    def __init__(self, config: FunctionConfig, sink: sinks.LogSink, region: str, *, kept: bool = False) -> None:
        """`kept`: somebody wants the whole of an invocation's log, also of one written as it came."""
        self._name = config.function_name
        self._sink = sink
        self.kept = kept
        self._platform = platform_log(config, region)

    def emit(self, chunk: bytes) -> None:
        """Output of no invocation."""
        if chunk:
            self._sink.write(self._name, chunk)

    # -- init ----------------------------------------------------------------------------------------------------------

    def init_start(self, log_stream: str, way: Way) -> None:
        self.emit(self._platform.init_start(log_stream, way))

    def init_done(self, init_ms: float, way: Way) -> None:
        self.emit(self._platform.init_done(init_ms, way))

    def init_failed(self, failure: InitFailure, way: Way, *, phase: str) -> None:
        self.emit(self._platform.init_failed(failure, way, phase=phase))

    def restore_start(self, log_stream: str) -> None:
        self.emit(self._platform.restore_start(log_stream))

    def restore_done(self, restore_ms: float) -> None:
        self.emit(self._platform.restore_done(restore_ms))

    def restore_failed(self, failure: InitFailure) -> None:
        self.emit(self._platform.restore_failed(failure))

    # -- invocations ---------------------------------------------------------------------------------------------------

    def output(self, invocation: Invocation, chunk: bytes) -> None:
        if invocation.live:
            self.emit(chunk)
        if not invocation.live or invocation.tail or self.kept:
            invocation.log.append(chunk)
            if invocation.live and len(invocation.log) > CHUNKS_MAX:
                del invocation.log[: CHUNKS_MAX // 2]

    def go_live(self, invocation: Invocation) -> None:
        """From here on the lines of this invocation are written as they come."""
        invocation.live = True
        self.emit(self._whole(invocation, b""))
        if not invocation.tail and not self.kept:
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
    ) -> bytes:
        """Write what is left of an invocation; returns all of its log that was kept."""
        end = self._platform.end(
            invocation,
            duration_ms=duration_ms,
            memory_used_mb=memory_used_mb,
            status=status,
            error_type=error_type,
            from_runtime=from_runtime,
        )
        whole = self._whole(invocation, end)
        self.emit(end if invocation.live else whole)
        return with_line_breaks(whole)

    def _whole(self, invocation: Invocation, end: bytes) -> bytes:
        return b"".join((self._platform.start(invocation), *invocation.log, end))
