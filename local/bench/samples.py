"""A block of load: what is planned and what was recorded. Knows nothing of sockets or of statistics."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Literal, Self


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
    """One block. With `rate` it is open: `workers` then bounds the connections; what is due waits for a free one."""

    workers: int
    requests: int | None = None
    duration_s: float | None = None
    rate: float | None = None
    arrivals: Arrivals = "poisson"
    seed: str = "0"
    timeout_s: float = 30.0
    keep_alive: bool = True

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"{self.workers} workers cannot send anything")
        if (self.requests is None) == (self.duration_s is None):
            raise ValueError("a block has either a number of requests or a duration")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"a rate is above 0 requests per second, not {self.rate}")


@dataclass(slots=True)
class Recording:
    """The samples of one block, column by column; times are CLOCK_MONOTONIC nanoseconds."""

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

    COLUMNS: ClassVar[tuple[str, ...]] = ("intended_ns", "sent_ns", "done_ns", "status", "size", "kind", "outcome")

    def __len__(self) -> int:
        return len(self.done_ns)

    @property
    def errors(self) -> int:
        return len(self) - self.outcome.count(Outcome.OK)

    @property
    def duration_s(self) -> float:
        return (max(self.done_ns) - min(self.intended_ns)) / 1e9 if len(self) else 0.0

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
    def of(cls, columns: Sequence[array[int]], opened: int, late_ns: array[int]) -> Self:
        return cls(**dict(zip(cls.COLUMNS, columns, strict=True)), opened=opened, late_ns=late_ns)
