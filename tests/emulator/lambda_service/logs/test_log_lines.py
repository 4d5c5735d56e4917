"""The log as CloudWatch would hold it: platform lines to the letter, the handler's own in between, as text and as JSON."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.harness import REQUEST_ID, Harness, function, running, until

TRACE = "Root=1-69000000-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled="
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    as_json: dict[str, Any] = {"log_format": "JSON"}
    functions = [
        function("says", "outcomes.says", memory_mb=512),
        function("logs", "surroundings.logs"),
        function("raises", "outcomes.raises"),
        function("sleeps", "outcomes.sleeps", timeout_s=2),
        function("prints", "outcomes.prints"),
        function("prints_late", "outcomes.prints_late"),
        function("traced", "outcomes.echo", tracing=True),
        function("json", "outcomes.says", **as_json, memory_mb=512),
        function("json_raises", "outcomes.raises", **as_json),
        function("json_ends", "outcomes.ends", **as_json),
        function("json_sleeps", "outcomes.sleeps", **as_json, timeout_s=1),
        function("json_broken", "broken.handler", **as_json),
        function("json_debug", "outcomes.says", **as_json, system_log_level="DEBUG"),
        function("json_warn", "outcomes.ends", **as_json, system_log_level="WARN"),
        function("json_traced", "outcomes.echo", **as_json, tracing=True),
        function("json_logs", "surroundings.logs", **as_json),
    ]
    with running(tmp_path_factory.mktemp("logs"), *functions) as harness:
        yield harness


def test_a_cold_and_a_warm_invocation_log_these_lines_and_no_others(service: Harness) -> None:
    cold = service.invoke("says", {"a": 1})
    request_id = cold.result.request_id
    expected = [
        r"INIT_START Runtime Version: python:3\.13\.warmfront\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:[0-9a-f]{64}",
        rf"START RequestId: {request_id} Version: \$LATEST",
        "one",
        "two",
        rf"END RequestId: {request_id}",
        rf"REPORT RequestId: {request_id}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 512 MB\t"
        r"Max Memory Used: \d+ MB\tInit Duration: \d+\.\d\d ms\t",
    ]
    assert len(cold.lines) == len(expected)
    for line, pattern in zip(cold.lines, expected, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)
    warm = service.invoke("says", {"a": 1})
    request_id = warm.result.request_id
    assert warm.lines[:-1] == [
        f"START RequestId: {request_id} Version: $LATEST", "one", "two", f"END RequestId: {request_id}"
    ]  # fmt: skip
    assert re.fullmatch(
        rf"REPORT RequestId: {request_id}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 512 MB\t"
        r"Max Memory Used: \d+ MB\t",
        warm.lines[-1],
    )


def test_the_billed_duration_is_rounded_up_and_has_the_init_in_it(service: Harness) -> None:
    service.settled("says")
    service.run(service.function("says").retire())
    for outcome in (service.invoke("says"), service.invoke("says")):
        duration, billed, init = (
            float(found[1]) if (found := re.search(rf"\t{name}: ([0-9.]+) ms", outcome.report)) else 0.0
            for name in ("Duration", "Billed Duration", "Init Duration")
        )
        assert duration + init <= billed + 0.02
        assert billed < duration + init + 1.02


def test_a_logger_writes_the_request_id(service: Harness) -> None:
    outcome = service.invoke("logs", "something")
    assert any(
        re.fullmatch(rf"\[INFO\]\t{TIME}\t{outcome.result.request_id}\tsaid something", line) for line in outcome.lines
    )


def test_an_exception_is_logged_with_its_line_breaks(service: Harness) -> None:
    outcome = service.invoke("raises")
    at = outcome.lines.index("[ERROR] ValueError: boom")
    parts = outcome.lines[at : at + 3]
    assert parts[:2] == ["[ERROR] ValueError: boom", "Traceback (most recent call last):"]
    assert parts[2].startswith('\u00a0\u00a0File "')
    assert outcome.report.endswith("\t"), "a handler's own exception is no failure of the platform"


def test_the_log_of_a_long_invocation_is_written_as_it_comes(service: Harness) -> None:
    before = len(service.chunks)

    async def look() -> tuple[str, str]:
        call = asyncio.ensure_future(service.invoke_async("sleeps", 1.6))
        await until(lambda: "asleep" in service.log("sleeps", before))
        early = service.log("sleeps", before)
        assert not call.done()
        await call
        return early, service.log("sleeps", before)

    early, whole = service.run(look())
    assert early.splitlines()[-2].startswith("START ")
    assert whole.startswith(early)
    assert [line.split()[0] for line in whole.splitlines()] == ["INIT_START", "START", "asleep", "END", "REPORT"]


def test_what_a_thread_prints_after_the_answer_is_not_lost(service: Harness) -> None:
    for _ in range(3):
        before = len(service.chunks)
        service.invoke("prints_late")
        service.until(lambda since=before: "late" in service.log("prints_late", since))  # type: ignore[misc]


def test_what_is_printed_between_invocations_is_read_where_nothing_freezes(tmp_path: Path) -> None:
    with running(tmp_path, function("prints_late", "outcomes.prints_late"), freeze=False) as harness:
        harness.invoke("prints_late")
        harness.until(lambda: "late" in harness.log("prints_late"))


def test_the_tail_of_a_long_invocation_is_whole(service: Harness) -> None:
    outcome = service.invoke("sleeps", 1.3, tail=True)
    assert outcome.result.log_tail is not None
    assert [line.split()[0] for line in outcome.result.log_tail.decode().splitlines()] == [
        "START",
        "asleep",
        "END",
        "REPORT",
    ]
    assert outcome.log.count("asleep") == 1


def test_a_tail_is_the_last_four_kilobytes(service: Harness) -> None:
    short = service.invoke("says", None, tail=True).result.log_tail
    assert short is not None
    assert short.startswith(b"START ")
    assert short.endswith(b"\t\n")
    long = service.invoke("prints", 10_000, tail=True).result.log_tail
    assert long is not None
    assert len(long) == 4096
    assert long.startswith(b"xxx")
    assert b"REPORT " in long
    assert service.invoke("says").result.log_tail is None


def test_traced_invocations_that_are_sampled_have_an_xray_line(service: Harness) -> None:
    sampled = service.invoke("traced", trace_id=TRACE + "1")
    assert sampled.lines[-1] == (
        "XRAY TraceId: 1-69000000-0123456789abcdef01234567\tSegmentId: 0123456789abcdef\tSampled: true"
    )
    assert sampled.lines[-2].startswith("REPORT ")
    assert "XRAY" not in service.invoke("traced", trace_id=TRACE + "0").log
    assert "XRAY" not in service.invoke("says", trace_id=TRACE + "1").log


# -- JSON --------------------------------------------------------------------------------------------------------------


def records(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def kinds(log: str) -> list[str]:
    return [record["type"] for record in records(log) if "type" in record]


def test_json_logs_have_init_start_start_and_report(service: Harness) -> None:
    outcome = service.invoke("json", "x")
    assert [line if line in ("one", "two") else "{}" for line in outcome.lines] == ["{}", "{}", "one", "two", "{}"]
    init, start, report = records(outcome.log)
    assert all(list(record) == ["time", "type", "record"] for record in (init, start, report))
    assert all(re.fullmatch(TIME, record["time"]) for record in (init, start, report))
    assert list(init["record"]) == [
        "initializationType", "phase", "runtimeVersion", "runtimeVersionArn", "functionName", "functionVersion",
        "instanceId", "instanceMaxMemory",
    ]  # fmt: skip
    assert init["record"]["instanceMaxMemory"] == 512 * 1024 * 1024
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/json\[\$LATEST\][0-9a-f]{32}", init["record"]["instanceId"])
    assert start["record"] == {
        "requestId": outcome.result.request_id,
        "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:json",
        "version": "$LATEST",
    }
    assert list(report["record"]) == ["requestId", "metrics", "status"]
    assert list(report["record"]["metrics"]) == [
        "durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"
    ]  # fmt: skip
    assert report["record"]["status"] == "success"
    warm = records(service.invoke("json", "x").log)
    assert [record["type"] for record in warm] == ["platform.start", "platform.report"]
    assert "initDurationMs" not in warm[1]["record"]["metrics"]


@pytest.mark.parametrize(
    ("name", "event", "outcome"),
    [
        ("json_raises", None, {"status": "error"}),
        ("json_ends", 3, {"status": "error", "errorType": "Runtime.ExitError"}),
        ("json_sleeps", 30, {"status": "timeout"}),
        ("json_broken", None, {"status": "error", "errorType": "ValueError"}),
    ],
)
def test_json_logs_tell_how_an_invocation_ended(
    service: Harness, name: str, event: object, outcome: dict[str, str]
) -> None:
    found = {
        record["type"]: record["record"] for record in records(service.invoke(name, event).log) if "type" in record
    }
    assert {key: found["platform.report"].get(key) for key in outcome} == outcome
    assert {key: found["platform.runtimeDone"].get(key) for key in outcome} == outcome


def test_a_failed_init_is_reported_in_json(service: Harness) -> None:
    log = service.invoke("json_broken").log
    reports = [record["record"] for record in records(log) if record.get("type") == "platform.initReport"]
    assert {report["phase"] for report in reports} <= {"init", "invoke"}
    assert all(report["status"] == "error" and report["errorType"] == "ValueError" for report in reports)


def test_the_system_log_level_filters_platform_records(service: Harness) -> None:
    assert kinds(service.invoke("json_debug", "x").log) == [
        "platform.initStart", "platform.initRuntimeDone", "platform.initReport", "platform.start",
        "platform.runtimeDone", "platform.report",
    ]  # fmt: skip
    assert kinds(service.invoke("json_warn", 3).log) == ["platform.runtimeDone", "platform.report"]


def test_a_traced_json_report_has_its_trace(service: Harness) -> None:
    report = records(service.invoke("json_traced", trace_id=TRACE + "1").log)[-1]["record"]
    assert report["tracing"] == {"spanId": "0123456789abcdef", "type": "X-Amzn-Trace-Id", "value": TRACE + "1"}


def test_a_logger_writes_json(service: Harness) -> None:
    outcome = service.invoke("json_logs", "something")
    (line,) = (record for record in records(outcome.log) if record.get("message") == "said something")
    assert line["level"] == "INFO"
    assert re.fullmatch(REQUEST_ID, line["requestId"])
