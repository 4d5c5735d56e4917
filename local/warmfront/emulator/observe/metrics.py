"""Exposes what the observatory knows as Prometheus metrics, collected at each scrape."""

import os
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UntypedMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from warmfront.emulator.lambda_service.environments.phases import Phase
from warmfront.emulator.lambda_service.trace_header import root
from warmfront.emulator.observe.emf import Series
from warmfront.emulator.observe.exposition_names import ExpositionNames
from warmfront.emulator.observe.observatory import Observatory
from warmfront.emulator.observe.processes import Use, use_of
from warmfront.emulator.observe.recorder import Exemplar as RequestExemplar
from warmfront.emulator.observe.recorder import Histogram


def registry_of(observatory: Observatory) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(ObservatoryCollector(observatory))
    return registry


class ObservatoryCollector(Collector):
    """Every metric family, anew for each scrape."""

    def __init__(self, observatory: Observatory) -> None:
        self._observatory = observatory
        self._names = ExpositionNames()

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of the first scrape: which metrics there are depends on what handlers print."""
        return []

    def collect(self) -> Iterator[Metric]:
        self._observatory.settle()
        yield from self._requests()
        yield from self._invocations()
        yield from self._environments()
        yield from self._pools()
        yield from self._emf()
        yield from self._own()

    def _requests(self) -> Iterator[Metric]:
        labels = ["api", "route", "function"]
        count = CounterMetricFamily(
            "warmfront_requests",
            "HTTP requests answered; `route` is empty where no route took one",
            labels=[*labels, "status_class"],
        )
        latency = HistogramMetricFamily(
            "warmfront_request_duration_seconds", "From the request to its answer, in the gateway", labels=labels
        )
        for key, book in self._observatory.routes.items():
            for first_digit, answers in enumerate(book.answers):
                if first_digit:
                    count.add_metric([*key, f"{first_digit}xx"], answers)
            buckets, total = _histogram(book.latency)
            marked: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
                bucket if (exemplar := self._exemplar(found)) is None else (*bucket, exemplar)
                for bucket, found in zip(buckets, book.exemplars, strict=True)
            ]
            latency.add_metric(key, marked, total)
        yield count
        yield latency

    def _exemplar(self, found: RequestExemplar | None) -> Exemplar | None:
        """Shown in OpenMetrics' form only: the trace of a request that fell into a bucket."""
        if found is None:
            return None
        labels = {"trace_id": root(found.trace_header)}
        return Exemplar(labels, found.latency_s, self._observatory.unix_s(found.ended_ns))

    def _invocations(self) -> Iterator[Metric]:
        counters = {
            "invocations": "Invocations admitted",
            "errors": "Invocations that ended in an error or a timeout",
            "throttles": "Invocations refused for want of concurrency",
            "cold_starts": "Invocations that had to wait for an init",
        }
        functions = self._observatory.service.functions if self._observatory.service is not None else {}
        for name, about in counters.items():
            family = CounterMetricFamily(f"warmfront_{name}", about, labels=["function"])
            for logical_id, function in functions.items():
                family.add_metric([logical_id], getattr(function.counters, name))
            yield family
        duration = HistogramMetricFamily(
            "warmfront_invocation_duration_seconds", "REPORT's Duration", labels=["function"]
        )
        init = HistogramMetricFamily(
            "warmfront_init_duration_seconds", "REPORT's Init Duration, of cold starts", labels=["function"]
        )
        for logical_id in functions:
            book = self._observatory.functions[logical_id]
            duration.add_metric([logical_id], *_histogram(book.durations))
            init.add_metric([logical_id], *_histogram(book.inits))
        yield duration
        yield init

    def _environments(self) -> Iterator[Metric]:
        phases = GaugeMetricFamily(
            "warmfront_environments", "Execution environments by phase", labels=["function", "phase"]
        )
        in_flight = GaugeMetricFamily("warmfront_concurrency", "Invocations in flight", labels=["function"])
        limit = GaugeMetricFamily("warmfront_concurrency_limit", "Reserved concurrency", labels=["function"])
        cpu = CounterMetricFamily(
            "warmfront_cpu_seconds", "CPU time of the function's processes, ended ones too", labels=["function"]
        )
        memory = GaugeMetricFamily(
            "warmfront_memory_bytes", "Resident memory of the function's processes", labels=["function"]
        )
        size = GaugeMetricFamily(
            "warmfront_memory_limit_bytes", "Memory that one environment may hold", labels=["function"]
        )
        functions = self._observatory.service.functions if self._observatory.service is not None else {}
        for name, function in functions.items():
            alive = list(function.environments.values())
            for phase in Phase:
                phases.add_metric([name, phase.value], sum(each.phase is phase for each in alive))
            in_flight.add_metric([name], function.in_flight)
            if function.config.reserved_concurrency is not None:
                limit.add_metric([name], function.config.reserved_concurrency)
            uses = [use_of(each.pid) for each in alive if each.pid is not None]
            total = Use(sum(each.cpu_s for each in uses), sum(each.resident_bytes for each in uses))
            cpu.add_metric([name], function.fleet.exited_cpu_s + total.cpu_s)
            memory.add_metric([name], total.resident_bytes)
            size.add_metric([name], function.config.memory_mb * 1024 * 1024)
        yield from (phases, in_flight, limit, cpu, memory, size)

    def _pools(self) -> Iterator[Metric]:
        opened = GaugeMetricFamily(
            "warmfront_pool_connections_open", "ConnectionsOpen over all living environments", labels=["function"]
        )
        budget = GaugeMetricFamily("warmfront_pool_connection_budget", "ConnectionBudget", labels=["function"])
        used = GaugeMetricFamily(
            "warmfront_pool_utilisation_ratio", "ConnectionsOpen / ConnectionBudget", labels=["function"]
        )
        circuits = GaugeMetricFamily(
            "warmfront_circuit_environments",
            "Environments by the state of a circuit that has moved in them",
            labels=["function", "circuit", "state"],
        )
        for name in self._observatory.functions:
            alive = self._observatory.environments(name)
            pool = self._observatory.emf.pool(name, alive)
            if pool is not None:
                opened.add_metric([name], pool.open)
                if pool.budget is not None and pool.utilisation is not None:
                    budget.add_metric([name], pool.budget)
                    used.add_metric([name], pool.utilisation)
            for circuit, states in self._observatory.emf.circuits(name, alive):
                for state, count in states.items():
                    circuits.add_metric([name, circuit, state], count)
        yield from (opened, budget, used, circuits)

    def _emf(self) -> Iterator[Metric]:
        """Each metric of a handler as a histogram in its own unit, and its last value (for what is no distribution)."""
        families: dict[str, tuple[Metric, Metric, Metric]] = {}
        for key, series in self._observatory.emf.series.items():
            name = self._names.family(key.namespace, key.name, key.unit)
            if name not in families:
                about = " ".join(f"{key.name} of namespace {key.namespace}, in {key.unit}".split())
                families[name] = (
                    Metric(name, about, "histogram"),
                    UntypedMetricFamily(f"{name}_last", f"The last value of {about}"),
                    UntypedMetricFamily(f"{name}_signed_sum", f"The sum of {about}, where it is negative"),
                )
            labels = {
                "function": key.function,
                **{self._names.label(key.namespace, name): value for name, value in key.dimensions},
            }
            _add_series(families[name], name, labels, series)
        for histogram, last, signed_sum in families.values():
            yield histogram
            yield last
            if signed_sum.samples:
                yield signed_sum

    def _own(self) -> Iterator[Metric]:
        observatory = self._observatory
        dropped = CounterMetricFamily(
            "warmfront_observe_dropped", "What was not counted because there was too much of it", labels=["what"]
        )
        dropped.add_metric(["emf_values"], observatory.emf.dropped_values)
        dropped.add_metric(["emf_unreadable_lines"], observatory.emf.unreadable_lines)
        dropped.add_metric(["segments"], observatory.segments.dropped)
        yield dropped
        own = use_of_self()
        yield CounterMetricFamily("warmfront_emulator_cpu_seconds", "CPU time of the emulator's process", own.cpu_s)
        yield GaugeMetricFamily(
            "warmfront_emulator_memory_bytes", "Resident memory of the emulator's process", own.resident_bytes
        )


def use_of_self() -> Use:
    """Without the children, which have rows of their own."""
    times = os.times()
    return Use(times.user + times.system, use_of(os.getpid(), children=False).resident_bytes)


def _add_series(families: tuple[Metric, Metric, Metric], name: str, labels: dict[str, str], series: Series) -> None:
    """A negative sum is no sample of a histogram (OpenMetrics: counter-like), so it has a family of its own."""
    histogram, last, signed_sum = families
    buckets, total = _histogram(series.histogram)
    for bound, count in buckets:
        histogram.add_sample(f"{name}_bucket", {**labels, "le": bound}, count)
    if total < 0:
        signed_sum.add_sample(f"{name}_signed_sum", labels, total)
    else:
        histogram.add_sample(f"{name}_count", labels, buckets[-1][1])
        histogram.add_sample(f"{name}_sum", labels, total)
    last.add_sample(f"{name}_last", labels, series.last)


def _histogram(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets and the sum, as the exposition wants them."""
    cumulative, buckets = 0, []
    for bound, count in zip([*map(repr, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        cumulative += count
        buckets.append((bound, float(cumulative)))
    return buckets, histogram.total
