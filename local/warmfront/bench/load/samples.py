"""A block of load: its plan and its recording."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, ClassVar, Literal, Self


class Outcome(IntEnum):
    """What became of an exchange. Everything but OK is an error; its latency is then how long it was waited for."""

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
    host: str
    port: int
    tls: bool = False

    @property
    def authority(self) -> str:
        return self.host if self.port == (443 if self.tls else 80) else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One block. With `rate` it is open: `workers` then bounds the connections; what is due waits for a free one.

    `lead`, of a closed loop: so many answers come in before anything counts, and every worker goes on asking until the
    last that counts is answered. What counts then met a loop under way, not its workers' common start or their end.
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
            raise ValueError(f"{self.workers} workers cannot send anything")
        if (self.requests is None) == (self.duration_s is None):
            raise ValueError("a block has either a number of requests or a duration")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"a rate is above 0 requests per second, not {self.rate}")
        if self.lead < 0 or (self.lead and self.rate is not None):
            raise ValueError(f"a lead is a number of requests in a closed loop, not {self.lead} in this one")

    @property
    def sent_at_most(self) -> int | None:
        """What a closed loop begins in all; None: as much as its duration lets it."""
        if self.requests is None:
            return None
        return self.requests + (self.lead + self.workers - 1 if self.lead else 0)


@dataclass(slots=True)
class Recording:
    """The samples of one block, column by column, as they were answered; times are CLOCK_MONOTONIC nanoseconds."""

    intended_ns: array[int] = field(default_factory=lambda: array("q"))
    sent_ns: array[int] = field(default_factory=lambda: array("q"))
    done_ns: array[int] = field(default_factory=lambda: array("q"))
    status: array[int] = field(default_factory=lambda: array("q"))
    size: array[int] = field(default_factory=lambda: array("q"))
    kind: array[int] = field(default_factory=lambda: array("q"))
    outcome: array[int] = field(default_factory=lambda: array("q"))
    opened: int = 0  # connections that had to be opened while the block ran
    late_ns: array[int] = field(default_factory=lambda: array("q"))
    """Open loop: how long after it was due each exchange was sent that had a connection free: the generator's own fault."""
    around: array[int] = field(default_factory=lambda: array("q"))
    """What became of those before and after the ones that count; of them, only errors are told."""
    began_ns: int | None = None
    """When counting began, where that was not with the first request."""

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
        """When the clock started."""
        if self.began_ns is not None:
            return self.began_ns
        return min(self.intended_ns, default=0)

    def counted(self, begin: int, end: int) -> Self:
        """From the `begin`th answer on, up to the `end`th: these count, and the others are around them."""
        columns = {name: getattr(self, name)[begin:end] for name in self.COLUMNS}
        around = self.outcome[:begin] + self.outcome[end:]
        return replace(self, **columns, around=around, began_ns=self.done_ns[begin - 1])

    def latency_us(self) -> list[int]:
        return [(done - due) // 1000 for due, done in zip(self.intended_ns, self.done_ns, strict=True)]

    def service_us(self) -> list[int]:
        return [(done - sent) // 1000 for sent, done in zip(self.sent_ns, self.done_ns, strict=True)]

    @classmethod
    def from_rows(cls, rows: array[int], opened: int, late_ns: array[int]) -> Self:
        """From one flat array with the columns of each sample side by side."""
        width = len(cls.COLUMNS)
        return cls.of([rows[column::width] for column in range(width)], opened, late_ns)

    @classmethod
    def of(cls, columns: Sequence[array[int]], opened: int, late_ns: array[int], **rest: Any) -> Self:
        named: dict[str, Any] = dict(zip(cls.COLUMNS, columns, strict=True))
        return cls(**named, opened=opened, late_ns=late_ns, **rest)
