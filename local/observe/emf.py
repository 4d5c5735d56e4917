"""Embedded-metric lines of any function into series with their distribution. Knows lines, and neither processes nor Prometheus.

Form: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import itertools
from bisect import bisect_left
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
PLANS_MAX = 500
KNOWN = frozenset({OPEN, BUDGET, WAIT, REJECTED})

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
        histogram = self.histogram
        histogram.counts[bisect_left(histogram.bounds, value)] += 1
        histogram.total += value
        self.last = value


class Pool(NamedTuple):
    """A function's connections over all its living environments."""

    open: int
    budget: int | None
    wait_p99_ms: float | None

    @property
    def utilisation(self) -> float | None:
        return self.open / self.budget if self.budget else None


class _About(msgspec.Struct):
    directives: msgspec.Raw = msgspec.field(name="CloudWatchMetrics")


class _Head(msgspec.Struct):
    """What of a line says which of its members are metrics."""

    about: _About = msgspec.field(name="_aws")


class _Part:
    """One directive, read."""

    __slots__ = ("bundles", "dimension_names", "metrics", "namespace", "sets")

    def __init__(self, directive: dict[str, Any]) -> None:
        self.namespace = str(directive["Namespace"])
        self.metrics = [(str(each["Name"]), str(each.get("Unit") or "None")) for each in directive["Metrics"]]
        self.sets: list[list[str]] = directive.get("Dimensions") or [[]]
        self.dimension_names = sorted({name for names in self.sets for name in names})
        self.bundles: dict[tuple[str, ...], list[tuple[str, bool, list[Series]]]] = {}
        """By function and values of the dimensions."""


def _read_plan(directives: bytes) -> list[_Part]:
    return [_Part(each) for each in msgspec.json.decode(directives)]


_decode_line = msgspec.json.Decoder(dict[str, Any]).decode
_decode_head = msgspec.json.Decoder(_Head).decode


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
        self._plans: dict[bytes, list[_Part]] = {}
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
            if not line.startswith(b"{"):
                line = line[line.find(b"{") :]
            try:
                document = _decode_line(line)
                if "to_state" in document:
                    moved = self._circuits.setdefault(function, {}).setdefault(str(document.get("circuit")), {})
                    moved[environment] = str(document["to_state"])
                if "_aws" in document:
                    self._take_metrics(function, environment, document, bytes(_decode_head(line).about.directives))
            except (msgspec.DecodeError, KeyError, TypeError, ValueError):  # no JSON, or JSON and yet no metric
                self.unreadable_lines += 1

    def _take_metrics(self, function: str, environment: str, document: dict[str, Any], directives: bytes) -> None:
        """`directives` as they stand in the line: a handler prints the same ones every time, so they are read once."""
        plan = self._plans.get(directives)
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            plan = self._plans[directives] = _read_plan(directives)
        for part in plan:
            values = tuple([document[name] for name in part.dimension_names])
            bundle = part.bundles.get((function, *values))
            if bundle is None:
                if len(part.bundles) >= PLANS_MAX:
                    part.bundles.clear()
                bundle = part.bundles[(function, *values)] = self._bundle(function, part, document)
            for name, known, all_series in bundle:
                value = document.get(name)
                if value is None:
                    continue
                numbers = value if type(value) is list else _values(value)
                if known:
                    self._note(function, environment, name, numbers)
                if not all_series:
                    self.dropped_values += len(numbers)
                for series in all_series:
                    for number in numbers:
                        series.add(number)

    def _bundle(self, function: str, part: "_Part", document: dict[str, Any]) -> list[tuple[str, bool, list["Series"]]]:
        """Each metric of a directive, with its series for these values of the dimensions."""
        sets = [tuple((name, str(document[name])[:LABEL_CHARACTERS_MAX]) for name in names) for names in part.sets]
        return [
            (
                name,
                name in KNOWN,
                [
                    series
                    for dimensions in sets
                    if (series := self._series(Key(function, part.namespace, name, dimensions), unit)) is not None
                ],
            )
            for name, unit in part.metrics
        ]

    def _series(self, key: Key, unit: str) -> Series | None:
        """None where there are too many already."""
        series = self.series.get(key)
        if series is None:
            metric = (key.namespace, key.name)
            count = self._of_metric.get(metric, 0)
            if len(self.series) >= SERIES_MAX or count >= SERIES_OF_A_METRIC_MAX:
                return None
            self._of_metric[metric] = count + 1
            series = self.series[key] = Series(unit)
        return series

    def _note(self, function: str, environment: str, name: str, values: list[float]) -> None:
        """Pool and circuit of a function, by the names that say so."""
        if not values:
            return
        if name == OPEN:
            self._open.setdefault(function, {})[environment] = values[-1]
        elif name == BUDGET:
            self._budget[function] = values[-1]
        elif name == WAIT:
            waits = self._wait.get(function)
            if waits is None:
                waits = self._wait[function] = Histogram(bounds_for("Milliseconds"))
            for value in values:
                waits.add(value)
        else:
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
