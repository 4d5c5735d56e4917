"""What an invocation comes to: results, errors, ends of the process, timeouts, and what the next invocation finds."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.harness import REQUEST_ID, Harness, Outcome, function, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    names = ("echo", "raises", "raises_runtime_error", "nothing", "constant", "raw", "unserializable", "coroutine")
    functions = [function(name, f"outcomes.{name}") for name in names]
    functions += [
        function("ends", "outcomes.ends"),
        function("either", "outcomes.either"),
        function("large", "outcomes.large", memory_mb=1024, timeout_s=20),
        function("sleeps", "outcomes.sleeps", timeout_s=1),
        function("counts", "outcomes.counts"),
        function("closes_stdout", "outcomes.closes_stdout"),
        function("prints", "outcomes.prints", timeout_s=20),
        function("forks", "outcomes.forks"),
    ]
    with running(tmp_path_factory.mktemp("outcomes"), *functions) as harness:
        yield harness


def assert_unhandled(outcome: Outcome, payload: dict[str, Any]) -> None:
    assert outcome.result.function_error == "Unhandled"
    assert list(outcome.payload.items()) == list(payload.items())


def test_an_event_comes_back_as_it_went(service: Harness) -> None:
    event = {"text": "é\u2028 \U0001f600", "numbers": [1, -2.5, 1e30], "nothing": None, "nested": {"yes": True}}
    outcome = service.invoke("echo", event)
    assert outcome.payload == event
    assert (outcome.result.status, outcome.result.function_error) == ("ok", None)
    assert outcome.result.executed_version == "$LATEST"


def test_none_is_null(service: Harness) -> None:
    assert service.invoke("nothing").result.payload == b"null"


@pytest.mark.parametrize(
    ("wanted", "payload"),
    [
        ("string", b'"text"'),
        ("integer", b"3"),
        ("list", b'["hello", 3, true]'),
        ("false", b"false"),
        ("empty", b'""'),
    ],
)
def test_whatever_is_json_is_passed_on(service: Harness, wanted: str, payload: bytes) -> None:
    outcome = service.invoke("constant", wanted)
    assert outcome.result.payload == payload
    assert outcome.result.function_error is None


def test_bytes_are_passed_on_as_they_are(service: Harness) -> None:
    assert service.invoke("raw").result.payload == b"\x00\xff"


@pytest.mark.parametrize("name", ["unserializable", "coroutine"])
def test_what_is_not_json_is_a_marshal_error(service: Harness, name: str) -> None:
    outcome = service.invoke(name)
    assert outcome.result.function_error == "Unhandled"
    assert outcome.payload["errorType"] == "Runtime.MarshalError"


def test_an_exception_is_reported_with_its_trace(service: Harness) -> None:
    outcome = service.invoke("raises")
    assert outcome.result.function_error == "Unhandled"
    payload = outcome.payload
    assert list(payload) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert payload["errorMessage"] == "boom"
    assert payload["errorType"] == "ValueError"
    assert payload["requestId"] == outcome.result.request_id
    (frame,) = payload["stackTrace"]
    assert re.fullmatch(r'  File ".*/outcomes\.py", line \d+, in raises\n    raise ValueError\("boom"\)\n', frame)


def test_a_runtime_error_of_the_handler_is_the_handlers_own(service: Harness) -> None:
    outcome = service.invoke("raises_runtime_error")
    assert outcome.payload["errorType"] == "RuntimeError"
    assert not service.invoke("raises_runtime_error").cold


def test_an_exception_does_not_reset_the_environment(service: Harness) -> None:
    assert service.invoke("counts").payload == 1
    assert service.invoke("counts", "raise").payload["errorMessage"] == "counted"
    assert service.invoke("counts").payload == 3


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("sys.exit", "Runtime exited with error: exit status 3"),
        ("os._exit(0)", "Runtime exited without providing a reason"),
        (127, "Runtime exited with error: exit status 127"),
        ("SIGKILL", "Runtime exited with error: signal: killed"),
        ("SIGTERM", "Runtime exited with error: signal: terminated"),
        ("SIGABRT", "Runtime exited with error: signal: aborted"),
        ("segfault", "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_an_end_of_the_process_is_an_exit_error(service: Harness, how: object, reason: str) -> None:
    outcome = service.invoke("ends", how)
    assert_unhandled(
        outcome,
        {
            "errorType": "Runtime.ExitError",
            "errorMessage": f"RequestId: {outcome.result.request_id} Error: {reason}",
        },
    )
    assert "before the end" in outcome.lines
    assert outcome.report.endswith("\tStatus: error\tError Type: Runtime.ExitError")


def test_after_a_crash_the_same_environment_starts_again_inside_the_next_invocation(service: Harness) -> None:
    before = service.invoke("either").payload
    stream = list(service.function("either").environments)
    service.invoke("either", 3)
    after = service.invoke("either")
    assert after.payload != before
    assert list(service.function("either").environments) == stream
    assert not after.cold
    assert after.duration_ms > 10, "the new init is part of the invocation's own duration"
    assert not any(line.startswith("INIT_REPORT") for line in after.lines)
    assert service.invoke("either").payload == after.payload


def test_a_timeout_is_reported_with_the_limit_as_duration(service: Harness) -> None:
    outcome = service.invoke("sleeps", 30)
    request_id = outcome.result.request_id
    assert_unhandled(
        outcome,
        {
            "errorType": "Sandbox.Timedout",
            "errorMessage": f"RequestId: {request_id} Error: Task timed out after 1.00 seconds",
        },
    )
    assert outcome.result.status == "timeout"
    tail = outcome.lines[-4:]
    assert tail[0] == "asleep"
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {request_id} Task timed out after 1\.00 seconds", tail[1]
    )
    assert tail[2] == f"END RequestId: {request_id}"
    assert "\tDuration: 1000.00 ms\t" in tail[3]
    assert tail[3].endswith("\tStatus: timeout")


def test_after_a_timeout_the_same_environment_starts_again_inside_the_next_invocation(service: Harness) -> None:
    service.settled("sleeps")
    service.run(service.function("sleeps").retire())
    assert service.invoke("sleeps", 0).cold
    environments = list(service.function("sleeps").environments)
    (old,) = service.pids("sleeps")
    service.invoke("sleeps", 30)
    after = service.invoke("sleeps", 0)
    assert after.payload == "awake"
    assert not after.cold
    assert list(service.function("sleeps").environments) == environments
    assert service.pids("sleeps") != [old]


def test_after_a_timeout_nobody_is_counted_as_on_its_way_back(service: Harness) -> None:
    """One caller at a time needs one environment, before a timeout and after it."""
    for seconds in (0, 30, 0, 0, 30, 0):
        service.invoke("sleeps", seconds)
    assert len(service.function("sleeps").environments) == 1


def test_a_result_over_six_megabytes_is_refused(service: Harness) -> None:
    outcome = service.invoke("large", 6 * 1024 * 1024 + 99)
    assert_unhandled(
        outcome,
        {
            "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
            "errorType": "Function.ResponseSizeTooLarge",
        },
    )
    assert len(service.invoke("large", 6 * 1024 * 1024 + 98).result.payload) == 6 * 1024 * 1024 + 100


def test_a_handler_may_close_its_output(service: Harness) -> None:
    assert service.invoke("closes_stdout").payload == "still here"


def test_a_megabyte_of_output_is_all_in_the_log(service: Harness) -> None:
    size = 1024 * 1024
    outcome = service.invoke("prints", size)
    assert outcome.payload == "printed"
    assert "x" * (size - 1) in outcome.lines


def test_a_child_of_a_handler_ends_with_its_environment(service: Harness) -> None:
    child = service.invoke("forks").payload
    service.settled("forks")
    assert Path(f"/proc/{child}").exists()
    service.run(service.function("forks").retire())
    service.until(
        lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]
    )


def test_request_ids_are_version_4_uuids_and_never_the_same(service: Harness) -> None:
    seen = {service.invoke("echo").result.request_id for _ in range(20)}
    assert len(seen) == 20
    assert all(re.fullmatch(REQUEST_ID, each) for each in seen)
