"""Figures of recordings, responses and log lines. The procedures that collect them run in test_lab_run."""

import json
import os
from array import array

import pytest
from warmfront.bench.load.samples import Outcome, Recording
from warmfront.lab.http_client import Reply
from warmfront.lab.load_figures import (
    ProcessResources,
    ResourcesBefore,
    breaker_spans,
    is_planned,
    resources_of,
    samples_of,
    send_delay_ms,
)
from warmfront.lab.scene import as_request


def recording(*rows: tuple[float, float, int, Outcome]) -> Recording:
    """Return a recording of (due in seconds, done in seconds, status, outcome) rows."""
    due, done, status, outcome = zip(*rows, strict=True)
    intended_ns, sent_ns, done_ns = (array("q", [int(at * 1e9) for at in column]) for column in (due, due, done))
    return Recording(
        intended_ns=intended_ns,
        sent_ns=sent_ns,
        done_ns=done_ns,
        status=array("q", status),
        outcome=array("q", outcome),
    )


def test_samples_of_two_generators_are_one_timeline() -> None:
    base = recording((100.5, 100.6, 200, Outcome.OK), (103.0, 108.0, 200, Outcome.TIMEOUT))
    more = recording((101.0, 101.2, 503, Outcome.STATUS), (102.0, 102.1, 200, Outcome.BODY))
    found = samples_of([base, more], began_s=100)
    assert [round(sample.due_s, 3) for sample in found] == [0.5, 1.0, 2.0, 3.0]
    assert [sample.status for sample in found] == [200, 503, 200, 0]
    assert [sample.ok for sample in found] == [True, False, False, False]
    assert [sample.wrong_body for sample in found] == [False, False, True, False]
    assert found[3].latency_s == pytest.approx(5)


PROBLEM = {"content-type": "application/problem+json"}


@pytest.mark.parametrize(
    ("status", "headers", "planned"),
    [
        (200, {}, True),
        (503, PROBLEM | {"retry-after": "1"}, True),
        (504, PROBLEM, True),
        (409, PROBLEM, True),
        (503, PROBLEM, False),
        (503, {"retry-after": "1"}, False),
        (500, PROBLEM | {"retry-after": "1"}, False),
        (502, {}, False),
    ],
)
def test_a_refusal_is_planned_when_a_client_can_act_on_it(status: int, headers: dict[str, str], planned: bool) -> None:
    assert is_planned(Reply(status, headers, b"", 0.1)) is planned


def test_no_answer_is_not_planned() -> None:
    assert not is_planned(None)


def moved(second: float, from_state: str, to_state: str) -> str:
    whole, part = divmod(second, 1)
    line = {
        "message": "circuit moved",
        "timestamp": f"2026-11-22 12:00:{int(whole):02d},{int(part * 1000):03d}+0000",
        "from_state": from_state,
        "to_state": to_state,
    }
    return json.dumps(line)


NOON = 1795348800.0


class TestBreakerSpans:
    def test_open_until_closed_again_half_open_included(self) -> None:
        log = "\n".join([
            "START RequestId: x",
            moved(4, "closed", "open"),
            moved(5, "open", "half_open"),
            moved(5.5, "half_open", "open"),
            moved(7, "open", "half_open"),
            moved(7.5, "half_open", "closed"),
            '{"to_state": "torn line',
        ])  # fmt: skip
        (span,) = breaker_spans(log, NOON, 10)
        assert (span.kind, span.start_s, span.end_s) == ("breaker", 4, 7.5)

    def test_several_environments_are_open_as_long_as_one_of_them_is(self) -> None:
        log = "\n".join([
            moved(2, "closed", "open"),
            moved(3, "closed", "open"),
            moved(4, "half_open", "closed"),
            moved(6, "half_open", "closed"),
        ])  # fmt: skip
        assert [(span.start_s, span.end_s) for span in breaker_spans(log, NOON, 10)] == [(2, 6)]

    def test_one_that_never_closes_is_open_to_the_end(self) -> None:
        assert breaker_spans(moved(2, "closed", "open"), NOON, 10)[0].end_s == 10

    def test_no_moves_no_spans(self) -> None:
        assert breaker_spans("START\nEND\n", NOON, 10) == []


def test_a_request_has_its_holes_filled_and_jsons_braces_kept() -> None:
    template = {
        "method": "PATCH",
        "path": "/products/{item}",
        "headers": {"If-Match": "{version}", "X-Always": "1"},
        "body": '{"stock": {new}, "tags": {}}',
    }
    found = as_request(template, {"item": 3, "version": '"7"', "new": 12})
    assert found == ("PATCH", "/products/3", {"If-Match": '"7"', "X-Always": "1"}, b'{"stock": 12, "tags": {}}')


def test_a_header_without_a_value_is_not_sent() -> None:
    assert as_request({"path": "/", "headers": {"If-Match": "{version}"}}, {"version": ""})[2] == {}


def test_what_environments_hold_is_compared_for_those_that_are_still_the_same() -> None:
    before = ResourcesBefore(
        {1: ProcessResources(10, 30.0), 2: ProcessResources(10, 30.0), 3: ProcessResources(10, 30.0)}
    )
    grown = before.measures(
        {1: ProcessResources(12, 31.0), 2: ProcessResources(11, 33.5), 4: ProcessResources(99, 99.0)}
    )
    assert grown == {"files_grown": 2.0, "memory_grown_mb": 3.5}
    assert before.measures({}) == {"files_grown": 0.0, "memory_grown_mb": 0.0}


def test_a_process_that_is_gone_holds_nothing() -> None:
    found = resources_of([os.getpid(), 2**22 + 1])
    assert list(found) == [os.getpid()]
    assert found[os.getpid()].files > 2
    assert found[os.getpid()].memory_mb > 1


def test_the_machine_is_too_busy_when_requests_leave_late_before_the_fault() -> None:
    sent_late = recording(*((100 + n / 10, 101 + n / 10, 200, Outcome.OK) for n in range(20)))
    for number in range(20):
        sent_late.sent_ns[number] += (number % 4) * 100_000_000  # three of four leave late, the worst by 300 ms
    assert send_delay_ms([sent_late], until_s=200) == pytest.approx(300)
    assert send_delay_ms([sent_late], until_s=100.05) == pytest.approx(0)
    assert send_delay_ms([], until_s=1) == 0
