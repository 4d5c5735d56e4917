"""Metrics that handlers print and counts of the emulator are exposed to Prometheus, exact and bounded."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families
from warmfront.emulator.lambda_service.environments.environment import Environment
from warmfront.emulator.observe import emf as emf_module
from warmfront.emulator.observe.emf import Emf
from warmfront.emulator.observe.exposition_names import ExpositionNames
from warmfront.emulator.observe.observation import BATCH, CHUNK_BYTES_MAX
from warmfront.emulator.observe.observatory import Observatory
from warmfront.emulator.observe.processes import use_of
from warmfront.emulator.observe.recorder import BUCKETS_S, RECORDS_MAX, Ended, FunctionBook, Histogram, Seconds
from warmfront.emulator.template import load_template

from tests.emulator.observe.watched import TEMPLATE, ask
from tests.emulator.serving import Served, serve


def line(name: str = "Latency", value: object = 1.0, unit: str = "Milliseconds", **dimensions: object) -> bytes:
    directive = {"Namespace": "Shop", "Dimensions": [list(dimensions)], "Metrics": [{"Name": name, "Unit": unit}]}
    return (
        json.dumps({"_aws": {"Timestamp": 1, "CloudWatchMetrics": [directive]}, **dimensions, name: value}).encode()
        + b"\n"
    )


def read(*chunks: tuple[str, bytes]) -> Emf:
    """What chunks of one function's output, each with its environment, come to."""
    found = Emf()
    found.read(("F", environment, output) for environment, output in chunks)
    return found


def test_every_value_of_a_metric_is_counted_where_it_belongs() -> None:
    found = read(("e1", b"START\n" + line(value=[0.9, 600.0]) + b"[INFO] text\n" + line(value=2000)))
    (series,) = found.series.values()
    assert series.histogram.count == 3
    assert series.histogram.total == pytest.approx(2600.9)
    assert series.histogram.counts[0] == series.histogram.counts[-2] == series.histogram.counts[-1] == 1
    assert series.last == 2000


def test_lines_of_one_function_with_other_dimensions_are_other_series() -> None:
    found = read(*(("e1", line(shop=shop)) for shop in ("north", "south", "north")))
    counts = {key.dimensions: series.histogram.count for key, series in found.series.items()}
    assert counts == {(("shop", "north"),): 2, (("shop", "south"),): 1}


def test_a_handler_may_print_other_metrics_by_turns() -> None:
    shop, other = (
        line(value=[1.0, 2.0]),
        line("Size", "large", "Bytes", Latency="a dimension") + line("Size", 7, "Bytes"),
    )
    found = read(*(("e1", output) for output in (shop, other, shop, other)))
    assert found.unreadable_lines == 2, "a size that is a word"
    assert {key.name: series.histogram.count for key, series in found.series.items()} == {"Latency": 4, "Size": 2}


def test_values_with_counts_stand_for_as_many() -> None:
    (series,) = read(("e1", line(value={"Values": [1, 5], "Counts": [3, 1]}))).series.values()
    assert (series.histogram.count, series.histogram.total) == (4, 8.0)


@pytest.mark.parametrize(
    "broken",
    [
        b'{"_aws": {"CloudWatchMetrics": [{"Namespace": "Shop"',
        b'{"_aws": 1}',
        b'{"_aws": {"CloudWatchMetrics": [{"Namespace": "S", "Metrics": [{"Name": "a"}], "Dimensions": [["absent"]]}]}, "a": 1}',
        b'{"_aws": {"CloudWatchMetrics": [{"Namespace": "S", "Metrics": [{"Name": "a"}]}]}, "a": "many"}',
        b'no json with "_aws" in it',
        b'{"_aws": {"CloudWatchMetrics": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"_aws": {"CloudWatchMetrics": [{"Namespace": "S", "Metrics": [{"Name": "a"}]}]}, "a": {"Values": [1], "Counts": [null]}}',
    ],
)
def test_a_line_that_is_no_metric_is_counted_and_harms_nothing(broken: bytes) -> None:
    found = read(("e1", broken + b"\n" + line()))
    assert found.unreadable_lines == 1
    assert [series.histogram.count for key, series in found.series.items() if key.name == "Latency"] == [1]


@pytest.mark.parametrize("nothing", [[], {"Values": [], "Counts": []}, {"Values": [3], "Counts": [0]}])
def test_a_metric_without_a_value_says_nothing_and_harms_nothing(nothing: object) -> None:
    found = read(("e1", line("ConnectionsOpen", nothing) + line()))
    assert found.unreadable_lines == 0
    assert found.pool("F", {"e1"}) is None
    assert {key.name: series.histogram.count for key, series in found.series.items()}["Latency"] == 1


def test_of_a_line_that_cannot_be_read_to_its_end_nothing_counts() -> None:
    parts = [
        {"Namespace": "Shop", "Metrics": [{"Name": "Latency"}]},
        {"Namespace": "Shop", "Metrics": [{"Name": "Size"}], "Dimensions": [["absent"]]},
    ]
    half = json.dumps({"_aws": {"CloudWatchMetrics": parts}, "Latency": 5, "Size": 1}).encode()
    found = read(("e1", half + b"\n" + line(value=1)))
    assert found.unreadable_lines == 1
    assert sum(series.histogram.total for series in found.series.values()) == 1


def test_a_log_line_that_quotes_a_metric_is_a_log_line() -> None:
    quoting = json.dumps({"message": "sent", "payload": json.loads(line())}).encode()
    for output in (quoting + b"\n", line() + quoting + b"\n"):
        assert read(("e1", output)).unreadable_lines == 0


def test_what_a_value_stands_for_beyond_the_most_is_counted_as_dropped() -> None:
    found = read(("e1", line(value={"Values": [1, 2], "Counts": [emf_module.COUNT_MAX + 7, 1]})))
    (series,) = found.series.values()
    assert (series.histogram.count, found.dropped_values) == (emf_module.COUNT_MAX + 1, 7)


def test_dimensions_without_end_make_no_series_without_end() -> None:
    found = read(*(("e1", line(user=f"user-{number}")) for number in range(emf_module.SERIES_OF_A_METRIC_MAX + 50)))
    assert len(found.series) == emf_module.SERIES_OF_A_METRIC_MAX
    assert found.dropped_values == 50


def test_a_pool_is_what_living_environments_hold_of_the_budget() -> None:
    assert Emf().pool("F", {"e1"}) is None
    held = [(name, line("ConnectionsOpen", [count], "Count")) for name, count in (("e1", 3), ("e2", 4), ("e2", 2))]
    budget = {"Namespace": "Shop", "Metrics": [{"Name": "ConnectionBudget"}, {"Name": "ConnectionsOpen"}]}
    told = json.dumps({"_aws": {"CloudWatchMetrics": [budget]}, "ConnectionBudget": 10}).encode()
    found = read(*held, ("e1", told))
    pool = found.pool("F", {"e1", "e2"})
    assert pool is not None
    assert (pool.open, pool.budget, pool.utilisation) == (5, 10, 0.5)
    gone = found.pool("F", {"e2"})
    assert gone is not None
    assert gone.open == 2


def test_a_circuit_is_known_by_the_line_that_says_it_moved() -> None:
    moves = (("e1", "open"), ("e2", "open"), ("e1", "half_open"), ("e3", "open"))
    found = read(*((name, json.dumps({"circuit": "database", "to_state": state}).encode()) for name, state in moves))
    assert list(found.circuits("F", {"e1", "e2"})) == [("database", {"half_open": 1, "open": 1})]


def observed(do: Callable[[Observatory, Environment], None]) -> Observatory:
    """An observatory after `do`, and after its timer."""

    async def main() -> Observatory:
        observatory = Observatory(load_template(TEMPLATE))
        do(observatory, cast(Environment, SimpleNamespace(id="e1")))
        observatory.close()
        return observatory

    return asyncio.run(main())


def test_output_is_read_before_much_of_it_waits_and_none_is_lost() -> None:
    waited: list[int] = []
    count = 3 * BATCH + 7

    def print_much(observatory: Observatory, environment: Environment) -> None:
        for _ in range(count):
            observatory.printed("F", environment, line())
            read_so_far = sum(series.histogram.count for series in observatory.emf.series.values())
            waited.append(len(waited) + 1 - read_so_far)

    (series,) = observed(print_much).emf.series.values()
    assert series.histogram.count == count
    assert max(waited) < BATCH


def test_what_was_printed_is_read_soon_though_nobody_asks() -> None:
    async def main() -> None:
        observatory = Observatory(load_template(TEMPLATE))
        was_read, read_now = asyncio.Event(), observatory.emf.read

        def read_and_tell(chunks: Iterable[tuple[str, str, bytes]]) -> None:
            read_now(chunks)
            was_read.set()

        observatory.emf.read = read_and_tell  # type: ignore[method-assign]
        observatory.printed("F", cast(Environment, SimpleNamespace(id="e1")), line())
        assert not observatory.emf.series
        await asyncio.wait_for(was_read.wait(), 10)
        assert [series.histogram.count for series in observatory.emf.series.values()] == [1]
        observatory.close()

    asyncio.run(main())


def test_a_long_output_waits_for_no_other() -> None:
    def print_long(observatory: Observatory, environment: Environment) -> None:
        observatory.printed("F", environment, line() + b"x" * CHUNK_BYTES_MAX)
        assert observatory.emf.series

    observed(print_long)


def test_a_batch_is_counted_as_its_values_one_by_one() -> None:
    values = random.Random(1).choices((0.0, 1.0, 2.0, 2.5, 9.0), k=50)
    together, apart = Histogram((1.0, 2.0, 4.0)), Histogram((1.0, 2.0, 4.0))
    together.add_all(values)
    for value in values:
        apart.add_all([value])
    assert together.counts == apart.counts
    assert together.total == pytest.approx(apart.total)


def test_latency_buckets_run_from_a_millisecond_to_a_second_with_the_alarms_half_among_them() -> None:
    assert (BUCKETS_S[0], BUCKETS_S[-1]) == (0.001, 1.0)
    assert 0.5 in BUCKETS_S


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0, 4.0))
    assert histogram.quantile(0.5) is None
    histogram.add_all([0.5, 1.5, 3.0, 3.0])
    assert histogram.quantile(0.5) == 2.0
    assert histogram.quantile(0.75) == 3.0
    histogram.add_all([100.0])
    assert histogram.quantile(0.99) == 4.0


def test_a_batch_that_spans_seconds_counts_in_each() -> None:
    def ended(at_s: float, status: str, init_ms: float | None) -> Ended:
        at_ns = int(at_s * 1e9)
        return Ended(at_ns, "r", "", status, None, at_ns, at_ns, 3.0, init_ms, None, 30, "e1", 0, 0, b"", "F")

    book = FunctionBook()
    book.add_all([ended(100.2, "ok", 90.0), ended(100.9, "error", None), ended(101.1, "ok", None)])
    assert [book.seconds.at(number).requests for number in (100, 101)] == [2, 1]
    assert (book.durations.count, book.inits.count) == (3, 1)
    assert [each.status for each in book.records] == ["ok", "error", "ok"], "each once"
    book.add_all([ended(102.0, "ok", None)] * RECORDS_MAX)
    assert [each.status for each in book.records] == ["error"] + ["ok"] * RECORDS_MAX, "the failed one is kept longer"


def test_percentiles_of_a_minute_weigh_each_second_with_its_requests() -> None:
    seconds = Seconds()
    for number, count, latency_ms in ((100, 1000, 1.0), (101, 20, 50.0)):
        seconds.at(number).add_all([latency_ms] * count)
    assert seconds.percentiles(102) == [1.0, 1.0, 50.0]
    assert seconds.percentiles(200) == [None, None, None], "a minute later nothing of it is left"


@pytest.mark.parametrize(
    ("namespace", "name", "unit", "expected"),
    [
        ("Warmfront", "ConnectionsOpen", "Count", "emf_warmfront_connections_open"),
        ("Some/Shop", "Orders Placed", "Count", "emf_some_shop_orders_placed"),
        ("A", "HTTPLatency", "Milliseconds", "emf_a_http_latency_milliseconds"),
        ("A", "size_bytes", "Bytes", "emf_a_size_bytes"),
    ],
)
def test_names_are_made_fit_for_prometheus(namespace: str, name: str, unit: str, expected: str) -> None:
    assert ExpositionNames().family(namespace, name, unit) == expected


def test_a_dimension_takes_no_name_of_ours() -> None:
    assert [ExpositionNames().label("N", name) for name in ("service", "function", "le", "1st", "a-b")] == [
        "service", "dimension_function", "dimension_le", "dimension_1st", "a_b",
    ]  # fmt: skip


def test_the_use_of_a_process_holds_that_of_its_children() -> None:
    command = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(40_000_000); print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with_children, alone = use_of(process.pid), use_of(process.pid, children=False)
        process.communicate(b"\n")
    assert with_children.resident_bytes - alone.resident_bytes > 40_000_000
    assert use_of(process.pid).resident_bytes == 0
    assert use_of(os.getpid()).cpu_s > 0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    log = tmp_path_factory.mktemp("metrics") / "functions.log"
    with serve(TEMPLATE, "--log-file", str(log), "--log-format", "json") as served:
        for path in ("/powertools", "/powertools", "/powertools?fail=1", "/greedy", "/nowhere"):
            ask(served, path, {"Authorization": "Bearer secret-token", "Cookie": "session=secret-cookie"})
        served.samples = samples(ask(served, "/_warmfront/metrics")[2])  # type: ignore[attr-defined]
        served.stop()
        served.log = log.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    return served


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, frozenset(sample.labels.items()))] = sample.value
    return found


def value(served: Served, name: str, **labels: str) -> float | None:
    """The sum of all samples with these labels among theirs."""
    wanted = set(labels.items())
    known: dict[tuple[str, frozenset[tuple[str, str]]], float] = served.samples  # type: ignore[attr-defined]
    found = [number for (each, pairs), number in known.items() if each == name and wanted <= pairs]
    return sum(found) if found else None


def test_a_strangers_powertools_metrics_show_up_with_no_configuration(served: Served) -> None:
    labels = {"function": "Powertools", "service": "checkout", "shop": "north"}
    assert value(served, "emf_some_shop_orders_placed_sum", **labels) == 3
    assert value(served, "emf_some_shop_checkout_milliseconds_count", **labels) == 3
    assert value(served, "emf_some_shop_checkout_milliseconds_bucket", le="25.0", **labels) == 3
    assert value(served, "emf_some_shop_checkout_milliseconds_bucket", le="10.0", **labels) == 0
    assert value(served, "emf_some_shop_cold_start_sum", function="Powertools", function_name="Powertools") == 1


def test_requests_are_counted_by_route_function_and_class_of_status(served: Served) -> None:
    labels = {"route": "GET /powertools", "function": "Powertools"}
    assert value(served, "warmfront_requests_total", status_class="2xx", **labels) == 2
    assert value(served, "warmfront_requests_total", status_class="5xx", **labels) == 1
    assert value(served, "warmfront_requests_total", status_class="4xx", route="", function="") == 1
    assert value(served, "warmfront_request_duration_seconds_count", **labels) == 3


def test_openmetrics_shows_the_trace_of_a_slow_request_in_its_bucket() -> None:
    with serve(TEMPLATE) as served:
        _, headers, _ = ask(served, "/powertools")
        openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
        until_answered = 0
        while "trace_id=" not in (page := ask(served, "/_warmfront/metrics", openmetrics)[2]):
            until_answered += 1
            assert until_answered < 100, "no exemplar"
        (line,) = [each for each in page.splitlines() if "trace_id=" in each and each.startswith("warmfront_request_")]
        traces = [
            (sample.exemplar.labels["trace_id"], sample.exemplar.value <= float(sample.labels["le"]))
            for family in parse_open_metrics(page)  # type: ignore[no-untyped-call]
            for sample in family.samples
            if sample.exemplar is not None
        ]
        assert traces == [(headers["x-amzn-trace-id"].partition("Root=")[2].partition(";")[0], True)]
        status, _, body = ask(served, f"/_warmfront/traces/{traces[0][0]}")
        assert (status, json.loads(body)["trace_id"]) == (200, traces[0][0])
        assert "trace_id=" not in ask(served, "/_warmfront/metrics")[2], line


def test_functions_have_their_counters_environments_processor_time_and_memory(served: Served) -> None:
    labels = {"function": "Powertools"}
    figures = {
        name: value(served, f"warmfront_{name}_total", **labels)
        for name in ("invocations", "errors", "cold_starts", "throttles")
    }
    assert figures == {"invocations": 3, "errors": 1, "cold_starts": 1, "throttles": 0}
    assert value(served, "warmfront_environments", **labels) == 1
    assert value(served, "warmfront_concurrency", **labels) == 0
    assert value(served, "warmfront_concurrency_limit", function="Greedy") == 2
    assert (value(served, "warmfront_cpu_seconds_total", **labels) or 0) > 0
    assert (value(served, "warmfront_memory_bytes", **labels) or 0) > 5_000_000
    assert value(served, "warmfront_init_duration_seconds_count", **labels) == 1


def test_pool_utilisation_is_connections_open_of_the_budget(served: Served) -> None:
    assert value(served, "warmfront_pool_utilisation_ratio", function="Greedy") == 1.0
    assert value(served, "warmfront_pool_utilisation_ratio", function="Powertools") is None


def test_nothing_was_dropped(served: Served) -> None:
    assert value(served, "warmfront_observe_dropped_total") == 0


def test_each_request_has_one_line_of_access_log_and_no_secret_is_in_any(served: Served) -> None:
    text: str = served.log  # type: ignore[attr-defined]
    entries = [json.loads(each) for each in text.splitlines()]
    lines = [entry["message"] for entry in entries if entry["function"] == "access"]
    assert [(each["path"], each["status"]) for each in lines] == [
        ("/powertools", 200), ("/powertools", 200), ("/powertools", 500), ("/greedy", 200), ("/nowhere", 404),
    ]  # fmt: skip
    assert lines[0]["routeKey"] == "GET /powertools"
    assert lines[0]["function"] == "Powertools"
    assert "secret" not in text


def test_a_functions_log_carries_the_requests_correlation_id_and_trace(served: Served) -> None:
    text: str = served.log  # type: ignore[attr-defined]
    messages = [json.loads(each)["message"] for each in text.splitlines()]
    order = next(each for each in messages if isinstance(each, dict) and each.get("message") == "an order")
    access = next(each for each in messages if isinstance(each, dict) and each.get("routeKey") == "GET /powertools")
    assert order["correlation_id"] == access["requestId"]
    assert order["xray_trace_id"] == access["xrayTraceId"]


def test_without_observation_there_are_no_metrics_and_no_access_log(tmp_path: Path) -> None:
    with serve(TEMPLATE, "--no-observe", "--log-file", str(tmp_path / "log")) as served:
        status, headers, body = ask(served, "/greedy")
        assert status == 200
        assert "Sampled=1" not in body
        assert "x-amzn-trace-id" not in headers
        assert ask(served, "/_warmfront/metrics")[0] == 404
        served.stop()
    assert "access:" not in (tmp_path / "log").read_text(encoding="utf-8")
