"""What Lambda itself writes into a function's log, as text and as JSON.

Text lines were recorded on AWS: fields are separated by tabs and a REPORT line ends with a tab. JSON records were recorded on AWS in 2026;
their levels are those of
docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html.
"""

import hashlib
import math
import re
import sys
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from warmfront.emulator.lambda_service.environments.start_modes import Way
from warmfront.emulator.lambda_service.environments.starter import InitFailure
from warmfront.emulator.lambda_service.invocation import Invocation
from warmfront.emulator.lambda_service.types import Status
from warmfront.emulator.template import FunctionConfig

_LEVELS = ("DEBUG", "INFO", "WARN")
_encode = msgspec.json.Encoder().encode
_SEGMENT = re.compile(r"Parent=([0-9a-f]{16})")


class PlatformLog(Protocol):
    """One function's platform lines."""

    def init_start(self, log_stream: str, way: Way) -> bytes: ...

    def init_done(self, init_ms: float, way: Way) -> bytes: ...

    def init_failed(self, failure: InitFailure, way: Way, *, phase: str) -> bytes:
        """`phase` is `init` or `invoke` (a retried init)."""

    def restore_start(self, log_stream: str) -> bytes: ...

    def restore_done(self, restore_ms: float) -> bytes: ...

    def restore_failed(self, failure: InitFailure) -> bytes: ...

    def start(self, invocation: Invocation) -> bytes: ...

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
        """All that follows the handler's own output. `from_runtime`: the runtime answered, if only with an error."""


def platform_log(config: FunctionConfig, region: str) -> PlatformLog:
    return JsonLog(config, region) if config.log_format == "JSON" else TextLog(config, region)


def runtime_version(runtime: str) -> str:
    """`python:3.13.warmfront` for python3.13, `provided:al2023.warmfront` for provided.al2023; AWS's own end in `.v` and a number."""
    match = re.fullmatch(r"([a-z]+)\.?(.*)", runtime)
    name, version = match.groups() if match else (runtime, "")
    return f"{name}:{version}.warmfront"


def runtime_version_arn(runtime: str, region: str) -> str:
    digest = hashlib.sha256(f"{runtime_version(runtime)} {sys.version}".encode()).hexdigest()
    return f"arn:aws:lambda:{region}::runtime:{digest}"


def billed_ms(duration_ms: float, invocation: Invocation) -> int:
    """Since 2025-08-01 the init of an on-demand start is billed (aws.amazon.com/blogs/compute, INIT phase billing); of a
    restore, what Billed Restore Duration says (recorded on AWS)."""
    return math.ceil(duration_ms + invocation.billed_ahead_ms)


class TextLog:
    """LogFormat Text."""

    def __init__(self, config: FunctionConfig, region: str) -> None:
        self._memory = f"Memory Size: {config.memory_mb} MB\tMax Memory Used: "
        self._timeout_s = config.timeout_s
        self._tracing = config.tracing
        version, arn = runtime_version(config.runtime), runtime_version_arn(config.runtime, region)
        about = f"Runtime Version: {version}\tRuntime Version ARN: {arn}\n"
        self._init_start = f"INIT_START {about}".encode()
        self._restore_start = f"RESTORE_START {about}".encode()

    def init_start(self, log_stream: str, way: Way) -> bytes:  # noqa: ARG002
        return self._init_start

    def init_done(self, init_ms: float, way: Way) -> bytes:
        # A snapshot's init is in no REPORT (docs: lambda/latest/dg/snapstart-monitoring.html).
        return f"INIT_REPORT Init Duration: {init_ms:.2f} ms\tPhase: init\n".encode() if way is Way.SNAP_START else b""

    def restore_start(self, log_stream: str) -> bytes:  # noqa: ARG002
        return self._restore_start

    def restore_done(self, restore_ms: float) -> bytes:
        return f"RESTORE_REPORT Restore Duration: {restore_ms:.2f} ms\n".encode()

    def restore_failed(self, failure: InitFailure) -> bytes:
        tail = f"\tError Type: {failure.error_type}" if failure.status == "error" else ""
        return f"RESTORE_REPORT Restore Duration: {failure.init_ms:.2f} ms\tStatus: {failure.status}{tail}\n".encode()

    def init_failed(self, failure: InitFailure, way: Way, *, phase: str) -> bytes:  # noqa: ARG002
        tail = f"\tError Type: {failure.error_type}" if failure.status == "error" else ""
        return f"INIT_REPORT Init Duration: {failure.init_ms:.2f} ms\tPhase: {phase}\tStatus: {failure.status}{tail}\n".encode()

    def start(self, invocation: Invocation) -> bytes:
        return f"START RequestId: {invocation.request_id} Version: {invocation.version}\n".encode()

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
        request_id, init_ms, restore_ms = invocation.request_id, invocation.init_ms, invocation.restore_ms
        lines = (
            f"END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\t"
            f"Billed Duration: {billed_ms(duration_ms, invocation)} ms\t{self._memory}{memory_used_mb} MB\t"
        )
        if init_ms is not None:
            lines += f"Init Duration: {init_ms:.2f} ms\t"
        if restore_ms is not None:
            billed = math.ceil(invocation.billed_ahead_ms)
            lines += f"Restore Duration: {restore_ms:.2f} ms\tBilled Restore Duration: {billed} ms\t"
        if status == "timeout":
            lines = f"{_now()} {request_id} Task timed out after {self._timeout_s:.2f} seconds\n{lines}Status: timeout"
        elif not from_runtime:
            lines += f"Status: {status}\tError Type: {error_type}"
        lines += "\n"
        if self._tracing:
            lines += _xray_line(invocation.trace_id)
        return lines.encode()


def _xray_line(trace_id: str) -> str:
    if "Sampled=1" not in trace_id:
        return ""
    root = trace_id.partition("Root=")[2].partition(";")[0]
    return f"XRAY TraceId: {root}\tSegmentId: {_segment(trace_id)}\tSampled: true\n"


def _segment(trace_id: str) -> str:
    match = _SEGMENT.search(trace_id)
    return match[1] if match else "0" * 16


class JsonLog:
    """LogFormat JSON: `{"time", "type": "platform.*", "record"}`, less what SystemLogLevel keeps out."""

    def __init__(self, config: FunctionConfig, region: str) -> None:
        self._config = config
        self._arn_region = region
        self._level = _LEVELS.index(config.system_log_level or "INFO")

    def _line(self, level: str, kind: str, record: dict[str, object]) -> bytes:
        if _LEVELS.index(level) < self._level:
            return b""
        body = {"time": _now(), "type": f"platform.{kind}", "record": record}
        return _encode(body) + b"\n"

    def init_start(self, log_stream: str, way: Way) -> bytes:
        record = {"initializationType": way.initialization_type, "phase": "init", **self._start_record(log_stream)}
        return self._line("INFO", "initStart", record)

    def restore_start(self, log_stream: str) -> bytes:
        return self._line("INFO", "restoreStart", self._start_record(log_stream))

    def restore_done(self, restore_ms: float) -> bytes:
        done: dict[str, object] = {"status": "success"}
        metrics = {"metrics": {"durationMs": round(restore_ms, 3)}}
        return self._line("DEBUG", "restoreRuntimeDone", done) + self._line(
            "INFO", "restoreReport", {**done, **metrics}
        )

    def restore_failed(self, failure: InitFailure) -> bytes:
        about: dict[str, object] = {"status": failure.status}
        if failure.status == "error":
            about["errorType"] = failure.error_type
        metrics = {"metrics": {"durationMs": round(failure.init_ms, 3)}}
        return self._line("WARN", "restoreRuntimeDone", about) + self._line(
            "WARN", "restoreReport", {**about, **metrics}
        )

    def _start_record(self, log_stream: str) -> dict[str, object]:
        config = self._config
        day, _, instance = log_stream.partition("[")
        return {
            "runtimeVersion": runtime_version(config.runtime),
            "runtimeVersionArn": runtime_version_arn(config.runtime, self._arn_region),
            "functionName": config.function_name,
            "functionVersion": instance.partition("]")[0],
            "instanceId": f"{day}{config.function_name}[{instance}",
            "instanceMaxMemory": config.memory_mb * 1024 * 1024,
        }

    def init_done(self, init_ms: float, way: Way) -> bytes:
        about: dict[str, object] = {"initializationType": way.initialization_type, "phase": "init", "status": "success"}
        metrics = {"metrics": {"durationMs": round(init_ms, 3)}}
        return self._line("DEBUG", "initRuntimeDone", about) + self._line("DEBUG", "initReport", {**about, **metrics})

    def init_failed(self, failure: InitFailure, way: Way, *, phase: str) -> bytes:
        kind = way.initialization_type
        about: dict[str, object] = {"initializationType": kind, "phase": phase, "status": failure.status}
        if failure.status == "error":
            about["errorType"] = failure.error_type
        metrics = {"metrics": {"durationMs": round(failure.init_ms, 3)}}
        return self._line("WARN", "initRuntimeDone", about) + self._line("WARN", "initReport", {**about, **metrics})

    def start(self, invocation: Invocation) -> bytes:
        record: dict[str, object] = {
            "requestId": invocation.request_id,
            "functionArn": invocation.arn,
            "version": invocation.version,
        }
        return self._line("INFO", "start", record)

    def end(
        self,
        invocation: Invocation,
        *,
        duration_ms: float,
        memory_used_mb: int,
        status: Status,
        error_type: str | None,
        from_runtime: bool,  # noqa: ARG002
    ) -> bytes:
        outcome: dict[str, object] = {"status": "success" if status == "ok" else status}
        if status == "error" and error_type is not None:
            outcome["errorType"] = error_type
        duration_ms = round(duration_ms, 3)
        metrics: dict[str, object] = {
            "durationMs": duration_ms,
            "billedDurationMs": billed_ms(duration_ms, invocation),
            "memorySizeMB": self._config.memory_mb,
            "maxMemoryUsedMB": memory_used_mb,
        }
        if invocation.init_ms is not None:
            metrics["initDurationMs"] = round(invocation.init_ms, 3)
        if invocation.restore_ms is not None:
            metrics["restoreDurationMs"] = round(invocation.restore_ms, 3)
            metrics["billedRestoreDurationMs"] = math.ceil(invocation.billed_ahead_ms)
        report: dict[str, object] = {"requestId": invocation.request_id, "metrics": metrics}
        if self._config.tracing and "Sampled=1" in invocation.trace_id:
            trace_id = invocation.trace_id
            report["tracing"] = {"spanId": _segment(trace_id), "type": "X-Amzn-Trace-Id", "value": trace_id}
        report |= outcome
        if status == "ok" and self._level > 0:  # as good as always, and then not even put together
            return self._line("INFO", "report", report)
        done = {"requestId": invocation.request_id, **outcome, "metrics": {"durationMs": duration_ms}}
        return self._line("DEBUG" if status == "ok" else "WARN", "runtimeDone", done) + self._line(
            "INFO" if status == "ok" else "WARN", "report", report
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
