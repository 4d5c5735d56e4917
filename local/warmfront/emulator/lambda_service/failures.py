"""The payloads Lambda makes of failures the handler cannot report itself.

Shapes and key order were recorded on AWS in 2025-11. An exception inside the handler is worded by the runtime client, not here.
"""

import json
import signal

RESPONSE_LIMIT_BYTES = 6 * 1024 * 1024 + 100
"""Largest answer of a synchronous invocation: 6 MiB and 100 bytes, as the Runtime Interface Emulator has it."""


def _payload(**fields: str) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def runtime_exited(request_id: str, status: int) -> bytes:
    """The process ended before it answered. `status`: wait status as subprocess gives it, negative for a signal."""
    if status == 0:
        reason = "Runtime exited without providing a reason"
    elif status > 0:
        reason = f"Runtime exited with error: exit status {status}"
    else:
        # Not confirmed for 2026: the wording is Go's, as Lambda's runtime supervisor is written in it.
        reason = f"Runtime exited with error: signal: {_go_signal_name(-status)}"
    return _payload(errorType="Runtime.ExitError", errorMessage=f"RequestId: {request_id} Error: {reason}")


def out_of_memory(request_id: str) -> bytes:
    """The environment went over its memory size and was killed."""
    message = f"RequestId: {request_id} Error: Runtime exited with error: signal: killed"
    return _payload(errorType="Runtime.OutOfMemory", errorMessage=message)


def timed_out(request_id: str, timeout_s: float) -> bytes:
    message = f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds"
    return _payload(errorType="Sandbox.Timedout", errorMessage=message)


def response_too_large() -> bytes:
    message = f"Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT_BYTES} bytes)."
    return _payload(errorMessage=message, errorType="Function.ResponseSizeTooLarge")


def spawn_failed(request_id: str, reason: str) -> bytes:
    """The process could not be started at all; Lambda's own word for a bootstrap that will not run."""
    return _payload(errorType="Runtime.InvalidEntrypoint", errorMessage=f"RequestId: {request_id} Error: {reason}")


def _go_signal_name(number: int) -> str:
    names = {
        signal.SIGKILL: "killed",
        signal.SIGSEGV: "segmentation fault",
        signal.SIGABRT: "aborted",
        signal.SIGTERM: "terminated",
        signal.SIGBUS: "bus error",
        signal.SIGFPE: "floating point exception",
        signal.SIGILL: "illegal instruction",
        signal.SIGINT: "interrupt",
        signal.SIGHUP: "hangup",
    }
    return names.get(signal.Signals(number), f"signal {number}")
