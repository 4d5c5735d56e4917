"""Every golden case through the ASGI application, with a Lambda service that does what the case says."""

import asyncio
import json
import re
from random import Random
from typing import Any

import pytest
from warmfront.emulator.gateway import GatewayOptions, create_apps
from warmfront.emulator.gateway.exchange import Stamps

from tests.emulator.gateway.asgi import ask
from tests.emulator.gateway.golden import (
    Case,
    CaseService,
    assert_absent,
    assert_matches,
    assert_response,
    load_cases,
    request_body,
    request_headers,
    template_of,
)

FIELDS = {
    "id", "behaviour", "status", "confirmed", "source", "template", "request", "handler", "authorizer", "options",
    "event", "absent", "function", "invoked", "authorizer_event", "authorizer_absent", "authorizer_invoked", "response",
}  # fmt: skip


@pytest.mark.parametrize("case", load_cases(), ids=lambda case: case["id"])
def test_golden_case(case: Case) -> None:
    notes: list[str] = []
    stamps = Stamps(clock=lambda: 1_584_039_838.25, random=Random(1))
    options = GatewayOptions(stamps=stamps, note=notes.append, **case.get("options", {}))
    service = CaseService(case)
    (app,) = create_apps(template_of(case["template"]), service, options)
    request = case["request"]
    status, headers, body = asyncio.run(
        ask(app, request["method"], request["path"], request_headers(case), request_body(case))
    )
    assert_response(case, status, headers, body)
    _assert_events(case, service)
    failed = status in (500, 502, 503, 504) and not case.get("handler", {}).keys() & {
        "raises",
        "exits",
        "times_out",
        "body_bytes",
    }
    assert bool(notes) or not failed, "a failure that is not the handler's own is explained in one line"


def _assert_events(case: Case, service: CaseService) -> None:
    if case.get("invoked") is False:
        assert service.events == []
    elif "event" in case or "function" in case or case.get("invoked"):
        ((function, event),) = service.events
        assert function == case.get("function", function)
        assert_matches(case.get("event", {}), event, "event")
        assert_absent(case.get("absent", []), event, "event")
    if case.get("authorizer_invoked") is False:
        assert service.authorizer_events == []
    elif "authorizer_event" in case:
        (authorizer_event,) = service.authorizer_events
        assert_matches(case["authorizer_event"], authorizer_event, "authorizer event")
        assert_absent(case.get("authorizer_absent", []), authorizer_event, "authorizer event")


def test_cases_are_well_formed_and_their_ids_are_unique() -> None:
    cases = load_cases()
    assert len({case["id"] for case in cases}) == len(cases) >= 100
    for case in cases:
        assert set(case) <= FIELDS, case["id"]
        assert case["status"] in ("emulated", "simplified", "absent"), case["id"]
        assert isinstance(case["confirmed"], bool), case["id"]
        assert case["behaviour"], case["id"]
        assert "|" not in case["behaviour"] + case["source"], "these become cells of a table"


EVIDENCE = re.compile(
    r"(docs\.aws\.amazon\.com|repost\.aws)/\S+|RFC \d+ section [\d.]+|recorded on AWS: .+|aws-sam-translator, .+"
    r"|.*\b(captures?|compared with AWS)\b.*"
)
"""A page of AWS's, a standard, SAM's own code, or something recorded on AWS."""


@pytest.mark.parametrize("case", [case for case in load_cases() if case["confirmed"]], ids=lambda case: case["id"])
def test_a_confirmed_case_names_evidence(case: Case) -> None:
    assert any(EVIDENCE.match(each.strip()) for each in case["source"].split(";")), case["source"]


def test_a_case_that_expects_something_else_fails() -> None:
    """The comparison itself can fail: in status, headers, body, event and absence."""
    case: dict[str, Any] = {"response": {"status": 200, "headers": {"a": "1"}, "body": "x"}}
    assert_response(case, 200, [("a", "1")], b"x")
    for status, headers, body in (
        (201, [("a", "1")], b"x"),
        (200, [("a", "2")], b"x"),
        (200, [], b"x"),
        (200, [("a", "1")], b"y"),
    ):
        with pytest.raises(AssertionError):
            assert_response(case, status, headers, body)
    with pytest.raises(AssertionError):
        assert_matches({"a": {"b": 1}}, {"a": {"b": True}}, "event")
    with pytest.raises(AssertionError):
        assert_absent(["a.b"], json.loads('{"a": {"b": null}}'), "event")
