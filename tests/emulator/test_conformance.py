"""Every golden case over real HTTP and real processes, and the failures that only a real process can have."""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.gateway.golden import (
    CASES,
    Case,
    assert_absent,
    assert_matches,
    assert_response,
    load_cases,
    request_body,
    request_headers,
)
from tests.emulator.harness import PATIENCE_S, in_thread
from tests.emulator.serving import READY, Served, serve
from tests.emulator.wire import Answer, Exchange

TEMPLATES = CASES / "templates"
PROCESSES: dict[str, Any] = json.loads((CASES / "processes" / "failures.json").read_text())
KINDS = ("http", "rest", "url")
FLAGS = {"enforce_auth": "--enforce-auth", "trust_tokens": "--trust-tokens", "enforce_throttles": "--enforce-throttles"}
FUNCTION = "    Type: AWS::Serverless::Function\n    Properties:\n"
Event = tuple[str, dict[str, Any]]
"""The function that saw it, and the event."""
Key = tuple[str, tuple[str, ...]]
"""What cases must have in common to share an emulator: template and flags."""


def key_of(case: Case) -> Key:
    flags = tuple(FLAGS[name] for name, on in case.get("options", {}).items() if on)
    return case["template"] + ("+throttled" if "throttled" in case.get("handler", {}) else ""), flags


def in_order() -> list[Case]:
    """The golden cases, those that share an emulator together."""
    keys = {key_of(case): None for case in load_cases()}
    return [case for key in keys for case in load_cases() if key_of(case) == key]


class Stage:
    """Where cases are played: one emulator at a time, and the folder that their handler reads and writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._all = contextlib.ExitStack()
        self._started: list[Served] = []
        self._key: Key | None = None
        (folder / "variables.json").write_text(json.dumps({"Parameters": {"GOLDEN_CASES": str(folder)}}))
        os.mkfifo(folder / "gate")

    def emulator(self, key: Key) -> Served:
        """The emulator for that key; the one for another key is told to stop, and waited for at the end."""
        if key != self._key:
            self._stop()
            name, flags = key
            # Its handlers read what they answer, and write what they were asked, in a folder of this machine.
            files = (
                "--no-private-mounts",
                "--env-vars",
                self.folder / "variables.json",
                "--log-file",
                self.folder / "log",
            )
            served = self._all.enter_context(serve(self._template(name), *flags, *map(str, files)))
            self._started.append(served)
            self._key = key
        return self._started[-1]

    def _template(self, name: str) -> Path:
        path = TEMPLATES / f"{name.removesuffix('+throttled')}.yaml"
        if not name.endswith("+throttled"):
            return path
        # The same template, whose functions may not run at all: that is what throttles them for certain.
        text = path.read_text().replace("CodeUri: code/", f"CodeUri: {TEMPLATES / 'code'}")
        assert FUNCTION in text
        copy = self.folder / f"{name}.yaml"
        copy.write_text(text.replace(FUNCTION, f"{FUNCTION}      ReservedConcurrentExecutions: 0\n"))
        return copy

    def _stop(self) -> None:
        if self._started:
            self._started[-1].process.terminate()

    def close(self) -> None:
        with self._all:
            self._stop()
            assert [served.process.wait(PATIENCE_S) for served in self._started] == [0] * len(self._started)
        assert [line for served in self._started for line in said_while_serving(served)] == []

    def set(self, case: Case) -> None:
        (self.folder / "case.json").write_text(json.dumps(case))
        (self.folder / "events").write_text("")

    def events(self) -> list[Event]:
        """What handlers have seen since the case was set."""
        lines = [json.loads(line) for line in (self.folder / "events").read_text().splitlines()]
        return [(line["function"], line["event"]) for line in lines]


def said_while_serving(served: Served) -> list[str]:
    """Logs go to a file, so there is nothing to say but what went wrong inside."""
    ready = next(index for index, line in enumerate(served.lines) if line.startswith(READY))
    return served.lines[ready + 1 :]


def port_of(served: Served, api: str = ".+") -> int:
    """The port of the API of that name and kind, or of the first one, from the start-up table."""
    pattern = re.compile(rf"api +http://[^:]+:(\d+)  {api}")
    return next(int(found[1]) for line in served.lines if (found := pattern.fullmatch(line)))


def until(condition: Callable[[], object]) -> None:
    """Wait, bounded, for what a handler does after its client has gone."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "waited too long"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with contextlib.closing(Stage(tmp_path_factory.mktemp("conformance"))) as opened:
        yield opened


# -- the cases that the gateway's own tests run without sockets ----------------------------------------------------------


@pytest.mark.parametrize("case", in_order(), ids=lambda case: case["id"])
def test_a_golden_case_holds_over_http(stage: Stage, case: Case) -> None:
    emulator = stage.emulator(key_of(case))
    stage.set(case)
    request = case["request"]
    exchange = Exchange(
        port_of(emulator), request["method"], request["path"], request_headers(case), request_body(case)
    )
    status, headers, body = exchange.answer()
    if "sleeps_s" in case.get(
        "handler", {}
    ):  # the gateway gave up; the handler must have read this case before the next
        until(stage.events)
    assert_response(case, status, headers, body)
    _assert_events(case, stage.events())


def _assert_events(case: Case, events: Sequence[Event]) -> None:
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


def send(emulator: Served, kind: str, function: str, body: bytes = b"") -> Exchange:
    """A request to that function through its HTTP API, its REST API or its URL."""
    target = "/" if kind == "url" else f"/{kind}/{function}"
    apis = {"http": r".+ \(HTTP API\)", "rest": r".+ \(REST API\)", "url": rf"{function}Url \(function URL\)"}
    port = port_of(emulator, apis[kind])
    headers = [("Host", "127.0.0.1:3000"), ("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    return Exchange(port, "POST", target, headers, body)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", PROCESSES["cases"], ids=lambda case: case["id"])
def test_an_end_of_a_handler_is_an_answer_and_the_next_request_works(stage: Stage, case: Case, kind: str) -> None:
    emulator = stage.emulator(("processes", ()))
    function = case.get("function", "Echo")
    stage.set(case)
    answer = send(emulator, kind, function, b"x" * case.get("body_bytes", 0)).answer()
    assert_response({"response": PROCESSES["outcomes"][case["outcome"]][kind]}, *answer)
    if case.get("invoked") is False:
        assert stage.events() == []
    if case.get("recovers", True):
        stage.set({})
        status, _, body = send(emulator, kind, function, b"again").answer()
        assert (status, json.loads(body)["body"]) == (200, "again")


@pytest.mark.parametrize("kind", KINDS)
def test_over_the_reserved_concurrency_a_request_is_throttled_and_the_one_under_way_is_not(
    stage: Stage, kind: str
) -> None:
    emulator = stage.emulator(("processes", ()))
    stage.set({"handler": {"waits": True}})
    first = send(emulator, kind, "One")
    # Opening the gate waits for its reader: the handler is busy from there to the gate's end.
    with in_thread(lambda: (stage.folder / "gate").open("wb")).join():
        second: Answer = send(emulator, kind, "One").answer()
    assert_response({"response": PROCESSES["outcomes"]["throttled"][kind]}, *second)
    assert first.answer()[0] == 200
    assert len(stage.events()) == 1


def test_there_are_enough_cases() -> None:
    assert len(load_cases()) + len(PROCESSES["cases"]) * len(KINDS) >= 150


def test_an_event_that_differs_is_found() -> None:
    """The comparison of events can fail: in what is there, what is absent, who ran and whether anybody did."""
    seen: list[Event] = [("Echo", {"rawPath": "/a", "body": None}), ("Authorizer", {"type": "REQUEST"})]
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
