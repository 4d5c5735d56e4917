"""Series of EMF metrics with the distribution of their values, and a function's connection pool."""

from typing import NamedTuple

from warmfront.emulator.observe.recorder import BUCKETS_S, Histogram

_SECONDS_PER = {"Seconds": 1.0, "Milliseconds": 1e-3, "Microseconds": 1e-6}
_BYTES = tuple(float(4**power) for power in range(3, 14))
_ANY = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 1e4, 1e5, 1e6)


def bounds_for(unit: str) -> tuple[float, ...]:
    """Upper bounds of buckets: 1 ms to 1 s, in the metric's own unit, for times; round steps for anything else."""
    if unit in _SECONDS_PER:
        return tuple(round(bound / _SECONDS_PER[unit], 9) for bound in BUCKETS_S)
    return _BYTES if unit == "Bytes" else _ANY


class Key(NamedTuple):
    """One series: a metric of a function in one unit, with one set of dimensions."""

    function: str
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    """Names and values, in the order of the names: CloudWatch does not tell sets by their order."""
    unit: str = "None"


class Series:
    """Every value of one key."""

    __slots__ = ("histogram", "last")

    def __init__(self, unit: str) -> None:
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
