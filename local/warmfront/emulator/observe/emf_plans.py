"""Reads EMF lines with a decoder made for the directives that a handler prints, the same ones every time."""

from collections.abc import Callable
from typing import Any

import msgspec

from warmfront.emulator.observe.emf_rules import EmfError, check_directive
from warmfront.emulator.observe.emf_series import Series

COUNT_MAX = 10_000
"""A value with a count stands for no more values than this; the rest is dropped, and counted as dropped."""


class About(msgspec.Struct):
    """A line's `_aws` member."""

    directives: msgspec.Raw = msgspec.field(name="CloudWatchMetrics")


class _Head(msgspec.Struct):
    about: About | msgspec.UnsetType = msgspec.field(name="_aws", default=msgspec.UNSET)


class Counted(msgspec.Struct):
    """Values with how often each came, or a statistic set."""

    values: list[float] | None = msgspec.field(name="Values", default=None)
    counts: list[float] | None = msgspec.field(name="Counts", default=None)
    minimum: float | None = msgspec.field(name="Min", default=None)
    maximum: float | None = msgspec.field(name="Max", default=None)
    total: float | None = msgspec.field(name="Sum", default=None)
    count: float | None = msgspec.field(name="Count", default=None)


_Metric = float | list[float] | Counted | None
_decode_head = msgspec.json.Decoder(_Head).decode


def read_directives(line: bytes) -> bytes | None:
    """The line's CloudWatchMetrics as it is written; None: a log line that only quotes a metric somewhere."""
    about = _decode_head(line).about
    return None if about is msgspec.UNSET else bytes(about.directives)


class Bundle:
    """The metrics of a directive with one set of values for its dimensions, and their values since the last entering."""

    __slots__ = ("columns", "waiting")

    def __init__(self, columns: list[tuple[str, list[Series], list[float]]]) -> None:
        self.columns = columns
        """Name, series, values."""
        self.waiting = False


class Part:
    """One directive, read and checked."""

    __slots__ = ("bundles", "dimension_names", "metrics", "namespace", "sets")

    def __init__(self, directive: dict[str, Any]) -> None:
        check_directive(directive)
        self.namespace: str = directive["Namespace"]
        units = {each["Name"]: each.get("Unit") or "None" for each in directive["Metrics"]}
        self.metrics = list(units.items())
        self.sets = list(dict.fromkeys(tuple(sorted(set(names))) for names in directive.get("Dimensions") or [[]]))
        """CloudWatch tells sets neither by the order of their names nor by names that come twice."""
        self.dimension_names = sorted({name for names in self.sets for name in names})
        self.bundles: dict[tuple[Any, ...], Bundle] = {}
        """By function and values of the dimensions."""


class Plan:
    """Some directives, with a decoder of the members that they name and nothing else.

    Raises EmfError where CloudWatch would refuse them.
    """

    __slots__ = ("_decode", "_decode_all", "directives", "parts", "places")

    def __init__(self, directives: bytes) -> None:
        self.directives = directives
        read = msgspec.json.decode(directives)
        if not isinstance(read, list):
            raise EmfError("CloudWatchMetrics is not an array")
        parts = [Part(each) for each in read]
        dimensions = {name for part in parts for name in part.dimension_names}
        metrics = {name for part in parts for name, _ in part.metrics} - dimensions
        kinds: dict[str, Any] = {**dict.fromkeys(dimensions, Any), **dict.fromkeys(metrics, _Metric)}
        kinds.pop("_aws", None)
        self._decode, self._decode_all = _decoders(kinds)
        self.places = {"_aws": 0, **{name: index + 1 for index, name in enumerate(kinds)}}
        """Member -> where it is in a line that `decode` gave."""
        self.parts = [
            (
                part,
                [self.places[name] for name in part.dimension_names],
                [self.places[name] for name, _ in part.metrics],
            )
            for part in parts
        ]
        """Each with where its dimensions and its metrics are in a line that `decode` gave."""

    def members(self, line: bytes) -> tuple[Any, ...]:
        """What the plan names of a line: its `_aws`, dimensions and metrics. Raises DecodeError."""
        return self._decode(line)

    def members_of_all(self, lines: bytes) -> list[tuple[Any, ...]]:
        """The same of each line in a JSON array."""
        return self._decode_all(lines)


_One = Callable[[bytes], tuple[Any, ...]]
_All = Callable[[bytes], list[tuple[Any, ...]]]


def _decoders(kinds: dict[str, Any]) -> tuple[_One, _All]:
    members = [
        (f"member_{index}", kind, msgspec.field(name=name, default=None if kind is not Any else msgspec.UNSET))
        for index, (name, kind) in enumerate(kinds.items())
    ]
    try:
        line = msgspec.defstruct("_Line", [("about", About, msgspec.field(name="_aws")), *members])
    except ValueError:  # a struct's fields cannot have names with quotes, backslashes or control characters
        return _decoders_of_any_name(kinds)
    one = msgspec.json.Decoder(line).decode
    many: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[line]).decode  # type: ignore[valid-type]
    return lambda text: msgspec.structs.astuple(one(text)), lambda text: list(map(msgspec.structs.astuple, many(text)))


def _decoders_of_any_name(kinds: dict[str, Any]) -> tuple[_One, _All]:
    """Slower: every member of a line is split off first."""
    one = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    many = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode

    def members(line: dict[str, msgspec.Raw]) -> tuple[Any, ...]:
        found: list[Any] = [msgspec.json.decode(line["_aws"], type=About)]
        for name, kind in kinds.items():
            if name in line:
                found.append(msgspec.json.decode(line[name], type=kind))
            else:
                found.append(msgspec.UNSET if kind is Any else None)
        return tuple(found)

    return lambda text: members(one(text)), lambda text: list(map(members, many(text)))


def values_of(value: object) -> list[float]:
    """The values that a metric's member stands for. Raises TypeError where it is no value of a metric."""
    if isinstance(value, float):
        return [value]
    if not isinstance(value, Counted):  # a dimension that is a metric too
        raise TypeError(f"{value!r} is no value of a metric")
    if value.values is None:
        return _of_statistics(value)
    if value.counts is None:
        return value.values
    pairs = zip(value.values, value.counts, strict=False)
    return [each for each, count in pairs for _ in range(min(int(count), COUNT_MAX))]


def _of_statistics(value: Counted) -> list[float]:
    """As many values as a statistic set counts, with its minimum, maximum and sum; those between are their mean."""
    if value.total is None or value.count is None:
        raise TypeError("a statistic set has no Sum or no Count")
    count = min(int(value.count), COUNT_MAX)
    if count < 1:
        return []
    mean = value.total / value.count
    if count == 1 or value.minimum is None or value.maximum is None or value.count > COUNT_MAX:
        return [mean] * count
    if count == 2:
        return [value.minimum, value.total - value.minimum]
    between = (value.total - value.minimum - value.maximum) / (count - 2)
    return [value.minimum, *[between] * (count - 2), value.maximum]


def dropped_of(value: object) -> int:
    """How many values `values_of` leaves out."""
    if not isinstance(value, Counted):
        return 0
    if value.values is None:
        return max(0, int(value.count or 0) - COUNT_MAX)
    pairs = zip(value.values, value.counts or [], strict=False)
    return sum(max(0, int(count) - COUNT_MAX) for _, count in pairs)
