"""Looks up figures in a result and formats them, for every kind of report."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from warmfront.results import Comparison, Result, Summary

# The project's aims, as times better: latency 50 -> 5 and 200 -> 15 ms, CPU 30 -> 8 %, memory 500 -> 50 MB.
AIMS = {"p50": 10.0, "p99": 10.0, "cpu_per_request": 4.0, "memory_peak": 10.0, "memory_at_equal_load": 10.0}

TITLES = {
    "p50": "p50",
    "p95": "p95",
    "p99": "p99",
    "p99.9": "p99.9",
    "max": "max",
    "throughput": "requests/s",
    "errors": "errors",
    "cpu_per_request": "CPU per request",
    "memory_peak": "peak memory",
    "memory_at_equal_load": "memory at equal load",
    "gb_seconds": "memory billed",
    "usd_per_million": "cost",
    "cold_p50": "cold start p50",
    "cold_p95": "cold start p95",
}
# Rows that calculate a comparison in another way: suffix of the metric -> title.
APART = {"_rounds": "round by round", "_net": "net of the emulator", "_all": "stalled blocks too"}
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
SAMPLES_BEYOND = 15  # a percentile with fewer samples beyond it is greyed
COLD_TO_WARM = "cold_to_warm"
BILLED = ("gb_seconds", "usd_per_million")
PARTS = ("emulator", "environments", "postgres", "redis")


@dataclass(frozen=True, slots=True)
class Index:
    """A result's summaries and comparisons by name, in their original order."""

    summaries: dict[tuple[str, str, str], Summary]
    comparisons: dict[tuple[str, str, str, str], Comparison]

    @classmethod
    def of(cls, result: Result) -> "Index":
        return cls(
            {(row.workload, row.variant, row.metric): row for row in result.summaries},
            {(row.workload, row.baseline, row.candidate, row.metric): row for row in result.comparisons},
        )

    def warm_workloads(self) -> list[str]:
        """Workloads with latencies. Memory at equal load alone makes no row in a table of requests."""
        return unique(workload for workload, _, metric in self.summaries if not _apart(metric))

    def cold_workloads(self) -> list[str]:
        return unique(workload for workload, _, metric in self.summaries if metric.startswith("cold_"))

    def variants(self, workload: str) -> list[str]:
        return unique(variant for name, variant, _ in self.summaries if name == workload)

    def value(self, workload: str, variant: str, metric: str) -> Summary | None:
        return self.summaries.get((workload, variant, metric))

    def pairs(self, workload: str, *, same: bool = False) -> list[tuple[str, str]]:
        """Return the (baseline, candidate) pairs of a workload; with `same`, its A/A pairs."""
        return unique(
            (baseline, candidate)
            for name, baseline, candidate, metric in self.comparisons
            if name == workload and (baseline == candidate) is same and metric != COLD_TO_WARM
        )

    def parts(self, metric: str) -> list[str]:
        """Return the parts of a metric: known ones first, in the order in which a request passes them."""
        found = unique(name.partition("/")[2] for _, _, name in self.summaries if name.startswith(f"{metric}/"))
        return [part for part in PARTS if part in found] + [part for part in found if part not in PARTS]


def _apart(metric: str) -> bool:
    return metric.startswith("cold_") or metric.partition("/")[0].endswith("_at_equal_load") or metric in BILLED


def unique[T](items: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(items))


def too_few(row: Summary) -> bool:
    """Return whether a percentile has too few samples beyond it to be meaningful."""
    q = PERCENTILES.get(row.metric.removesuffix("_net").removeprefix("cold_").partition("/")[0])
    return q is not None and row.n * (1.0 - q) < SAMPLES_BEYOND * (1 - 1e-9)


def number(value: float | None) -> str:
    """Format with three significant digits and without an exponent: a line's figures can span six decades."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.01 else f"{value:.3f}"


def times(row: Comparison) -> str:
    return f"{number(row.ratio)} [{number(row.low)}, {number(row.high)}]"


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60} s"


def machine_line(machine: dict[str, Any]) -> str:
    memory = machine.get("memory_bytes")
    parts = [
        machine.get("cpu"),
        f"{machine['cores_usable']} cores" if "cores_usable" in machine else None,
        f"{memory / 2**30:.0f} GiB" if isinstance(memory, int | float) else None,
        machine.get("kernel"),
        machine.get("python"),
    ]
    return ", ".join(str(part) for part in parts if part)


def short_machine_line(machine: dict[str, Any]) -> str:
    """Processor, cores and memory: what fits half a line."""
    memory = machine.get("memory_bytes")
    parts = [
        machine.get("cpu"),
        f"{machine['cores_usable']} cores" if "cores_usable" in machine else None,
        f"{memory / 2**30:.0f} GiB" if isinstance(memory, int | float) else None,
    ]
    return ", ".join(str(part) for part in parts if part)


def backing_line(backing: dict[str, Any]) -> str:
    """Describe the versions and origins of the backing services, which every figure depends on."""
    found = []
    for name, facts in backing.items():
        if isinstance(facts, dict):
            version = str(facts.get("version", "")).strip()
            origin = str(facts.get("origin", "")).strip()
            found.append(
                " ".join(part for part in (name.capitalize(), version, f"({origin})" if origin else "") if part)
            )
    return ", ".join(found)


def day_and_time(created: str) -> str:
    try:
        return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return created
