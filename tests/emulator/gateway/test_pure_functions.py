"""The golden cases of routes, payloads and results on the pure functions alone: no application, no event loop."""

import json
from typing import Any

import pytest
from warmfront.emulator.gateway import payload, payload_v1
from warmfront.emulator.gateway.dialects import FAILURES, Failure
from warmfront.emulator.gateway.exchange import Call, Request, Response, api_context, read_head
from warmfront.emulator.gateway.routes import StageRouter
from warmfront.emulator.template import Api, Route

from tests.emulator.gateway.golden import (
    Case,
    assert_absent,
    assert_matches,
    assert_response,
    load_cases,
    request_body,
    request_headers,
    template_of,
)

FILES = ("routes", "stages", "payload2", "payload1", "results2", "results1")
HTTP_HEADERS_OF_THE_ANSWER = (
    "apigw-requestid",
    "x-amzn-requestid",
    "x-amz-apigw-id",
    "x-amzn-trace-id",
    "content-length",
)


def find(case: Case) -> tuple[Api, Route, Call] | None:
    api = template_of(case["template"]).apis[0]
    path, _, query = case["request"]["path"].partition("?")
    routes = ((route.method, route.path, route) for route in api.routes)
    match = StageRouter(routes, api.stage, rest=api.kind == "rest").match(case["request"]["method"], path)
    if match is None:
        return None
    route, parameters, below = match
    headers = [(name.encode(), value.encode("latin-1")) for name, value in request_headers(case)]
    head = read_head([(name.lower(), value) for name, value in headers])
    request = Request(case["request"]["method"], path, query, headers, head, request_body(case), "127.0.0.1", 3000)
    trace_id = next(
        (value for name, value in request_headers(case) if name.lower() == "x-amzn-trace-id"),
        "Root=1-5e6722a7-cc56xx46db7ae02d4da47e00".replace("x", "0"),
    )
    call = Call(
        request, api_context(api), route, below, parameters, "JKJaXmPLvHcESHA=", trace_id,
        "12/Mar/2020:19:03:58 +0000", 1583348638390, "26f4c6a3-0000-4000-a000-000000000000",
    )  # fmt: skip
    return api, route, call


def build(api: Api, route: Route, call: Call) -> dict[str, Any]:
    if api.kind == "rest":
        event = payload_v1.build_rest_event(call, binary_media_types=api.binary_media_types)
    elif route.payload_format == "1.0":
        event = payload_v1.build_http_event(call)
    else:
        event = payload.build_event(call)
    return dict(json.loads(json.dumps(event)))


def parse(api: Api, route: Route, call: Call, result: bytes) -> Response:
    try:
        if api.kind == "rest":
            accept = call.request.head.fields.get("accept", "")
            return payload_v1.parse_rest_result(result, accept=accept, binary_media_types=api.binary_media_types)
        if route.payload_format == "1.0":
            return payload_v1.parse_http_result(result)
        return payload.parse_result(result)
    except payload.MalformedResultError:
        return FAILURES[api.kind][Failure.MALFORMED]


@pytest.mark.parametrize("case", [c for c in load_cases(*FILES) if "event" in c], ids=lambda case: case["id"])
def test_events(case: Case) -> None:
    found = find(case)
    assert found is not None
    event = build(*found)
    assert found[1].function == case.get("function", found[1].function)
    assert_matches(case["event"], event, "event")
    assert_absent(case.get("absent", []), event, "event")


@pytest.mark.parametrize(
    "case",
    [c for c in load_cases(*FILES) if c["response"]["status"] in (403, 404) and "handler" not in c],
    ids=lambda case: case["id"],
)
def test_paths_without_a_route(case: Case) -> None:
    assert find(case) is None


@pytest.mark.parametrize(
    "case", [c for c in load_cases("results1", "results2") if "handler" in c], ids=lambda case: case["id"]
)
def test_results(case: Case) -> None:
    found = find(case)
    assert found is not None
    handler = case["handler"]
    result = handler["payload"] if "payload" in handler else json.dumps(handler["returns"])
    answer = parse(*found, result.encode())
    expected = case["response"]
    wanted = {
        name: value for name, value in expected.get("headers", {}).items() if name not in HTTP_HEADERS_OF_THE_ANSWER
    }
    bodiless = answer.status in (204, 304) or case["request"]["method"] == "HEAD"
    headers = [(name.decode(), value.decode("latin-1")) for name, value in answer.headers]
    assert_response(
        {"response": {**expected, "headers": wanted}}, answer.status, headers, b"" if bodiless else answer.body
    )


def test_an_event_does_not_depend_on_the_order_of_its_making() -> None:
    """Two events of one request are equal: nothing is drawn while an event is built."""
    for case in load_cases("payload2", "payload1"):
        found = find(case)
        if found is not None:
            assert build(*found) == build(*found)
