"""Embedded-metric lines of any function into series with their distribution. Knows lines, and neither processes nor Prometheus.

Form: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import itertools
import operator
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from warmfront.emulator.observe.recorder import BUCKETS_S, Histogram

METRICS_MARK = b'"_aws"'
CIRCUIT_MARK = b'"to_state"'
"""A log line with `circuit` and `to_state` says that a circuit breaker moved."""
OPEN, BUDGET, WAIT, REJECTED = "ConnectionsOpen", "ConnectionBudget", "AcquireWait", "CircuitRejected"
"""What `pool utilisation` is made of: connections of one environment, and what all of them may open together."""

SERIES_MAX = 2000
SERIES_OF_A_METRIC_MAX = 200
LABEL_CHARACTERS_MAX = 200
PLANS_MAX = 500
COUNT_MAX = 10_000
"""One value stands for no more; what it says beyond that is dropped, and counted as such."""

ALIKE_MIN = 4
"""Fewer lines are taken one by one: preparing to take them together costs as much."""
_CIRCUIT = CIRCUIT_MARK.strip(b'"')  # found in a third of the time
_function_of: Callable[[tuple[str, str, bytes]], str] = operator.itemgetter(0)
_directives_of: Callable[["_About"], msgspec.Raw] = operator.attrgetter("directives")

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

    def add_all(self, values: list[float]) -> None:
        self.histogram.add_all(values)
        self.last = values[-1]


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

    about: _About | msgspec.UnsetType = msgspec.field(name="_aws", default=msgspec.UNSET)


class _Counted(msgspec.Struct):
    """Several values with how often each came."""

    values: list[float] = msgspec.field(name="Values")
    counts: list[float] | None = msgspec.field(name="Counts", default=None)


class _Moved(msgspec.Struct):
    """A line of a circuit breaker, or any other that has the word."""

    circuit: Any = None
    to_state: Any = msgspec.UNSET


_Metric = float | list[float] | _Counted | None
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_moved = msgspec.json.Decoder(_Moved).decode


class _Bundle:
    """The metrics of a directive with one set of values for its dimensions, and what came of each since they were last entered."""

    __slots__ = ("columns", "waiting")

    def __init__(self, columns: list[tuple[str, list[Series], list[float]]]) -> None:
        self.columns = columns
        """Name, series, values."""
        self.waiting = False


class _Part:
    """One directive, read."""

    __slots__ = ("bundles", "dimension_names", "metrics", "namespace", "sets")

    def __init__(self, directive: dict[str, Any]) -> None:
        self.namespace = str(directive["Namespace"])
        units = {str(each["Name"]): str(each.get("Unit") or "None") for each in directive["Metrics"]}
        self.metrics = list(units.items())
        self.sets: list[list[str]] = directive.get("Dimensions") or [[]]
        self.dimension_names = sorted({name for names in self.sets for name in names})
        self.bundles: dict[tuple[Any, ...], _Bundle] = {}
        """By function and values of the dimensions."""


class _Plan:
    """The directives that a handler prints, the same ones every time: read once, with a decoder of what they name and nothing else."""

    __slots__ = ("decode", "decode_all", "directives", "opened", "parts")

    def __init__(self, directives: bytes) -> None:
        self.directives = directives
        parts = [_Part(each) for each in msgspec.json.decode(directives)]
        dimensions = {name for part in parts for name in part.dimension_names}
        metrics = {name for part in parts for name, _ in part.metrics} - dimensions
        kinds: dict[str, Any] = {**dict.fromkeys(dimensions, Any), **dict.fromkeys(metrics, _Metric)}
        members = [
            (f"member_{index}", kind, msgspec.field(name=name, default=None if kind is not Any else msgspec.UNSET))
            for index, (name, kind) in enumerate(kinds.items())
        ]
        line = msgspec.defstruct("_Line", [("about", _About, msgspec.field(name="_aws")), *members])
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(line).decode
        self.decode_all: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[line]).decode  # type: ignore[valid-type]
        places = {name: index + 1 for index, name in enumerate(kinds)}
        self.parts = [
            (part, [places[name] for name in part.dimension_names], [places[name] for name, _ in part.metrics])
            for part in parts
        ]
        """Each with where its dimensions and its metrics are in a line that `decode` gave."""
        self.opened = places[OPEN] if OPEN in metrics else None


class Emf:
    """Series, pools and circuits of all functions, from chunks of their output, which are cheapest to `read` several at a time."""

    def __init__(self) -> None:
        self._open: dict[str, dict[str, float]] = {}
        self._budget: dict[str, float] = {}
        self._wait: dict[str, Histogram] = {}
        self._circuits: dict[str, dict[str, dict[str, str]]] = {}
        self._of_metric: dict[tuple[str, str], int] = {}
        self._plans: dict[bytes, _Plan] = {}
        self._likely: dict[str, _Plan] = {}
        """By function: the plan of its last line, which is most likely that of its next."""
        self._touched: list[tuple[str, _Bundle]] = []
        self.rejected: dict[str, float] = {}
        self.series: dict[Key, Series] = {}
        self.dropped_values = 0
        self.unreadable_lines = 0

    def read(self, chunks: Iterable[tuple[str, str, bytes]]) -> None:
        """Function, environment and output of each chunk, in the order in which they came."""
        for function, of_function in itertools.groupby(chunks, _function_of):
            printed = [(environment, output) for _, environment, output in of_function]
            if len(printed) < ALIKE_MIN or not self._take_alike(function, printed):
                for environment, output in printed:
                    self._take_output(function, environment, output)
        for function, bundle in self._touched:
            self._enter(function, bundle)
        self._touched.clear()

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _take_alike(self, function: str, printed: list[tuple[str, bytes]]) -> bool:
        """Lines that have the same metrics with the same dimensions, decoded together and taken column by column.

        False, and nothing is taken, where one of them is another kind of output, or has a value that is no plain list.
        """
        plan = self._likely.get(function)
        together = b",".join([output for _, output in printed])
        if (
            plan is None
            or not _are_lines(together, len(printed))
            or (_CIRCUIT in together and CIRCUIT_MARK in together)
        ):
            return False
        try:
            rows = plan.decode_all(b"[%b]" % together)
        except msgspec.DecodeError:
            return False
        members = list(zip(*map(msgspec.structs.astuple, rows), strict=True))
        directives = list(map(bytes, map(_directives_of, members[0])))
        if len(rows) != len(printed) or directives.count(plan.directives) != len(rows):
            return False
        columns: list[tuple[list[float], tuple[list[float], ...]]] = []
        bundles: list[_Bundle] = []
        for part, dimensions, metrics in plan.parts:
            if any(members[place].count(members[place][0]) != len(rows) for place in dimensions):
                return False
            try:
                bundles.append(self._bundle_of(function, part, [members[place][0] for place in dimensions]))
            except (KeyError, TypeError):  # a dimension that is not there, or no word
                return False
            for (_, _, column), place in zip(bundles[-1].columns, metrics, strict=True):
                if members[place].count(None) != len(rows):
                    columns.append((column, members[place]))
        if any(list(map(type, values)).count(list) != len(rows) for _, values in columns):
            return False
        for column, values in columns:
            column += itertools.chain.from_iterable(values)
        self._touch(function, bundles)
        if plan.opened is not None:
            opened = zip(printed, members[plan.opened], strict=True)
            self._open.setdefault(function, {}).update({each: values[-1] for (each, _), values in opened if values})
        return True

    def _take_output(self, function: str, environment: str, output: bytes) -> None:
        alone = output.startswith(b"{") and output.find(b"\n", 0, -1) < 0
        for line in (output,) if alone else _marked(output):
            try:
                self._take(function, environment, line if alone else line[line.find(b"{") :])
            except Exception:  # no JSON, no metric, or stranger: what a handler prints costs no other its answer
                self.unreadable_lines += 1

    def _touch(self, function: str, bundles: list["_Bundle"]) -> None:
        for bundle in bundles:
            if not bundle.waiting:
                bundle.waiting = True
                self._touched.append((function, bundle))

    def _take(self, function: str, environment: str, line: bytes) -> None:
        if CIRCUIT_MARK in line:
            moved = _decode_moved(line)
            if moved.to_state is not msgspec.UNSET:
                states = self._circuits.setdefault(function, {}).setdefault(str(moved.circuit), {})
                states[environment] = str(moved.to_state)
            if METRICS_MARK not in line:
                return
        read = self._read_line(function, line)
        if read is None:
            return
        plan, members = read
        columns: list[tuple[list[float], list[float]]] = []
        bundles: list[_Bundle] = []
        dropped = 0
        for part, dimensions, metrics in plan.parts:
            bundle = self._bundle_of(function, part, [members[place] for place in dimensions])
            bundles.append(bundle)
            for (_, _, column), place in zip(bundle.columns, metrics, strict=True):
                value = members[place]
                if type(value) is list:
                    columns.append((column, value))
                elif value is not None:
                    columns.append((column, _values(value)))
                    dropped += _beyond_most(value)
        opened = None if plan.opened is None else members[plan.opened]
        last = [] if opened is None else opened if type(opened) is list else _values(opened)
        # From here on nothing can fail: a line counts whole or not at all.
        for column, values in columns:
            column += values
        self._touch(function, bundles)
        self.dropped_values += dropped
        if last:
            self._open.setdefault(function, {})[environment] = last[-1]

    def _read_line(self, function: str, line: bytes) -> tuple[_Plan, tuple[Any, ...]] | None:
        """The plan of a line, and what it names of the line; None: a log line that quotes a metric somewhere."""
        plan = self._likely.get(function)
        if plan is not None:
            try:
                members = msgspec.structs.astuple(plan.decode(line))
            except msgspec.DecodeError:
                pass  # whatever it is, it is not that
            else:
                if bytes(members[0].directives) == plan.directives:
                    return plan, members
        about = _decode_head(line).about
        if about is msgspec.UNSET:
            return None
        plan = self._likely[function] = self._plan(bytes(about.directives))
        return plan, msgspec.structs.astuple(plan.decode(line))

    def _plan(self, directives: bytes) -> _Plan:
        plan = self._plans.get(directives)
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            plan = self._plans[directives] = _Plan(directives)
        return plan

    def _bundle_of(self, function: str, part: _Part, values: list[Any]) -> _Bundle:
        """Each metric of a directive, with its series for these values of the dimensions."""
        return part.bundles.get((function, *values)) or self._new_bundle(function, part, values)

    def _new_bundle(self, function: str, part: _Part, values: list[Any]) -> _Bundle:
        if msgspec.UNSET in values:
            raise KeyError("a dimension that the line does not have")
        named = dict(zip(part.dimension_names, values, strict=True))
        sets = [tuple((name, str(named[name])[:LABEL_CHARACTERS_MAX]) for name in names) for names in part.sets]
        columns: list[tuple[str, list[Series], list[float]]] = []
        for name, unit in part.metrics:
            found = [self._series(Key(function, part.namespace, name, dimensions), unit) for dimensions in sets]
            columns.append((name, [series for series in found if series is not None], []))
        if len(part.bundles) >= PLANS_MAX:
            part.bundles.clear()
        bundle = part.bundles[(function, *values)] = _Bundle(columns)
        return bundle

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

    def _enter(self, function: str, bundle: _Bundle) -> None:
        """What came since the last time goes into the series, and where its name says so into the function's pool or circuit."""
        bundle.waiting = False
        for name, all_series, values in bundle.columns:
            if not values:
                continue
            if name == BUDGET:
                self._budget[function] = values[-1]
            elif name == WAIT:
                waits = self._wait.get(function)
                if waits is None:
                    waits = self._wait[function] = Histogram(bounds_for("Milliseconds"))
                waits.add_all(values)
            elif name == REJECTED:
                self.rejected[function] = self.rejected.get(function, 0.0) + sum(values)
            if not all_series:
                self.dropped_values += len(values)
            for series in all_series:
                series.add_all(values)
            values.clear()

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


def _are_lines(together: bytes, count: int) -> bool:
    """So many lines of JSON with a comma between and nothing else, as far as their ends tell."""
    ends = together.count(b"}\n,{") == count - 1 and together.startswith(b"{") and together.endswith(b"}\n")
    return ends and together.count(b"\n") == count


def _marked(output: bytes) -> Iterator[bytes]:
    return (line for line in output.split(b"\n") if METRICS_MARK in line or CIRCUIT_MARK in line)


def _values(value: float | _Counted) -> list[float]:
    if isinstance(value, float):
        return [value]
    if not isinstance(value, _Counted):  # a dimension that is a metric too
        raise TypeError(f"{value!r} is no value of a metric")
    if value.counts is None:
        return value.values
    pairs = zip(value.values, value.counts, strict=False)
    return [each for each, count in pairs for _ in range(min(int(count), COUNT_MAX))]


def _beyond_most(value: float | _Counted) -> int:
    """How many values `_values` leaves away."""
    if not isinstance(value, _Counted) or value.counts is None:
        return 0
    return sum(max(0, int(count) - COUNT_MAX) for _, count in zip(value.values, value.counts, strict=False))
