"""Collects the EMF metrics that functions print: series with their distribution, connection pools and circuit breakers."""

import itertools
import operator
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import msgspec

from warmfront.emulator.observe.emf_plans import (
    COUNT_MAX,
    About,
    Bundle,
    Counted,
    Part,
    Plan,
    dropped_of,
    read_directives,
    values_of,
)
from warmfront.emulator.observe.emf_rules import (
    LINE_BYTES_MAX,
    VALUE_MAX,
    VALUES_MAX,
    EmfError,
    check_dimensions,
    check_values,
)
from warmfront.emulator.observe.emf_series import Key, Pool, Series, bounds_for
from warmfront.emulator.observe.recorder import Histogram

__all__ = ["ALIKE_MIN", "CIRCUIT_MARK", "COUNT_MAX", "METRICS_MARK", "Emf", "Key", "Pool", "Series"]

METRICS_MARK = b'"_aws"'
CIRCUIT_MARK = b'"to_state"'
"""A log line with `circuit` and `to_state` says that a circuit breaker changed its state."""
OPEN, BUDGET, WAIT, REJECTED = "ConnectionsOpen", "ConnectionBudget", "AcquireWait", "CircuitRejected"
"""Metrics that pool utilisation is computed from: one environment's connections, and what all may open together."""

SERIES_MAX = 2000
SERIES_OF_A_METRIC_MAX = 200
PLANS_MAX = 500
NOTES_MAX = 100
"""Different reasons for refusing lines that are explained; more are only counted."""

ALIKE_MIN = 4
"""Fewer lines are taken one by one: preparing to take them together costs as much."""
_CIRCUIT = CIRCUIT_MARK.strip(b'"')  # found in a third of the time
_function_of: Callable[[tuple[str, str, bytes]], str] = operator.itemgetter(0)
_directives_of: Callable[[About], msgspec.Raw] = operator.attrgetter("directives")


class _Moved(msgspec.Struct):
    """A line of a circuit breaker, or any other that has the word."""

    circuit: Any = None
    to_state: Any = msgspec.UNSET


_decode_moved = msgspec.json.Decoder(_Moved).decode


class Emf:
    """Series, pools and circuits of all functions. Reading several chunks of output at a time is cheapest."""

    def __init__(self, note: Callable[[str], None] | None = None) -> None:
        """`note` takes a line that says why CloudWatch would refuse an EMF document, once for each reason."""
        self._note = note
        self._noted: set[tuple[str, str]] = set()
        self._open: dict[str, dict[str, float]] = {}
        self._budget: dict[str, float] = {}
        self._wait: dict[str, Histogram] = {}
        self._circuits: dict[str, dict[str, dict[str, str]]] = {}
        self._of_metric: dict[tuple[str, str], int] = {}
        self._plans: dict[bytes, Plan] = {}
        self._likely: dict[str, Plan] = {}
        """By function: the plan of its last line, which is most likely that of its next."""
        self._touched: list[tuple[str, Bundle]] = []
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
            rows = plan.members_of_all(b"[%b]" % together)
        except msgspec.DecodeError:
            return False
        members = list(zip(*rows, strict=True))
        directives = list(map(bytes, map(_directives_of, members[0])))
        if len(rows) != len(printed) or directives.count(plan.directives) != len(rows):
            return False
        columns: list[tuple[list[float], list[float]]] = []
        bundles: list[Bundle] = []
        for part, dimensions, metrics in plan.parts:
            if any(members[place].count(members[place][0]) != len(rows) for place in dimensions):
                return False
            try:
                bundles.append(self._bundle_of(function, part, [members[place][0] for place in dimensions]))
            except (KeyError, TypeError, EmfError):  # a dimension that is not there, or no word
                return False
            for (_, _, column), place in zip(bundles[-1].columns, metrics, strict=True):
                if members[place].count(None) == len(rows):
                    continue
                if list(map(type, members[place])).count(list) != len(rows):
                    return False
                if max(map(len, members[place])) > VALUES_MAX:
                    return False
                values = list(itertools.chain.from_iterable(members[place]))
                if values and not (max(values) <= VALUE_MAX and min(values) >= -VALUE_MAX):
                    return False
                columns.append((column, values))
        for column, values in columns:
            column += values
        self._touch(function, bundles)
        self._note_open(function, plan, printed, members)
        return True

    def _note_open(
        self, function: str, plan: Plan, printed: list[tuple[str, bytes]], members: list[tuple[Any, ...]]
    ) -> None:
        place = _place_of_open(plan)
        if place is not None:
            opened = zip(printed, members[place], strict=True)
            self._open.setdefault(function, {}).update({each: values[-1] for (each, _), values in opened if values})

    def _take_output(self, function: str, environment: str, output: bytes) -> None:
        alone = output.startswith(b"{") and output.find(b"\n", 0, -1) < 0
        for line in (output,) if alone else _marked(output):
            try:
                self._take(function, environment, line if alone else line[line.find(b"{") :])
            except Exception as error:  # no JSON, no metric, or stranger: it must not cost other lines their values
                self.unreadable_lines += 1
                self._explain(function, error)

    def _explain(self, function: str, error: Exception) -> None:
        reason = str(error) if isinstance(error, EmfError | TypeError) else f"it cannot be read ({error})"
        known = (function, type(error).__name__ if not isinstance(error, EmfError) else reason)
        if self._note is None or known in self._noted or len(self._noted) >= NOTES_MAX:
            return
        self._noted.add(known)
        self._note(f"{function}: an EMF line is refused, as CloudWatch would: {reason}")

    def _touch(self, function: str, bundles: list[Bundle]) -> None:
        for bundle in bundles:
            if not bundle.waiting:
                bundle.waiting = True
                self._touched.append((function, bundle))

    def _take(self, function: str, environment: str, line: bytes) -> None:
        if len(line) > LINE_BYTES_MAX:
            raise EmfError(f"the line has {len(line):,} bytes, and {LINE_BYTES_MAX:,} are allowed")
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
        bundles: list[Bundle] = []
        dropped = 0
        for part, dimensions, metrics in plan.parts:
            bundle = self._bundle_of(function, part, [members[place] for place in dimensions])
            bundles.append(bundle)
            for (name, _, column), place in zip(bundle.columns, metrics, strict=True):
                value = members[place]
                if value is not None:
                    columns.append((column, _checked_values(name, value)))
                    dropped += dropped_of(value)
        open_place = _place_of_open(plan)
        opened = None if open_place is None else members[open_place]
        last = [] if opened is None else opened if type(opened) is list else values_of(opened)
        # From here on nothing can fail: a line counts whole or not at all.
        for column, values in columns:
            column += values
        self._touch(function, bundles)
        self.dropped_values += dropped
        if last:
            self._open.setdefault(function, {})[environment] = last[-1]

    def _read_line(self, function: str, line: bytes) -> tuple[Plan, tuple[Any, ...]] | None:
        """The plan of a line, and what it names of the line; None: a log line that quotes a metric somewhere."""
        plan = self._likely.get(function)
        if plan is not None:
            try:
                members = plan.members(line)
            except msgspec.DecodeError:
                pass  # whatever it is, it is not that
            else:
                if bytes(members[0].directives) == plan.directives:
                    return plan, members
        directives = read_directives(line)
        if directives is None:
            return None
        plan = self._likely[function] = self._plan(directives)
        return plan, plan.members(line)

    def _plan(self, directives: bytes) -> Plan:
        plan = self._plans.get(directives)
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            plan = self._plans[directives] = Plan(directives)
        return plan

    def _bundle_of(self, function: str, part: Part, values: list[Any]) -> Bundle:
        """Each metric of a directive, with its series for these values of the dimensions."""
        return part.bundles.get((function, *values)) or self._new_bundle(function, part, values)

    def _new_bundle(self, function: str, part: Part, values: list[Any]) -> Bundle:
        named = dict(zip(part.dimension_names, values, strict=True))
        check_dimensions({name: None if value is msgspec.UNSET else value for name, value in named.items()})
        sets = [tuple((name, named[name]) for name in names) for names in part.sets]
        columns: list[tuple[str, list[Series], list[float]]] = []
        for name, unit in part.metrics:
            found = [self._series(Key(function, part.namespace, name, dimensions, unit)) for dimensions in sets]
            columns.append((name, [series for series in found if series is not None], []))
        if len(part.bundles) >= PLANS_MAX:
            part.bundles.clear()
        bundle = part.bundles[(function, *values)] = Bundle(columns)
        return bundle

    def _series(self, key: Key) -> Series | None:
        """None where there are too many already."""
        series = self.series.get(key)
        if series is None:
            metric = (key.namespace, key.name)
            count = self._of_metric.get(metric, 0)
            if len(self.series) >= SERIES_MAX or count >= SERIES_OF_A_METRIC_MAX:
                return None
            self._of_metric[metric] = count + 1
            series = self.series[key] = Series(key.unit)
        return series

    def _enter(self, function: str, bundle: Bundle) -> None:
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


def _place_of_open(plan: Plan) -> int | None:
    """Where a line has its ConnectionsOpen, if that is a metric of it."""
    if any(name == OPEN for part, _, _ in plan.parts for name, _ in part.metrics):
        return plan.places[OPEN]
    return None


def _checked_values(name: str, value: Any) -> list[float]:
    if type(value) is list:
        check_values(name, value)
        return value
    values = values_of(value)
    given = value.values if isinstance(value, Counted) else None
    check_values(name, given if given is not None else values[:2] + values[-1:])
    return values
