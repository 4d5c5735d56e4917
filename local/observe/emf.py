"""Embedded-metric lines of any function into series with their distribution. Knows lines, and neither processes nor Prometheus.

Form: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import msgspec

from local.observe.books import BUCKETS_S, Histogram

METRICS_MARK = b'"_aws"'
CIRCUIT_MARK = b'"to_state"'
"""A log line with `circuit` and `to_state` says that a circuit breaker moved."""
OPEN, BUDGET, WAIT, REJECTED = "ConnectionsOpen", "ConnectionBudget", "AcquireWait", "CircuitRejected"
"""What `pool utilisation` is made of: connections of one environment, and what all of them may open together."""

CHUNKS_MAX = 8192
CHUNK_BYTES_MAX = 65_536
DRAIN_FROM = 2048
"""Chunks that wait; from here on they are read in slices, before that when somebody asks."""
SLICE = 32
SERIES_MAX = 2000
SERIES_OF_A_METRIC_MAX = 200
LABEL_CHARACTERS_MAX = 200

_SECONDS_PER = {"Seconds": 1.0, "Milliseconds": 1e-3, "Microseconds": 1e-6}
_BYTES = tuple(float(4**power) for power in range(3, 14))
_ANY = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 1e4, 1e5, 1e6)


def bounds_for(unit: str) -> tuple[float, ...]:
    """1 ms to 1 s, in the metric's own unit, for times; round steps for anything else."""
    if unit in _SECONDS_PER:
        return tuple(round(bound / _SECONDS_PER[unit], 9) for bound in BUCKETS_S)
    return _BYTES if unit == "Bytes" else _ANY


class Key(NamedTuple):
    """One series: a metric of a function with one set of dimensions."""

    function: str
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]


class Series:
    """Every value of one key."""

    __slots__ = ("histogram", "last", "unit")

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.histogram = Histogram(bounds_for(unit))
        self.last = 0.0

    def add(self, value: float) -> None:
        self.histogram.add(value)
        self.last = value


class Pool(NamedTuple):
    """A function's connections over all its living environments."""

    open: int
    budget: int | None
    wait_p99_ms: float | None

    @property
    def utilisation(self) -> float | None:
        return self.open / self.budget if self.budget else None


class Emf:
    """Series, pools and circuits of all functions. `offer` is for the hot path; whoever reads calls `drain` first."""

    def __init__(self, *, later: Callable[[Callable[[], None]], object]) -> None:
        """`later`: runs a slice when the event loop has nothing better to do."""
        self._later = later
        self._waiting: deque[tuple[str, str, bytes]] = deque()
        self._draining = False
        self._open: dict[str, dict[str, float]] = {}
        self._budget: dict[str, float] = {}
        self._wait: dict[str, Histogram] = {}
        self._circuits: dict[str, dict[str, dict[str, str]]] = {}
        self._of_metric: dict[tuple[str, str], int] = {}
        self.rejected: dict[str, float] = {}
        self.series: dict[Key, Series] = {}
        self.dropped_chunks = 0
        self.dropped_values = 0
        self.unreadable_lines = 0

    def offer(self, function: str, environment: str, output: bytes) -> None:
        """Take a chunk of output; it costs a search unless there is something in it."""
        if METRICS_MARK not in output and CIRCUIT_MARK not in output:
            return
        if len(output) > CHUNK_BYTES_MAX:
            output = b"\n".join(_marked(output))[:CHUNK_BYTES_MAX]
        waiting = self._waiting
        if len(waiting) >= CHUNKS_MAX:
            self.dropped_chunks += 1
            return
        waiting.append((function, environment, output))
        if len(waiting) >= DRAIN_FROM and not self._draining:
            self._draining = True
            self._later(self._slice)

    def drain(self) -> None:
        """Read everything that waits."""
        while self._waiting:
            self._take(*self._waiting.popleft())

    def _slice(self) -> None:
        for _ in range(min(SLICE, len(self._waiting))):
            self._take(*self._waiting.popleft())
        self._draining = bool(self._waiting)
        if self._draining:
            self._later(self._slice)

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _take(self, function: str, environment: str, output: bytes) -> None:
        for line in _marked(output):
            try:
                document = msgspec.json.decode(line[line.find(b"{") :])
            except msgspec.DecodeError:
                self.unreadable_lines += 1
                continue
            if not isinstance(document, dict):
                continue
            if "to_state" in document:
                moved = self._circuits.setdefault(function, {}).setdefault(str(document.get("circuit")), {})
                moved[environment] = str(document["to_state"])
            about = document.get("_aws")
            if isinstance(about, dict):
                try:
                    self._take_metrics(function, environment, document, about)
                except (KeyError, TypeError, ValueError, AttributeError):  # valid JSON, and yet no metric
                    self.unreadable_lines += 1

    def _take_metrics(self, function: str, environment: str, document: dict[str, Any], about: dict[str, Any]) -> None:
        for directive in about["CloudWatchMetrics"]:
            namespace = directive["Namespace"]
            metrics = [(each["Name"], each.get("Unit") or "None") for each in directive["Metrics"]]
            values = {name: _values(document[name]) for name, _ in metrics if name in document}
            for name in values:
                self._note(function, environment, name, values[name])
            for names in directive.get("Dimensions") or [[]]:
                dimensions = tuple((name, str(document[name])[:LABEL_CHARACTERS_MAX]) for name in names)
                for name, unit in metrics:
                    if name in values:
                        self._add(Key(function, namespace, name, dimensions), unit, values[name])

    def _add(self, key: Key, unit: str, values: list[float]) -> None:
        series = self.series.get(key)
        if series is None:
            metric = (key.namespace, key.name)
            count = self._of_metric.get(metric, 0)
            if len(self.series) >= SERIES_MAX or count >= SERIES_OF_A_METRIC_MAX:
                self.dropped_values += len(values)
                return
            self._of_metric[metric] = count + 1
            series = self.series[key] = Series(unit)
        for value in values:
            series.add(value)

    def _note(self, function: str, environment: str, name: str, values: list[float]) -> None:
        """Pool and circuit of a function, by the names that say so."""
        if not values:
            return
        if name == OPEN:
            self._open.setdefault(function, {})[environment] = values[-1]
        elif name == BUDGET:
            self._budget[function] = values[-1]
        elif name == WAIT:
            waits = self._wait.setdefault(function, Histogram(bounds_for("Milliseconds")))
            for value in values:
                waits.add(value)
        elif name == REJECTED:
            self.rejected[function] = self.rejected.get(function, 0.0) + sum(values)

    # -- what is read --------------------------------------------------------------------------------------------------

    def pool(self, function: str, alive: Collection[str]) -> Pool | None:
        """None for a function that never spoke of connections. Environments that are gone hold none."""
        known = self._open.get(function)
        if known is None:
            return None
        for environment in [each for each in known if each not in alive]:
            del known[environment]
        budget, waits = self._budget.get(function), self._wait.get(function)
        return Pool(
            int(sum(known.values())), None if budget is None else int(budget), waits.quantile(0.99) if waits else None
        )

    def circuits(self, function: str, alive: Collection[str]) -> Iterator[tuple[str, dict[str, int]]]:
        """Name of each circuit that ever moved, and how many living environments have it in which state."""
        for name, states in self._circuits.get(function, {}).items():
            for environment in [each for each in states if each not in alive]:
                del states[environment]
            counts: dict[str, int] = {}
            for state in states.values():
                counts[state] = counts.get(state, 0) + 1
            yield name, counts


def _marked(output: bytes) -> Iterator[bytes]:
    return (line for line in output.split(b"\n") if METRICS_MARK in line or CIRCUIT_MARK in line)


def _values(value: Any) -> list[float]:
    """A number, several, or several with how often each came."""
    if isinstance(value, dict):
        pairs = zip(value["Values"], value.get("Counts") or itertools.repeat(1), strict=False)
        return [float(each) for each, count in pairs for _ in range(min(int(count), 10_000))]
    return [float(each) for each in value] if isinstance(value, list) else [float(value)]
