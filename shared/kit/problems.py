"""Errors that become HTTP responses: one exception class for each problem type (RFC 9457).

The type is stable, the detail is for people, and neither ever shows SQL, a host name or a stack.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

TYPE_PREFIX = "urn:warmfront:problem:"


class Problem(Exception):
    """Raised anywhere below the endpoint, which turns it into the response."""

    type: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}
        self.members = members

    def document(self, instance: str) -> dict[str, Any]:
        return {
            "type": TYPE_PREFIX + self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            **self.members,
        }


# SQLSTATEs of parts that do not exist: invalid_catalog_name, invalid_schema_name, undefined_table, undefined_column.
# postgresql.org/docs/current/errcodes-appendix.html
MISSING = frozenset({"3D000", "3F000", "42P01", "42703"})


class NotSetUp(Problem):
    """A database, or a part of its schema, does not exist. That is no outage, and a retry does not help."""

    type, title = "not-set-up", "The database is not set up"


class Malformed(Problem):
    type, title, status = "malformed", "The request cannot be read", 400


class KeyRequired(Problem):
    type, title, status = "idempotency-key-required", "Idempotency-Key is required", 400


class Unauthenticated(Problem):
    type, title, status = "unauthenticated", "Who asks is not known", 401


class Forbidden(Problem):
    type, title, status = "forbidden", "This caller may not do it", 403


class NotFound(Problem):
    type, title, status = "not-found", "No such resource", 404


class KeyInFlight(Problem):
    type, title, status = "idempotency-key-in-flight", "A request with this Idempotency-Key is still running", 409


class VersionMismatch(Problem):
    type, title, status = "version-mismatch", "The resource has changed since it was read", 412

    def __init__(self, detail: str, *, version: int, headers: Mapping[str, str]) -> None:
        super().__init__(detail, headers=headers)
        self.version = version  # of now


class TooLarge(Problem):
    type, title, status = "too-large", "The request is too large", 413


class Invalid(Problem):
    """Readable, but not what the contract says. Names each field by a JSON pointer, or its parameter by name."""

    type, title, status = "invalid", "The request does not meet the contract", 422

    def __init__(self, *errors: Mapping[str, str]) -> None:
        super().__init__(describe(errors), errors=list(errors))


class KeyReused(Problem):
    type, title, status = "idempotency-key-reused", "This Idempotency-Key belongs to another request", 422


class VersionRequired(Problem):
    type, title, status = "version-required", "If-Match is required", 428


class RateLimited(Problem):
    type, title, status = "rate-limited", "Too many requests from this client", 429


class Unavailable(Problem):
    """It was not done, or it may be done twice without harm: a retry is safe."""

    type, title, status = "unavailable", "Temporarily unavailable", 503

    def __init__(self, detail: str, *, retry_after_s: float = 1.0, **members: Any) -> None:
        # Retry-After is whole seconds; rounding down would invite a retry that is certain to be refused.
        wait_s = max(1, -int(-retry_after_s // 1))
        super().__init__(detail, headers={"retry-after": str(wait_s)}, retry_after=wait_s, **members)


class Overloaded(Unavailable):
    type, title = "overloaded", "Too many requests are waiting"


class CircuitIsOpen(Unavailable):
    type, title = "circuit-open", "A dependency is failing and is being left alone"


class Contention(Unavailable):
    type, title = "contention", "Other requests are changing the same thing"


class TimedOut(Problem):
    type, title, status = "timed-out", "Not done in time", 504


class OutcomeUnknown(Problem):
    """It may have been done. No Retry-After: a client that repeats it without thinking may do it twice."""

    type, title, status = "outcome-unknown", "It may have been done", 504


def missing_part(error: BaseException) -> str | None:
    """What Postgres says is missing, such as `relation "notes" does not exist`; None for any other error.

    The message names parts of the schema and no data.
    """
    return str(error) if getattr(error, "sqlstate", None) in MISSING else None


def at(pointer: str, detail: str) -> dict[str, str]:
    """One error in the body, for the member `errors`."""
    return {"pointer": "#" + pointer, "detail": detail}


def in_parameter(name: str, detail: str) -> dict[str, str]:
    """One error in the query string or a header."""
    return {"parameter": name, "detail": detail}


def describe(errors: Sequence[Mapping[str, str]]) -> str:
    return "; ".join(f"{error.get('pointer') or error.get('parameter')}: {error['detail']}" for error in errors)
