"""Checks EMF documents against the rules by which CloudWatch takes or refuses them.

docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
"""

from collections.abc import Mapping
from typing import Any, Final

METRICS_MAX: Final = 100
"""In one directive."""
VALUES_MAX: Final = 100
"""In the array of one metric."""
DIMENSIONS_MAX: Final = 30
"""In one set."""
NAMESPACE_MAX: Final = 255
NAME_MAX: Final = 1024
"""Characters of a metric's name, and of a dimension's value."""
DIMENSION_NAME_MAX: Final = 255
LINE_BYTES_MAX: Final = 1024 * 1024
VALUE_MAX: Final = 2.0**360
"""Values lie between this and its negative; NaN and the infinities are refused."""
RESOLUTIONS: Final = (1, 60)
_SIZES: Final = ("Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes")
_BITS: Final = ("Bits", "Kilobits", "Megabits", "Gigabits", "Terabits")
UNITS: Final = frozenset(
    (
        *("Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None"),
        *(unit + per for unit in (*_SIZES, *_BITS) for per in ("", "/Second")),
    )
)


class EmfError(ValueError):
    """CloudWatch would refuse the document; says why."""


def check_directive(directive: Any) -> None:
    """Check a member of CloudWatchMetrics. Raises EmfError."""
    if not isinstance(directive, dict):
        raise EmfError("a directive is not an object")
    _check_text("Namespace", directive.get("Namespace"), NAMESPACE_MAX)
    metrics = directive.get("Metrics")
    if not isinstance(metrics, list):
        raise EmfError("Metrics is not an array")
    if len(metrics) > METRICS_MAX:
        raise EmfError(f"{len(metrics)} metrics in one directive, and {METRICS_MAX} are allowed: flush earlier")
    for metric in metrics:
        _check_metric(metric)
    sets = directive.get("Dimensions")
    if sets is None:
        return
    if not isinstance(sets, list) or not all(isinstance(names, list) for names in sets):
        raise EmfError("Dimensions is not an array of arrays")
    for names in sets:
        if len(names) > DIMENSIONS_MAX:
            raise EmfError(f"{len(names)} dimensions in one set, and {DIMENSIONS_MAX} are allowed")
        for name in names:
            _check_text("a dimension's name", name, DIMENSION_NAME_MAX)


def _check_metric(metric: Any) -> None:
    if not isinstance(metric, dict):
        raise EmfError("a member of Metrics is not an object")
    _check_text("a metric's Name", metric.get("Name"), NAME_MAX)
    unit = metric.get("Unit")
    if unit is not None and unit not in UNITS:
        raise EmfError(f"metric {metric['Name']}: {unit!r} is no unit of CloudWatch's")
    resolution = metric.get("StorageResolution")
    if resolution is not None and resolution not in RESOLUTIONS:
        raise EmfError(f"metric {metric['Name']}: StorageResolution is {resolution!r}, not 1 or 60")


def _check_text(what: str, value: Any, most: int) -> None:
    if not isinstance(value, str):
        raise EmfError(f"{what} is {'missing' if value is None else 'no string'}")
    if not value.strip():
        raise EmfError(f"{what} is empty")
    if len(value) > most:
        raise EmfError(f"{what} has {len(value)} characters, and {most} are allowed")


def check_dimensions(values: Mapping[str, Any]) -> None:
    """Check the values that a line gives to its dimensions, by name. Raises EmfError."""
    for name, value in values.items():
        _check_text(f"dimension {name}", value, NAME_MAX)


def check_values(name: str, values: list[float]) -> None:
    """Check the values of one metric. Raises EmfError."""
    if len(values) > VALUES_MAX:
        raise EmfError(f"metric {name} has {len(values)} values, and {VALUES_MAX} are allowed: flush earlier")
    if values and not (max(values) <= VALUE_MAX and min(values) >= -VALUE_MAX):
        raise EmfError(f"metric {name} has a value beyond 2^360")
