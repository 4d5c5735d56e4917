"""Counts, histograms and the last records of requests and invocations: bounded, filled in batches, summarised when read."""

import itertools
import operator
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Upper bounds of the latency histograms: 1 ms to 1 s, with 0.5 s among them because an alarm looks there."""
SECONDS_KEPT = 60
SHARES = (0.5, 0.95, 0.99)
_RING = 64
_SECOND_NS = 1_000_000_000
THINNED = 100
RECORDS_MAX = 100
"""Of a function, and of all requests: more would push what is in use out of the processor's caches."""
FAILED_MAX = 100


class Histogram:
    """Counts by upper bound, and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = BUCKETS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add_all(self, values: list[float]) -> None:
        """Sorted once, so that a bucket costs one search however many values are in it. Few values are found one by one."""
        self.total += sum(values)
        if len(values) <= len(self.bounds):
            for value in values:
                self.counts[bisect_left(self.bounds, value)] += 1
            return
        ordered, below = sorted(values), 0
        for index, bound in enumerate(self.bounds):
            upto = bisect_right(ordered, bound, below)
            self.counts[index] += upto - below
            below = upto
            if below == len(ordered):
                return
        self.counts[-1] += len(ordered) - below

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Interpolated within its bucket, as Prometheus does; the last bound for what lies above it."""
        wanted = share * self.count
        below, low = 0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and below + count >= wanted:
                return low + (bound - low) * (wanted - below) / count
            below, low = below + count, bound
        return self.bounds[-1] if below < self.count else None


class Ended(NamedTuple):
    """One invocation that has its answer. Times are nanoseconds of CLOCK_MONOTONIC."""

    ended_ns: int
    request_id: str
    trace_header: str
    status: str
    error_type: str | None
    received_ns: int
    dispatched_ns: int
    duration_ms: float
    init_ms: float | None
    restore_ms: float | None
    memory_used_mb: int
    environment: str
    spawned_ns: int
    """When the newest process of its environment was started, and when that was ready."""
    ready_ns: int
    log: bytes
    function: str


class Answered(NamedTuple):
    """One request that has its answer; route, function and trace header are empty where no route took it."""

    ended_ns: int
    began_ns: int
    api: str
    route: str
    function: str
    method: str
    path: str
    status: int
    size_bytes: int
    request_id: str
    trace_header: str


type Row = tuple[Any, ...]
"""The members of an Ended or an Answered, as they are noted; readers of a record get the named form."""


def column(kind: type[Ended | Answered], member: str) -> Callable[[Iterable[Row]], list[Any]]:
    """That member of all rows. No other is touched: rows that have waited are in nobody's cache."""
    of_row = operator.itemgetter(kind._fields.index(member))
    return lambda rows: list(map(of_row, rows))


ended_at, durations, statuses, init_times = (
    column(Ended, member) for member in ("ended_ns", "duration_ms", "status", "init_ms")
)
answered_at, begun_at, codes = (column(Answered, member) for member in ("ended_ns", "began_ns", "status"))
_trace_header = operator.itemgetter(Answered._fields.index("trace_header"))


class Records[R: (Ended, Answered)]:
    """The newest records, and of the failed ones some that are older."""

    __slots__ = ("_failed", "_kind", "_newest")

    def __init__(self, kind: type[R]) -> None:
        self._kind: Callable[..., R] = kind
        self._newest: deque[Row] = deque(maxlen=RECORDS_MAX)
        self._failed: deque[Row] = deque(maxlen=FAILED_MAX)

    def add_all(self, rows: Iterable[Row]) -> None:
        self._newest.extend(rows)

    def add_failed(self, rows: Iterable[Row]) -> None:
        """Some of those that `add_all` was given, to be kept longer."""
        self._failed.extend(rows)

    def __iter__(self) -> Iterator[R]:
        newest = set(map(id, self._newest))
        for row in [row for row in self._failed if id(row) not in newest] + list(self._newest):
            yield self._kind(*row)

    def newest_first(self) -> Iterator[R]:
        return (self._kind(*row) for row in reversed(self._newest))


class FunctionBook:
    """One function: its invocations."""

    __slots__ = ("durations", "inits", "records", "seconds")

    def __init__(self) -> None:
        self.durations = Histogram()
        self.inits = Histogram((0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0))
        self.seconds = Seconds()
        self.records = Records(Ended)

    def add_all(self, rows: Sequence[Row]) -> None:
        """Those of Ended, in the order in which they ended."""
        durations_ms = durations(rows)
        self.durations.add_all([each / 1000 for each in durations_ms])
        self.records.add_all(rows)
        if (inits := init_times(rows)).count(None) < len(rows):
            self.inits.add_all([each / 1000 for each in inits if each is not None])
        if (states := statuses(rows)).count("ok") < len(rows):
            self.records.add_failed(row for row, status in zip(rows, states, strict=True) if status != "ok")
        for number, within_ms in by_second(ended_at(rows), durations_ms):
            self.seconds.at(number).add_all(within_ms)


class Exemplar(NamedTuple):
    """A request that stands for its bucket of a latency histogram."""

    trace_header: str
    latency_s: float
    ended_ns: int
    """Of CLOCK_MONOTONIC."""


class RouteBook:
    """One route of one API: its answers by class of status, and their latency."""

    __slots__ = ("answers", "exemplars", "latency")

    def __init__(self) -> None:
        self.answers = [0] * 6
        """Index: the first digit of the status."""
        self.latency = Histogram()
        self.exemplars: list[Exemplar | None] = [None] * (len(self.latency.bounds) + 1)
        """By bucket: a recent request in it."""

    def add_all(self, rows: Sequence[Row]) -> None:
        """Those of Answered."""
        ended_ns = answered_at(rows)
        latencies_s = [each / 1e9 for each in map(operator.sub, ended_ns, begun_at(rows))]
        self.latency.add_all(latencies_s)
        slowest_s = max(latencies_s)  # one exemplar for each batch: the slowest are what somebody looks for
        place = latencies_s.index(slowest_s)
        if header := _trace_header(rows[place]):
            bucket = bisect_left(self.latency.bounds, slowest_s)
            self.exemplars[bucket] = Exemplar(header, slowest_s, ended_ns[place])
        for status, count in Counter(codes(rows)).items():
            self.answers[status // 100] += count


class Second:
    """What happened in one second."""

    __slots__ = ("cold_starts", "errors", "latencies_ms", "number", "requests", "summary", "throttles")

    def __init__(self, number: int) -> None:
        self.number = number
        self.requests = 0
        self.errors = 0
        self.throttles = 0
        self.cold_starts = 0
        self.latencies_ms = array("f")
        self.summary: list[float] | None = None

    def add_all(self, latencies_ms: Sequence[float]) -> None:
        self.requests += len(latencies_ms)
        self.latencies_ms.extend(latencies_ms)

    def sorted_ms(self) -> list[float]:
        """Its latencies in order, at most THINNED of them, evenly taken."""
        if self.summary is None or len(self.latencies_ms) > len(self.summary):
            values = sorted(self.latencies_ms)
            step = max(len(values) / THINNED, 1.0)
            self.summary = [values[int((i + 0.5) * step)] for i in range(min(len(values), THINNED))]
            if len(values) > THINNED:
                self.latencies_ms = array("f", self.summary)
        return self.summary


class Seconds:
    """The last minute by seconds."""

    __slots__ = ("_percentiles", "_ring")

    def __init__(self) -> None:
        self._percentiles: tuple[int, list[float | None]] = (-1, [])
        self._ring: list[Second] = [Second(-1)] * _RING

    def at(self, number: int) -> Second:
        index = number % _RING
        found = self._ring[index]
        if found.number != number:
            found = self._ring[index] = Second(number)
        return found

    def last(self, now: int, count: int = SECONDS_KEPT) -> list[Second]:
        """The `count` whole seconds before `now`, oldest first; empty ones where nothing happened."""
        found = []
        for number in range(now - count, now):
            second = self._ring[number % _RING]
            found.append(second if second.number == number else Second(number))
        return found

    def percentiles(self, now: int) -> list[float | None]:
        """p50, p95 and p99 of the last minute; worked out once a second."""
        if self._percentiles[0] != now:
            self._percentiles = (now, weighted_percentiles(self.last(now), SHARES))
        return self._percentiles[1]


def by_second[V](ended_ns: Sequence[int], values: Sequence[V]) -> Iterator[tuple[int, Sequence[V]]]:
    """Values in the order in which they ended, by the second in which they did: nearly always one."""
    number = ended_ns[0] // _SECOND_NS
    if number == ended_ns[-1] // _SECOND_NS:
        yield number, values
        return
    pairs = zip(ended_ns, values, strict=True)
    for number, within in itertools.groupby(pairs, lambda pair: pair[0] // _SECOND_NS):
        yield number, [value for _, value in within]


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank of values in order."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def weighted_percentiles(seconds: Iterable[Second], shares: Sequence[float]) -> list[float | None]:
    """Percentiles over several seconds, each of which counts with all its requests."""
    points = []
    for second in seconds:
        values = second.sorted_ms()
        points += [(value, second.requests / len(values)) for value in values]
    points.sort()
    total = sum(weight for _, weight in points)
    found: list[float | None] = []
    for share in shares:
        below, at = 0.0, None
        for value, weight in points:
            at = value
            below += weight
            if below > share * total:
                break
        found.append(at)
    return found
