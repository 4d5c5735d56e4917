"""The golden cases as data: loading them, what they expect of events and answers, and a Lambda service that does as a case
says. Runners decide what stands between request and answer."""

import asyncio
import base64
import functools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from warmfront.emulator.lambda_service.types import InvocationResult, Throttled
from warmfront.emulator.template import Template, load_template

CASES = Path(__file__).parent.parent / "cases"
Case = dict[str, Any]


@functools.cache
def load_cases(*names: str) -> tuple[Case, ...]:
    """All cases that can be run, or those of the named files; what is absent from the emulator has no request."""
    paths = [CASES / f"{name}.json" for name in names] if names else sorted(CASES.glob("*.json"))
    return tuple(case for path in paths for case in json.loads(path.read_text()) if case["status"] != "absent")


@functools.cache
def template_of(name: str) -> Template:
    return load_template(CASES / "templates" / f"{name}.yaml", region="us-east-1")


def request_headers(case: Case) -> list[tuple[str, str]]:
    """The case's headers with the Host and the length that every client sends."""
    request = case["request"]
    headers = [(name, value) for name, value in request.get("headers", [])]
    names = {name.lower() for name, _ in headers}
    if "host" not in names:
        headers.insert(0, ("Host", "127.0.0.1:3000"))
    if "header_bytes" in request:
        headers.append(("X-Padding", "x" * (request["header_bytes"] - sum(len(n) + len(v) for n, v in headers) - 20)))
    if (body := request_body(case)) and "content-length" not in names:
        headers.append(("Content-Length", str(len(body))))
    return headers


def request_body(case: Case) -> bytes:
    request = case["request"]
    if "body_bytes" in request:
        return b"x" * int(request["body_bytes"])
    if "body_base64" in request:
        return base64.b64decode(request["body_base64"])
    return str(request.get("body", "")).encode()


def assert_matches(expected: Any, actual: Any, where: str) -> None:
    """`actual` has everything of `expected`; mappings may have more."""
    if isinstance(expected, dict):
        if set(expected) == {"$matches"}:
            assert re.fullmatch(expected["$matches"], str(actual)), f"{where}: {actual!r}"
            return
        assert isinstance(actual, dict), f"{where}: {actual!r}"
        for key, value in expected.items():
            assert key in actual, f"{where}.{key} is missing in {actual!r}"
            assert_matches(value, actual[key], f"{where}.{key}")
        return
    assert (type(actual), actual) == (type(expected), expected), where


def assert_absent(paths: Iterable[str], actual: Any, where: str) -> None:
    for path in paths:
        value = actual
        for key in path.split("."):
            if not isinstance(value, dict) or key not in value:
                break
            value = value[key]
        else:
            raise AssertionError(f"{where}.{path} is there: {value!r}")


def assert_response(case: Case, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    expected = case["response"]
    assert status == expected["status"], body
    for name, value in expected.get("headers", {}).items():
        values = [found for key, found in headers if key == name]
        if value is None:
            assert values == [], name
        elif isinstance(value, list):
            assert values == value, name
        else:
            assert len(values) == 1, (name, values)
            assert_matches(value, values[0], name)
    if "json" in expected:
        assert json.loads(body) == expected["json"]
    if "body" in expected:
        assert body.decode() == expected["body"]
    if "body_base64" in expected:
        assert body == base64.b64decode(expected["body_base64"])


class CaseService:
    """A Lambda service whose functions do what the case says, and that remembers their events."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.authorizer_events: list[dict[str, Any]] = []

    async def invoke(self, function: str, event: bytes, *, trace_id: str) -> InvocationResult:
        assert trace_id.startswith("Root=1-")
        if function == "Authorizer":
            self.authorizer_events.append(json.loads(event))
            return await result_of(self._case["authorizer"], json.loads(event))
        self.events.append((function, json.loads(event)))
        return await result_of(self._case.get("handler", {}), json.loads(event))


async def result_of(spec: dict[str, Any], event: dict[str, Any]) -> InvocationResult:
    """What the Lambda service says of a handler that behaves so."""
    if "throttled" in spec:
        raise Throttled
    if "sleeps_s" in spec:
        await asyncio.Event().wait()  # longer than any integration waits
    if "exits" in spec or "raises" in spec or "times_out" in spec or spec.get("body_bytes", 0) > 6_291_556:
        error = {"errorMessage": spec.get("raises", ""), "errorType": "Exception", "requestId": "r", "stackTrace": []}
        return InvocationResult("r", json.dumps(error).encode(), "error", "Unhandled")
    if "payload" in spec:
        return InvocationResult("r", spec["payload"].encode(), "ok")
    result = spec.get("returns", {"statusCode": 200, "body": json.dumps(event)})
    return InvocationResult("r", json.dumps(result).encode(), "ok")
