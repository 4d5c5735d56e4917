"""Every golden case over real HTTP and real processes, and the failures that only a real process can have."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.harness import in_thread
from tests.emulator.served import Answer, Exchange, Served, ask, request_bytes, serve, until
from tests.gateway.golden import (
    CASES,
    Case,
    assert_absent,
    assert_matches,
    assert_response,
    load_cases,
    request_body,
    request_headers,
)

TEMPLATES = CASES / "templates"
PROCESSES: dict[str, Any] = json.loads((CASES / "processes" / "failures.json").read_text())
KINDS = ("http", "rest", "url")
FLAGS = {"enforce_auth": "--enforce-auth", "trust_tokens": "--trust-tokens", "enforce_throttles": "--enforce-throttles"}
Key = tuple[str, tuple[str, ...]]
"""What cases must have in common to share an emulator: template and flags."""


def key_of(case: Case) -> Key:
    flags = tuple(FLAGS[name] for name, on in case.get("options", {}).items() if on)
    return case["template"] + ("+throttled" if "throttled" in case.get("handler", {}) else ""), flags


class Stage:
    """Where cases are played: one emulator at a time, and the folder that their handler reads and writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key: Key | None = None
        self._served: Served | None = None
        self._ending: list[Served] = []
        os.mkfifo(folder / "gate")

    def emulator(self, key: Key) -> Served:
        """The emulator for that key; the one for another key is asked to stop."""
        if key != self._key or self._served is None:
            self._retire()
            name, flags = key
            self._served = serve(
                self.folder / f"emulator-{len(self._ending)}",
                self._template(name),
                *flags,
                variables={"GOLDEN_CASES": str(self.folder)},
            )
            self._key = key
        return self._served

    def _template(self, name: str) -> Path:
        path = TEMPLATES / f"{name.removesuffix('+throttled')}.yaml"
        if not name.endswith("+throttled"):
            return path
        # The same template, whose functions may not run at all: that is what throttles them for certain.
        text = path.read_text().replace("CodeUri: code/", f"CodeUri: {TEMPLATES / 'code'}")
        reserved = text.replace("    Type: AWS::Serverless::Function\n    Properties:\n", RESERVED_NONE)
        assert reserved != text
        copy = self.folder / f"{name}.yaml"
        copy.write_text(reserved)
        return copy

    def _retire(self) -> None:
        if self._served is not None:
            self._served.end()
            self._ending.append(self._served)
            self._served = None

    def close(self) -> None:
        self._retire()
        assert [served.ended() for served in self._ending] == [0] * len(self._ending)
        assert [served.errors.read_text() for served in self._ending if served.errors.stat().st_size] == []

    def set(self, case: Case) -> None:
        (self.folder / "case.json").write_text(json.dumps(case))
        (self.folder / "events").write_text("")

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What handlers have seen since the case was set: function and event."""
        lines = [json.loads(line) for line in (self.folder / "events").read_text().splitlines()]
        return [(line["function"], line["event"]) for line in lines]


RESERVED_NONE = "    Type: AWS::Serverless::Function\n    Properties:\n      ReservedConcurrentExecutions: 0\n"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with contextlib.closing(Stage(tmp_path_factory.mktemp("conformance"))) as opened:
        yield opened


# -- the cases that the gateway's own tests run without sockets ----------------------------------------------------------


@pytest.mark.parametrize("case", sorted(load_cases(), key=key_of), ids=lambda case: case["id"])
def test_a_golden_case_holds_over_http(stage: Stage, case: Case) -> None:
    emulator = stage.emulator(key_of(case))
    stage.set(case)
    request = case["request"]
    status, headers, body = ask(
        emulator.port(), request["method"], request["path"], request_headers(case), request_body(case)
    )
    if "sleeps_s" in case.get("handler", {}):  # the gateway gave up; the handler must have read this case before the next
        until(stage.events)
    assert_response(case, status, headers, body)
    _assert_events(case, stage.events())


def _assert_events(case: Case, events: list[tuple[str, dict[str, Any]]]) -> None:
    authorizer_events = [event for function, event in events if function == "Authorizer"]
    handler_events = [(function, event) for function, event in events if function != "Authorizer"]
    if case.get("invoked") is False or "throttled" in case.get("handler", {}):
        assert handler_events == []
    elif "event" in case or "function" in case or case.get("invoked"):
        ((function, event),) = handler_events
        assert function == case.get("function", function)
        assert_matches(case.get("event", {}), event, "event")
        assert_absent(case.get("absent", []), event, "event")
    if case.get("authorizer_invoked") is False:
        assert authorizer_events == []
    elif "authorizer_event" in case:
        (authorizer_event,) = authorizer_events
        assert_matches(case["authorizer_event"], authorizer_event, "authorizer event")
        assert_absent(case.get("authorizer_absent", []), authorizer_event, "authorizer event")


# -- what only real processes do -----------------------------------------------------------------------------------------


def call(emulator: Served, kind: str, function: str, body: bytes = b"") -> Answer:
    """A request to that function through its HTTP API, its REST API or its URL."""
    port, method, request = _call(emulator, kind, function, body)
    return Exchange(port, method, request).answer()


def _call(emulator: Served, kind: str, function: str, body: bytes = b"") -> tuple[int, str, bytes]:
    target = "/" if kind == "url" else f"/{kind}/{function}"
    port = emulator.port("$default" if kind == "url" else f"ANY {target}", function)
    headers = [("Host", "127.0.0.1:3000"), ("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    return port, "POST", request_bytes("POST", target, headers, body)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", PROCESSES["cases"], ids=lambda case: case["id"])
def test_an_end_of_a_handler_is_an_answer_and_the_next_request_works(stage: Stage, case: Case, kind: str) -> None:
    emulator = stage.emulator(("processes", ()))
    function = case.get("function", "Echo")
    stage.set(case)
    answer = call(emulator, kind, function, b"x" * case.get("body_bytes", 0))
    assert_response({"response": PROCESSES["outcomes"][case["outcome"]][kind]}, *answer)
    if case.get("invoked") is False:
        assert stage.events() == []
    if case.get("recovers", True):
        stage.set({})
        status, _, body = call(emulator, kind, function, b"again")
        assert (status, json.loads(body)["body"]) == (200, "again")


@pytest.mark.parametrize("kind", KINDS)
def test_over_the_reserved_concurrency_a_request_is_throttled_and_the_one_under_way_is_not(
    stage: Stage, kind: str
) -> None:
    emulator = stage.emulator(("processes", ()))
    stage.set({"handler": {"waits": True}})
    first = Exchange(*_call(emulator, kind, "One"))
    # Opening the gate waits for its reader: the handler is busy from there to the gate's end.
    with in_thread(lambda: (stage.folder / "gate").open("wb")).join():
        assert_response({"response": PROCESSES["outcomes"]["throttled"][kind]}, *call(emulator, kind, "One"))
    assert first.answer()[0] == 200
    assert len(stage.events()) == 1


def test_there_are_enough_cases() -> None:
    assert len(load_cases()) + len(PROCESSES["cases"]) * len(KINDS) >= 150


def test_an_event_that_differs_is_found() -> None:
    """The comparison of events can fail: in what is there, what is absent, who ran and whether anybody did."""
    seen = [("Echo", {"rawPath": "/a", "body": None}), ("Authorizer", {"type": "REQUEST"})]
    _assert_events({"event": {"rawPath": "/a"}, "function": "Echo", "authorizer_event": {"type": "REQUEST"}}, seen)
    for case in (
        {"event": {"rawPath": "/b"}},
        {"absent": ["body"], "invoked": True},
        {"function": "Other"},
        {"invoked": False},
        {"authorizer_invoked": False},
        {"authorizer_event": {"type": "TOKEN"}},
    ):
        with pytest.raises(AssertionError):
            _assert_events(case, seen)
