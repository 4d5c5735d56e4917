"""What crosses the border of the Lambda service: one invocation's outcome, and what Lambda refuses."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "error", "timeout", "throttled"]


@dataclass(frozen=True, slots=True)
class InvocationResult:
    """One finished invocation as the Invoke API would answer it."""

    request_id: str
    payload: bytes
    """The JSON the handler returned, or the error payload Lambda makes of a failure."""
    status: Status
    function_error: str | None = None
    """`Unhandled` after any failure, else None (header X-Amz-Function-Error)."""
    error_type: str | None = None
    """What REPORT and INIT_REPORT call `Error Type`, such as `Runtime.ExitError`."""
    executed_version: str = "$LATEST"
    log_tail: bytes | None = None
    """The invocation's last 4 KB of log, only when the caller asked for it (LogType: Tail)."""


class ServiceError(Exception):
    """An invocation that Lambda refuses before any handler sees it; carries the API's exception name and HTTP status."""

    http_status = 500
    code = "ServiceException"


class Throttled(ServiceError):
    """Over the function's or the account's concurrency: TooManyRequestsException, 429."""

    http_status = 429
    code = "TooManyRequestsException"

    def __init__(self, reason: str = "ReservedFunctionConcurrentInvocationLimitExceeded") -> None:
        super().__init__("Rate Exceeded.")
        self.reason = reason


class FunctionNotFound(ServiceError):
    """No such function, version or alias in the template: ResourceNotFoundException, 404."""

    http_status = 404
    code = "ResourceNotFoundException"


class NotRunnable(ServiceError):
    """The function is in the template and cannot run on this machine: InvalidRuntimeException, 502."""

    http_status = 502
    code = "InvalidRuntimeException"


class InvalidParameterValue(ServiceError):
    http_status = 400
    code = "InvalidParameterValueException"


class InvalidRequestContent(ServiceError):
    http_status = 400
    code = "InvalidRequestContentException"


class RequestTooLarge(ServiceError):
    http_status = 413
    code = "RequestTooLargeException"


class SnapStartFailed(ServiceError):
    """An after-restore hook failed: SnapStartException, 400 (docs: lambda/latest/api/API_Invoke.html)."""

    http_status = 400
    code = "SnapStartException"

    def __init__(self) -> None:
        super().__init__(
            "The runtime restore hook encountered an error. For more information, check the Amazon CloudWatch logs."
        )


class SnapStartTimedOut(ServiceError):
    """The restore took too long: SnapStartTimeoutException, 408."""

    http_status = 408
    code = "SnapStartTimeoutException"

    def __init__(self) -> None:
        super().__init__("Lambda couldn't restore the snapshot within the timeout limit.")


class VersionFailed(ServiceError):
    """The version's init failed when it was published, so there is no snapshot: ResourceConflictException, 409."""

    http_status = 409
    code = "ResourceConflictException"

    def __init__(self) -> None:
        super().__init__(
            "The operation cannot be performed at this time. The function is currently in the following state: Failed"
        )
