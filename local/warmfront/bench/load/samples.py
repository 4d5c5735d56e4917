"""The plan of a block of load and the recording of its samples."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, ClassVar, Literal, Self


class Outcome(IntEnum):
    """How an exchange ended. Everything but OK is an error; its latency is then the time until it failed."""

    OK = 0
    STATUS = 1
    BODY = 2
    TIMEOUT = 3
    CONNECT = 4
    LOST = 5
    PROTOCOL = 6
    CAPTURE = 7


Arrivals = Literal["constant", "poisson"]


@dataclass(frozen=True, slots=True)
class Target:
    """Address of the API under load."""

    host: str
    port: int
    tls: bool = False

    @property
    def authority(self) -> str:
        return self.host if self.port == (443 if self.tls else 80) else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size and pace of one block.

    With `rate` (requests per second) the loop is open: `workers` limits the connections, and a request that is due while
    none is free waits. Without it the loop is closed. The size is either `requests` or `duration_s`.

    `lead` (closed loop): this many responses are excluded at the start, and all workers keep sending until the last counted
    response has arrived. Counted requests so met a steady load, not the workers' simultaneous start or their end.

    Raises:
        ValueError: the numbers contradict each other; the message names them.
    """

    workers: int
    requests: int | None = None
    duration_s: float | None = None
    rate: float | None = None
    arrivals: Arrivals = "poisson"
    seed: str = "0"
    timeout_s: float = 30.0
    keep_alive: bool = True
    lead: int = 0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, not {self.workers}")
        if (self.requests is None) == (self.duration_s is None):
            raise ValueError("a block needs either a number of requests or a duration")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"a rate must be above 0 requests per second, not {self.rate}")
        if self.lead < 0 or (self.lead and self.rate is not None):
            raise ValueError(f"a lead must be a number of requests of a closed loop; this plan has lead {self.lead}")

    @property
    def sent_at_most(self) -> int | None:
        """Requests that a closed loop sends in total; None where its duration decides."""
        if self.requests is None:
            return None
        return self.requests + (self.lead + self.workers - 1 if self.lead else 0)


@dataclass(slots=True)
class Recording:
    """The samples of one block as columns, in order of completion; times are CLOCK_MONOTONIC nanoseconds."""

    intended_ns: array[int] = field(default_factory=lambda: array("q"))
    sent_ns: array[int] = field(default_factory=lambda: array("q"))
    done_ns: array[int] = field(default_factory=lambda: array("q"))
    status: array[int] = field(default_factory=lambda: array("q"))
    size: array[int] = field(default_factory=lambda: array("q"))
    kind: array[int] = field(default_factory=lambda: array("q"))
    outcome: array[int] = field(default_factory=lambda: array("q"))
    opened: int = 0  # connections that had to be opened while the block ran
    late_ns: array[int] = field(default_factory=lambda: array("q"))
    """Open loop: delay between due and sent (ns) of exchanges for which a connection was free, so caused by the generator."""
    around: array[int] = field(default_factory=lambda: array("q"))
    """Outcomes of the exchanges before and after the counted ones; only their errors are reported."""
    began_ns: int | None = None
    """When counting began; None: with the first request."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("intended_ns", "sent_ns", "done_ns", "status", "size", "kind", "outcome")

    def __len__(self) -> int:
        return len(self.done_ns)

    @property
    def errors(self) -> int:
        return len(self) + len(self.around) - self.count(Outcome.OK)

    def count(self, outcome: Outcome) -> int:
        return self.outcome.count(outcome) + self.around.count(outcome)

    @property
    def duration_s(self) -> float:
        return (max(self.done_ns) - self.first_ns) / 1e9 if len(self) else 0.0

    @property
    def first_ns(self) -> int:
        """Start of the counted time."""
        if self.began_ns is not None:
            return self.began_ns
        return min(self.intended_ns, default=0)

    def counted(self, begin: int, end: int) -> Self:
        """Return a recording that counts only the responses from index `begin` up to `end`; the others go to `around`."""
        columns = {name: getattr(self, name)[begin:end] for name in self.COLUMNS}
        around = self.outcome[:begin] + self.outcome[end:]
        return replace(self, **columns, around=around, began_ns=self.done_ns[begin - 1])

    def latency_us(self) -> list[int]:
        """Microseconds from due to done, for each sample."""
        return [(done - due) // 1000 for due, done in zip(self.intended_ns, self.done_ns, strict=True)]

    def service_us(self) -> list[int]:
        """Microseconds from sent to done, for each sample."""
        return [(done - sent) // 1000 for sent, done in zip(self.sent_ns, self.done_ns, strict=True)]

    @classmethod
    def from_rows(cls, rows: array[int], opened: int, late_ns: array[int]) -> Self:
        """Build a recording from one flat array that holds the columns of each sample side by side."""
        width = len(cls.COLUMNS)
        return cls.from_columns([rows[column::width] for column in range(width)], opened, late_ns)

    @classmethod
    def from_columns(cls, columns: Sequence[array[int]], opened: int, late_ns: array[int], **rest: Any) -> Self:
        """Build a recording from its columns in the order of COLUMNS; `rest`: other fields by name."""
        named: dict[str, Any] = dict(zip(cls.COLUMNS, columns, strict=True))
        return cls(**named, opened=opened, late_ns=late_ns, **rest)
