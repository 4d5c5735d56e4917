"""Names EMF metrics and dimensions for Prometheus: always valid, and never one name for two of them."""

import itertools
import re
import zlib
from collections.abc import Iterator

_UNFIT = re.compile(r"[^a-zA-Z0-9_]+")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UNITS = {
    "Seconds": "seconds",
    "Milliseconds": "milliseconds",
    "Microseconds": "microseconds",
    "Bytes": "bytes",
    "Kilobytes": "kilobytes",
    "Megabytes": "megabytes",
    "Percent": "percent",
}
_OWN_LABELS = frozenset({"function", "le", "quantile"})
_SAMPLES = ("_bucket", "_count", "_sum", "_created", "_last", "_signed_sum")
"""Endings of the samples and families that are made of one metric."""
_RESERVED_ENDINGS = (*_SAMPLES, "_total", "_info", "_gcount", "_gsum")
"""A name with such an ending reads like a sample of another metric: github.com/prometheus/OpenMetrics, "Suffixes"."""


class ExpositionNames:
    """Gives each metric and each dimension a name of its own, and the same one at every scrape.

    The first to come has the plain name; others whose plain name is taken have a checksum of theirs at the end.
    """

    def __init__(self) -> None:
        self._families: dict[tuple[str, str, str], str] = {}
        self._taken: set[str] = set()
        self._labels: dict[tuple[str, str], str] = {}
        self._taken_labels: set[tuple[str, str]] = set()

    def family(self, namespace: str, name: str, unit: str) -> str:
        """`emf_<namespace>_<metric>[_<unit>]`, the name of a histogram."""
        key = (namespace, name, unit)
        if key not in self._families:
            plain = _family(namespace, name, unit)
            chosen = next(each for each in _candidates(plain, key) if not _claimed_by(each) & self._taken)
            self._taken |= _claimed_by(chosen)
            self._families[key] = chosen
        return self._families[key]

    def label(self, namespace: str, dimension: str) -> str:
        """A dimension's name as a label, in all metrics of a namespace; the emulator's own labels are never taken."""
        key = (namespace, dimension)
        if key not in self._labels:
            candidates = _candidates(_label(dimension), key)
            chosen = next(each for each in candidates if (namespace, each) not in self._taken_labels)
            self._taken_labels.add((namespace, chosen))
            self._labels[key] = chosen
        return self._labels[key]


def _claimed_by(family: str) -> set[str]:
    return {family, *(family + ending for ending in _SAMPLES)}


def _candidates(plain: str, key: tuple[str, ...]) -> Iterator[str]:
    yield plain
    for number in itertools.count():
        yield f"{plain}_x{zlib.crc32(repr((*key, number)).encode('utf-8', 'surrogatepass')):08x}"


def _family(namespace: str, name: str, unit: str) -> str:
    fitted = _fit(name) or _checksum(name)
    parts = ["emf", _fit(namespace) or _checksum(namespace), fitted]
    suffix = _UNITS.get(unit)
    if suffix is not None and not fitted.endswith(suffix):
        parts.append(suffix)
    family = "_".join(parts)
    return f"{family}_value" if family.endswith(_RESERVED_ENDINGS) else family


def _label(dimension: str) -> str:
    label = _UNFIT.sub("_", dimension)
    if not label.strip("_"):
        return f"dimension_{_checksum(dimension)}"
    if label[0].isdigit() or label.startswith("__") or label in _OWN_LABELS:
        return f"dimension_{label.lstrip('_')}"
    return label


def _fit(text: str) -> str:
    """ConnectionsOpen and `connections open` are both connections_open."""
    return re.sub("_+", "_", _UNFIT.sub("_", _WORDS.sub("_", text))).strip("_").lower()


def _checksum(text: str) -> str:
    """For a text of which no letter is left."""
    return f"x{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"
