"""Records what clients did and what they were told, and checks whether the final state is consistent with it.

Every operation is invoked once and ends as ok (acknowledged), fail (certainly not done) or info (unknown outcome: done,
still in progress, or never done). The checkers accept any outcome of an info and no other deviation.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

End = Literal["ok", "fail", "info"]


@dataclass(slots=True)
class Operation:
    """An operation of a client; when it takes effect, it adds `amount` to `key`."""

    number: int
    client: int
    kind: str
    key: str
    amount: int = 1
    end: End = "info"  # unknown until a response arrives
    invoked_s: float = 0.0
    ended_s: float | None = None
    attempts: int = 0


class History:
    """The operations of one run, in the order in which they were invoked."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def invoke(self, client: int, kind: str, key: str, *, amount: int = 1, at_s: float = 0.0) -> Operation:
        operation = Operation(len(self.operations), client, kind, key, amount, invoked_s=at_s)
        self.operations.append(operation)
        return operation

    def complete(self, operation: Operation, end: End, *, at_s: float = 0.0) -> None:
        if operation.ended_s is not None:
            raise ValueError(f"operation {operation.number} has ended before, as {operation.end}")
        operation.end = end
        operation.ended_s = at_s

    def count(self, end: End) -> int:
        return sum(operation.end == end for operation in self.operations)


@dataclass(frozen=True, slots=True)
class Anomalies:
    """Counts of deviations that the history cannot explain, by kind, with examples as text."""

    lost: int = 0
    """Acknowledged operations without effect, or overwritten by another."""
    duplicated: int = 0
    """Effects beyond the one that was requested."""
    ghosts: int = 0
    """Effects of operations that were reported as failed, or that no client requested."""
    negative: int = 0
    """Keys whose value fell below zero."""
    unbalanced: int = 0
    """Amount that disappeared from a key beyond its recorded effects."""
    examples: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.lost + self.duplicated + self.ghosts + self.negative + self.unbalanced

    def __add__(self, other: "Anomalies") -> "Anomalies":
        return Anomalies(
            self.lost + other.lost,
            self.duplicated + other.duplicated,
            self.ghosts + other.ghosts,
            self.negative + other.negative,
            self.unbalanced + other.unbalanced,
            (*self.examples, *other.examples)[:10],
        )


@dataclass
class _Findings:
    lost: int = 0
    duplicated: int = 0
    ghosts: int = 0
    negative: int = 0
    unbalanced: int = 0
    examples: list[str] = field(default_factory=list)

    def anomalies(self) -> Anomalies:
        return Anomalies(
            self.lost, self.duplicated, self.ghosts, self.negative, self.unbalanced, tuple(self.examples[:10])
        )


def check_effects(operations: Iterable[Operation], effects: Mapping[str, int]) -> Anomalies:
    """Check operations that each have their own key.

    Args:
        operations: what clients did.
        effects: key -> how often it took effect in the final state.
    """
    found = _Findings()
    asked = {operation.key: operation for operation in operations}
    for key, operation in asked.items():
        times = effects.get(key, 0)
        at_least = 1 if operation.end == "ok" else 0
        at_most = 0 if operation.end == "fail" else 1
        if times < at_least:
            found.lost += 1
            found.examples.append(f"{key}: acknowledged, but missing")
        elif times > at_most:
            kind = "ghosts" if at_most == 0 else "duplicated"
            setattr(found, kind, getattr(found, kind) + times - at_most)
            found.examples.append(f"{key}: {operation.end}, but found {times} times")
    for key in effects.keys() - asked.keys():
        found.ghosts += effects[key]
        found.examples.append(f"{key}: found, but no client requested it")
    return found.anomalies()


def check_counters(operations: Iterable[Operation], before: Mapping[str, int], after: Mapping[str, int]) -> Anomalies:
    """Check operations that add to shared keys: each key grew by what was acknowledged, plus at most the unknown outcomes."""
    found = _Findings()
    sure: Counter[str] = Counter()
    unsure: Counter[str] = Counter()
    for operation in operations:
        if operation.end == "ok":
            sure[operation.key] += operation.amount
        elif operation.end == "info":
            unsure[operation.key] += operation.amount
    for key in sorted({*sure, *unsure, *before}):
        grown = after.get(key, 0) - before.get(key, 0)
        if grown < sure[key]:
            found.lost += sure[key] - grown
            found.examples.append(f"{key}: {sure[key]} acknowledged, but it grew by {grown}")
        elif grown > sure[key] + unsure[key]:
            found.duplicated += grown - sure[key] - unsure[key]
            found.examples.append(f"{key}: {sure[key]} acknowledged and {unsure[key]} unknown, but it grew by {grown}")
    return found.anomalies()


def check_stock(before: Mapping[str, int], after: Mapping[str, int], taken: Mapping[str, int]) -> Anomalies:
    """Check that no stock is below zero, and that each decreased by exactly what the existing orders took.

    A smaller decrease means lost updates, a larger one means that stock was taken for orders that do not exist.
    """
    found = _Findings()
    for key in sorted(before.keys() | after.keys()):
        left = after.get(key, 0)
        if left < 0:
            found.negative += 1
            found.examples.append(f"{key}: {left} left")
        gone = before.get(key, 0) - left
        if gone != taken.get(key, 0):
            found.lost += max(0, taken.get(key, 0) - gone)
            found.unbalanced += max(0, gone - taken.get(key, 0))
            found.examples.append(f"{key}: stock decreased by {gone}, but orders contain {taken.get(key, 0)}")
    return found.anomalies()


@dataclass(frozen=True, slots=True)
class Seen:
    """A version of a key at time `at_s`: when its write was acknowledged, or when a read that returned it began."""

    key: str
    version: int
    at_s: float


def check_staleness(acknowledged: Iterable[Seen], reads: Iterable[Seen], *, bound_s: float) -> tuple[Anomalies, float]:
    """Check that no read that begins `bound_s` seconds after an acknowledgement returns an older version.

    Returns:
        The anomalies, and the largest staleness in seconds.
    """
    found, stalest_s = _Findings(), 0.0
    acks: dict[str, list[Seen]] = {}
    for ack in sorted(acknowledged, key=lambda each: each.at_s):
        acks.setdefault(ack.key, []).append(ack)
    for read in reads:
        missed = [ack.at_s for ack in acks.get(read.key, ()) if ack.version > read.version and ack.at_s < read.at_s]
        stale_s = read.at_s - min(missed) if missed else 0.0
        stalest_s = max(stalest_s, stale_s)
        if stale_s > bound_s:
            found.lost += 1
            found.examples.append(f"{read.key}: version {read.version}, {stale_s:.3f} s after a newer one")
    return found.anomalies(), stalest_s


def check_walks(walks: Iterable[Iterable[int]], stable: frozenset[int]) -> Anomalies:
    """Check that each walk through all pages returns every id that existed all the time exactly once."""
    found = _Findings()
    for walk in walks:
        met = Counter(walk)
        missing = stable - met.keys()
        twice = {identity: times for identity, times in met.items() if times > 1}
        found.lost += len(missing)
        found.duplicated += sum(times - 1 for times in twice.values())
        if missing or twice:
            found.examples.append(f"skipped {sorted(missing)[:3]}, repeated {sorted(twice)[:3]}")
    return found.anomalies()
