"""The dashboard over HTTP: access, the responses of its buttons, and the end of its stream. The page itself: tests/browser."""

import asyncio
import contextlib
import http.client
import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from warmfront.emulator.observe.dashboard_guard import Receive, SameOriginOnly, Scope, Send, refusal
from warmfront.emulator.observe.dashboard_samples import samples
from warmfront.emulator.template import load_template

from tests.emulator.harness import PATIENCE_S
from tests.emulator.serving import TEMPLATES, TOKEN, Served, serve

CASES = TEMPLATES.parent / "cases" / "templates"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(TEMPLATES / "api.yaml") as served:
        yield served


def ask(
    served: Served, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        text = body if isinstance(body, str) else json.dumps(body) if body is not None else None
        connection.request(method, path, text, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def press(served: Served, method: str, path: str, body: object = None, *, token: str = TOKEN) -> tuple[int, Any]:
    status, _, text = ask(served, method, f"/_warmfront/functions/{path}", body, x_warmfront_token=token)
    return status, json.loads(text)


# -- the page -----------------------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_inline_script(served: Served) -> None:
    status, headers, page = ask(served, "GET", "/_warmfront/")
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "access-control-allow-origin" not in headers
    for name in re.findall(rb'(?:src|href)="(static/[^"]+)"', page):
        assert ask(served, "GET", f"/_warmfront/{name.decode()}")[0] == 200
    assert not re.search(rb"https?://(?!www\.w3\.org)|<style|style=|<script>|\son\w+=", page)


def test_without_the_slash_it_leads_to_the_page(served: Served) -> None:
    status, headers, _ = ask(served, "GET", "/_warmfront")
    assert (status, headers["location"]) == (308, "/_warmfront/")


@pytest.mark.parametrize("name", ["nothing.js", "..%2fdashboard.py", "%2e%2e/dashboard.py"])
def test_only_the_pages_own_files_are_served(served: Served, name: str) -> None:
    assert ask(served, "GET", f"/_warmfront/static/{name}")[0] == 404


def test_serve_prints_the_link_with_the_token(served: Served) -> None:
    assert served.wait_for("dashboard ").endswith(f"{served.url}/_warmfront/#token={TOKEN}")


# -- who is let in ------------------------------------------------------------------------------------------------------

WRITES = [
    ("POST", "Echo/invoke", {}),
    ("POST", "Echo/retire", None),
    ("PUT", "Echo/fault", {"kind": "throttle"}),
    ("DELETE", "Echo/fault", None),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x"])
def test_no_button_works_without_the_token(served: Served, method: str, path: str, body: object, token: str) -> None:
    status, told = press(served, method, path, body, token=token)
    assert status == 403
    assert "x-warmfront-token" in told["message"]
    assert served.functions()["Echo"]["invocations"] == 0


@pytest.mark.parametrize("path", ["", "state", "about", "events", "snapshot", "metrics", "invocations"])
def test_nothing_is_told_under_a_name_that_is_not_ours(served: Served, path: str) -> None:
    status, _, body = ask(served, "GET", f"/_warmfront/{path}", host="rebound.example:3000")
    assert status == 403
    assert "open it by its address" in json.loads(body)["message"]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_page_of_another_origin_presses_no_button(served: Served, method: str, path: str, body: object) -> None:
    headers = {"origin": "http://localhost:9999", "x_warmfront_token": TOKEN}
    status, _, _ = ask(served, method, f"/_warmfront/functions/{path}", body, **headers)
    assert status == 403


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"host": "127.0.0.1:3000"}, True),
        ({"host": "localhost:3000"}, True),
        ({"host": "[::1]:3000"}, True),
        ({"host": "10.0.0.7"}, True),
        ({"host": "emulator:3000"}, True),
        ({"host": "127.0.0.1.nip.io:3000"}, False),
        ({"host": "localhost.example"}, False),
        ({"host": "[::1"}, False),
        ({"host": ""}, False),
        ({}, False),
        ({"host": "127.0.0.1:3000", "origin": "http://127.0.0.1:3000"}, True),
        ({"host": "127.0.0.1:3000", "origin": "http://127.0.0.1:3001"}, False),
        ({"host": "127.0.0.1:3000", "origin": "https://127.0.0.1:3000"}, False),
        ({"host": "127.0.0.1:3000", "origin": "null"}, False),
        ({"host": "127.0.0.1:3000", "sec-fetch-site": "same-origin"}, True),
        ({"host": "127.0.0.1:3000", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, False),
        ({"host": "127.0.0.1:3000", "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, False),
        ({"host": "127.0.0.1:3000", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, True),
    ],
)
def test_host_and_origin_decide(headers: dict[str, str], passes: bool) -> None:
    sent = {name.encode(): value.encode() for name, value in headers.items()}
    assert (refusal(sent, "http", {"emulator"}) is None) is passes


@pytest.mark.parametrize("path", ["/_warmfront/state", "/2015-03-31/functions/"])
def test_a_name_of_ours_is_ours_in_capitals_as_well(path: str) -> None:
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        passed.append(scope["path"])

    async def nothing(*_: object) -> Any: ...

    guard = SameOriginOnly(app, hosts=["MyBox"])
    for host in (b"MyBox:3000", b"mybox:3000", b"rebound.example:3000"):
        scope = {"type": "http", "scheme": "http", "path": path, "headers": [(b"host", host)]}
        asyncio.run(guard(scope, nothing, nothing))
    assert passed == [path] * 2


def test_a_name_for_scrapes_opens_the_metrics_and_nothing_else() -> None:
    with serve(TEMPLATES / "api.yaml", "--metrics-host", "Host.containers.internal") as named:
        name = "host.containers.internal:3000"
        assert ask(named, "GET", "/_warmfront/metrics", host=name)[0] == 200
        assert ask(named, "GET", "/_warmfront/metrics", host="rebound.example:3000")[0] == 403
        assert ask(named, "GET", "/_warmfront/metrics", host=name, origin="http://rebound.example:3000")[0] == 403
        for path in ("", "state", "snapshot", "events", "metrics/"):
            assert ask(named, "GET", f"/_warmfront/{path}", host=name)[0] == 403
        for method, path, body in WRITES:
            sent = ask(named, method, f"/_warmfront/functions/{path}", body, host=name, x_warmfront_token=TOKEN)
            assert sent[0] == 403


def test_the_functions_own_routes_are_as_open_as_before(served: Served) -> None:
    assert ask(served, "GET", "/pid", host="anything.example", origin="http://elsewhere.example")[0] == 200


# -- buttons ------------------------------------------------------------------------------------------------------------


def test_invoke_answers_with_the_outcome(served: Served) -> None:
    assert press(served, "POST", "Says/invoke", {"say": "x"})[0] == 200
    status, told = press(served, "POST", "Raises/invoke", {})
    assert status == 200
    assert told["status"] == "error"
    assert told["payload"]["errorType"]
    assert press(served, "POST", "Says/invoke", "{nonsense")[0] == 400
    assert press(served, "POST", "Nobody/invoke", {})[0] == 404
    assert press(served, "POST", "None/invoke", {})[1]["status"] == "throttled"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"kind": "flood"}, "throttle, crash, stall, latency"),
        ({"kind": "throttle", "seconds": "30"}, "seconds must be a number"),
        ({"kind": "throttle", "seconds": True}, "seconds must be a number"),
        ({"kind": "stall", "seconds": 1e9}, "must be 1 to 600"),
        ([], "want an object"),
        ("{nonsense", "not JSON"),
    ],
)
def test_a_fault_that_cannot_be_had_is_refused_with_a_reason(served: Served, body: object, said: str) -> None:
    status, told = press(served, "PUT", "Notes/fault", body)
    assert status == 400
    assert said in told["message"]


def test_a_fault_is_in_the_stream_until_it_is_cleared(served: Served) -> None:
    with stream(served) as messages:
        assert next(messages)["faults"] == []
        assert press(served, "PUT", "Notes/fault", {"kind": "latency", "amount": 20})[1]["title"] == "Latency"
        seen = next(message["faults"] for message in messages if message["faults"])
        assert [(each["function"], each["kind"]) for each in seen] == [("Notes", "latency")]
        assert press(served, "DELETE", "Notes/fault") == (200, {"cleared": True})
        assert next(message for message in messages if not message["faults"])
        assert press(served, "DELETE", "Notes/fault") == (200, {"cleared": False})


# -- the stream ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stream(served: Served) -> Iterator[Iterator[Any]]:
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("GET", "/_warmfront/events")
        answer = connection.getresponse()
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        yield (json.loads(line[6:]) for line in answer if line.startswith(b"data: "))
        answer.close()


def test_what_was_before_comes_first_and_what_happens_follows(served: Served) -> None:
    assert ask(served, "GET", "/pid")[0] == 200
    with stream(served) as messages:
        first = next(messages)
        assert "Http" in {each["function"] for each in first["invocations"]}
        _, told = press(served, "POST", "Echo/invoke", {})
        for message in messages:
            if told["request_id"] in {each["request_id"] for each in message["invocations"]}:
                break


def test_a_reader_that_does_not_read_holds_up_nobody(served: Served) -> None:
    netloc = urlsplit(served.url)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((netloc.hostname, netloc.port))
        deaf.sendall(f"GET /_warmfront/events HTTP/1.1\r\nHost: {netloc.netloc}\r\n\r\n".encode())
        with stream(served) as messages:
            for _ in range(6):
                next(messages)
            assert ask(served, "GET", "/pid")[0] == 200


def test_the_emulator_ends_at_once_with_the_page_open() -> None:
    with serve(TEMPLATES / "api.yaml") as served, stream(served) as messages:
        next(messages)
        since = len(served.lines)
        assert served.stop() == 0
        assert all(message["snapshot"] for message in messages)  # to its end: no reset
        assert not [line for line in served.lines[since:] if re.search("Traceback|Error|Cancel", line)]


def test_without_observation_there_is_no_dashboard_and_no_link() -> None:
    with serve(TEMPLATES / "api.yaml", "--no-observe") as served:
        assert ask(served, "GET", "/_warmfront/")[0] == 404
        assert not [line for line in served.lines if line.startswith("dashboard")]


# -- samples ------------------------------------------------------------------------------------------------------------


def test_a_sample_is_an_event_of_its_routes_own_format() -> None:
    rest = samples(load_template(CASES / "rest.yaml"))
    event = next(iter(rest.values()))[0]["event"]
    assert isinstance(event, dict)
    assert event["resource"]
    for name in ("http.yaml", "http_v1.yaml", "url.yaml", "stage.yaml"):
        found = samples(load_template(CASES / name))
        assert found
        assert all(json.dumps(each) for each in found.values())


def test_path_parameters_are_filled_in() -> None:
    found = [each for name in ("http.yaml", "rest.yaml") for each in samples(load_template(CASES / name)).values()]
    events: list[Any] = [sample["event"] for group in found for sample in group]
    assert not [event for event in events if "{" in (event.get("rawPath") or event.get("path"))]
    assert any(event.get("pathParameters") for event in events)
