"""The endpoint: routes by key, every failure a problem document, one metrics line, and nothing of the inside in either."""

import asyncio
import base64
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from shared.kit import telemetry, tracing
from shared.kit.endpoint import Handler, Request, Response, endpoint
from shared.kit.problems import Invalid, Problem, Unavailable, at
from tests.functions.conftest import Context, payload

SECRET = "postgresql://app:hunter2@db.internal/shop"


def call(handler: Handler, method: str = "GET", path: str = "/x/things/7", **event: Any) -> dict[str, Any]:
    return handler(payload(method, path, body=None, headers={}, query={}) | event, Context())


def answering(response: Response) -> Handler:
    async def route(_: Request) -> Response:
        return response

    return endpoint({"GET /x/things/{id}": route}, run=asyncio.run)


def raising(error: Exception) -> Handler:
    async def route(_: Request) -> Response:
        raise error

    return endpoint({"GET /x/things/{id}": route}, run=asyncio.run)


def test_a_response_is_what_payload_2_wants() -> None:
    assert call(answering(Response(200, '{"a":1}', {"etag": '"1"'}))) == {
        "statusCode": 200,
        "headers": {"content-type": "application/json", "etag": '"1"'},
        "body": '{"a":1}',
        "isBase64Encoded": False,
    }


def test_a_response_without_a_body_has_no_type_of_it() -> None:
    assert call(answering(Response(304, headers={"etag": '"1"'})))["headers"] == {"etag": '"1"'}


def test_headers_of_one_response_are_not_those_of_the_next() -> None:
    first, second = Response(200), Response(200)
    first.headers["x"] = "1"
    assert second.headers == {}


@pytest.mark.parametrize("event", [{"routeKey": "GET /y"}, {"routeKey": "$default"}, {"routeKey": None}])
def test_an_unknown_route_is_not_found(event: dict[str, Any]) -> None:
    assert call(answering(Response(200)), **event)["statusCode"] == 404


def test_an_event_that_is_no_http_request_is_not_found() -> None:
    assert answering(Response(200))({}, Context())["statusCode"] == 404


def test_a_problem_is_answered_as_rfc_9457_says() -> None:
    context = Context()
    event = payload("GET", "/x/things/7", body=None, headers={}, query={})
    result = raising(Invalid(at("/name", "Too long.")))(event, context)
    assert result["statusCode"] == 422
    assert result["headers"] == {"content-type": "application/problem+json", "cache-control": "no-store"}
    assert json.loads(result["body"]) == {
        "type": "urn:warmfront:problem:invalid",
        "title": "The request does not meet the contract",
        "status": 422,
        "detail": "#/name: Too long.",
        "instance": f"urn:uuid:{context.aws_request_id}",
        "errors": [{"pointer": "#/name", "detail": "Too long."}],
    }


@pytest.mark.parametrize(("wait_s", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.2, "2"), (29.9, "30")])
def test_an_unavailable_shop_says_when_to_come_back_and_never_too_soon(wait_s: float, header: str) -> None:
    result = call(raising(Unavailable("Not now.", retry_after_s=wait_s)))
    assert (result["statusCode"], result["headers"]["retry-after"]) == (503, header)
    assert json.loads(result["body"])["retry_after"] == int(header)


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What the logger writes; it holds on to the stdout of its import."""
    handler = cast("logging.StreamHandler[StringIO]", telemetry.logger.registered_handler)
    before = handler.setStream(stream := StringIO())
    yield stream
    handler.setStream(cast("StringIO", before))


def test_what_nobody_foresaw_is_a_500_that_tells_nothing(log: StringIO) -> None:
    async def route(_: Request) -> Response:
        password = SECRET
        raise RuntimeError(f"cannot reach {password}")

    result = call(endpoint({"GET /x/things/{id}": route}, run=asyncio.run))
    assert result["statusCode"] == 500
    logged = log.getvalue()
    for told in (result["body"], logged):
        assert "hunter2" not in told
        assert "Traceback" not in told
        assert "raise " not in told
    (line,) = [json.loads(line) for line in logged.splitlines()]
    assert line["message"] == telemetry.UNEXPECTED
    assert line["error_type"] == "RuntimeError"
    assert line["where"][-1].startswith("test_endpoint.py:")


class Missing(Exception):
    """As asyncpg raises it."""

    sqlstate = "42P01"


@pytest.mark.parametrize("local", [True, False])
def test_a_missing_table_is_named_in_the_log_and_on_a_developers_machine_to_the_client(
    log: StringIO, local: bool
) -> None:
    async def route(_: Request) -> Response:
        raise Missing('relation "things" does not exist')

    result = call(endpoint({"GET /x/things/{id}": route}, run=asyncio.run, local_identity="me" if local else None))
    document = json.loads(result["body"])
    assert (result["statusCode"], document["type"]) == (500, "urn:warmfront:problem:not-set-up")
    assert "retry-after" not in result["headers"]
    assert ("things" in document["detail"]) is local
    (line,) = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (line["message"], line["level"]) == (telemetry.NOT_SET_UP, "ERROR")
    assert (line["missing"], line["sqlstate"]) == ('relation "things" does not exist', "42P01")


def test_an_unforeseen_error_of_the_database_is_logged_with_its_sqlstate_and_constraint(log: StringIO) -> None:
    error = asyncpg.ForeignKeyViolationError("Key (product_id)=(hunter2) is not present in table")
    error.constraint_name = "order_lines_product_fkey"
    assert call(raising(error))["statusCode"] == 500
    (line,) = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (line["sqlstate"], line["constraint"]) == ("23503", "order_lines_product_fkey")
    assert "hunter2" not in log.getvalue()


def logging_route() -> Handler:
    async def route(request: Request) -> Response:
        if request.query.get("log"):
            telemetry.logger.info("seen")
        return Response(200)

    return endpoint({"GET /x/things/{id}": route}, run=asyncio.run)


def test_a_line_of_the_log_is_of_the_invocation_that_logged_it(log: StringIO) -> None:
    handler = logging_route()
    wanted = []
    for number, logs in enumerate((True, True, False, True, True)):
        context = Context()
        context.aws_request_id = f"request-{number}"
        query = {"log": "yes"} if logs else {}
        handler(payload("GET", "/x/things/7", body=None, headers={}, query=query), context)
        wanted += [context.aws_request_id] * logs
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["function_request_id"] for line in lines] == wanted
    assert [line["cold_start"] for line in lines[1:]] == [False] * (len(lines) - 1)


def test_later_invocations_log_what_powertools_decorator_makes_the_first_one_log(log: StringIO) -> None:
    handler = logging_route()
    for _ in range(2):
        call(handler, queryStringParameters={"log": "yes"})
    first, second = (json.loads(line) for line in log.getvalue().splitlines())
    of_the_moment = ("timestamp", "cold_start", "function_request_id", "taskName")
    assert {**first, **dict.fromkeys(of_the_moment)} == {**second, **dict.fromkeys(of_the_moment)}


def test_an_invocation_that_x_ray_chose_has_its_subsegment_and_its_own_log_keys_and_no_other_one_has(
    log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.setblocking(False)
        tracer = tracing.tracer_for({"AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{daemon.getsockname()[1]}"}, "shop")
        assert tracer is not None
        provider = cast("tracing.XRayProvider", tracer.provider)
        provider._environ = os.environ
        monkeypatch.setattr(tracing, "tracer_for", lambda *_: tracer)
        handler = logging_route()
        chosen = []
        for number, sampled in enumerate((0, 0, 1, 0, 1)):
            trace_id = "Root=1-67f0c1a2-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled="
            monkeypatch.setenv("_X_AMZN_TRACE_ID", f"{trace_id}{sampled}")
            context = Context()
            context.aws_request_id = f"request-{number}"
            query = {"log": "yes"} if sampled else {}
            handler(payload("GET", "/x/things/7", body=None, headers={}, query=query), context)
            try:
                chosen.append(daemon.recv(65_536))
            except BlockingIOError:
                chosen.append(b"")
        provider.close()
        assert [bool(one) for one in chosen] == [False, False, True, False, True]
        logged = [json.loads(line)["function_request_id"] for line in log.getvalue().splitlines()]
        assert logged == ["request-2", "request-4"]


def test_the_first_invocation_alone_counts_as_a_cold_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aws_lambda_powertools.metrics.provider.cold_start.is_cold_start", True)
    handler = answering(Response(200))
    for _ in range(3):
        call(handler)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum("ColdStart" in line for line in lines) == 1
    assert sum("Latency" in line for line in lines) == 3


def test_metrics_are_written_also_of_an_invocation_that_the_environment_breaks_off(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def route(_: Request) -> Response:
        telemetry.measure(telemetry.CONNECTIONS_LOST, 1)
        raise KeyboardInterrupt

    handler = endpoint({"GET /x/things/{id}": route}, run=asyncio.run)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            call(handler)
    assert sum("ConnectionsLost" in line for line in capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("name", ["POWERTOOLS_LOGGER_LOG_EVENT", "POWERTOOLS_LOGGER_SAMPLE_RATE"])
def test_a_logger_that_is_to_act_on_every_invocation_does(name: str) -> None:
    script = """
import asyncio
from shared.kit.endpoint import Response, endpoint
async def route(_): return Response(200)
handler = endpoint({"GET /x": route}, run=asyncio.run)
assert hasattr(handler.__wrapped__, "__wrapped__"), "not Powertools' decorators, one around the other"
"""
    environ = os.environ | {name: "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, "-c", script], env=environ, check=True)


def test_every_invocation_writes_one_line_of_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    handler = answering(Response(200))
    call(handler)
    capsys.readouterr()
    call(handler)
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (metrics,) = line["_aws"]["CloudWatchMetrics"]
    assert metrics["Namespace"] == telemetry.NAMESPACE
    assert metrics["Dimensions"] == [["service"]]
    assert metrics["Metrics"] == [{"Name": "Latency", "Unit": "Milliseconds"}]
    assert line["Latency"][0] >= 0
    assert (line["route"], line["status"], line["service"]) == ("GET /x/things/{id}", 200, telemetry.SERVICE)


def test_measuring_writes_what_powertools_own_way_of_adding_a_metric_writes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = []
    for add in (
        telemetry.measure,
        lambda name, value: telemetry.metrics.add_metric(name, telemetry.UNITS[name], value),
    ):
        for name in telemetry.UNITS:
            add(name, 1.5)
            add(name, 2.5)
        telemetry.metrics.flush_metrics()
        line = json.loads(capsys.readouterr().out)
        del line["_aws"]["Timestamp"]
        lines.append(line)
    assert lines[0] == lines[1]


def test_a_line_of_ours_is_the_one_powertools_own_way_out_writes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for flush in (telemetry.emf.flush_metrics, super(telemetry.Emf, telemetry.emf).flush_metrics):
        telemetry.measure(telemetry.LATENCY, 1.25)
        telemetry.measure(telemetry.CONNECTIONS_OPEN, 1)
        telemetry.describe(route="GET /x", status=200, request_id="r-1")
        flush()
        line = json.loads(capsys.readouterr().out)
        assert abs(line["_aws"].pop("Timestamp") / 1000 - time.time()) < 60
        lines.append(line)
    assert lines[0] == lines[1]


def test_a_metric_that_is_not_ours_takes_powertools_own_way(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.measure(telemetry.LATENCY, 1.25)
    telemetry.metrics.add_metric("Theirs", "Count", 3)
    telemetry.metrics.add_dimension("tenant", "t")
    telemetry.metrics.flush_metrics()
    line = json.loads(capsys.readouterr().out)
    assert (line["Theirs"], line["Latency"], line["tenant"]) == ([3.0], [1.25], "t")


def test_a_body_may_come_in_base64() -> None:
    async def echo(request: Request) -> Response:
        return Response(200, request.body.decode())

    handler = endpoint({"POST /x/things": echo}, run=asyncio.run)
    for event in ({"body": "grün"}, {"body": base64.b64encode("grün".encode()).decode(), "isBase64Encoded": True}):
        assert call(handler, "POST", "/x/things", **event)["body"] == "grün"
    wrong = call(handler, "POST", "/x/things", body="%%%", isBase64Encoded=True)
    assert wrong["statusCode"] == 400


def test_a_body_over_the_limit_is_refused_before_it_is_looked_at() -> None:
    async def never(_: Request) -> Response:
        raise AssertionError("looked at")

    handler = endpoint({"POST /x/things": never}, run=asyncio.run, body_max_bytes=10)
    assert call(handler, "POST", "/x/things", body="x" * 11)["statusCode"] == 413


def test_the_caller_is_part_of_the_scope_where_the_gateway_knows_it() -> None:
    async def scope(request: Request) -> Response:
        return Response(200, request.idempotency_scope)

    handler = endpoint({"POST /x/things": scope}, run=asyncio.run, local_identity="local")
    event = payload("POST", "/x/things", body=None, headers={}, query={})
    assert handler(event, Context())["body"] == "POST /x/things local"
    event["requestContext"]["authorizer"] = {"jwt": {"claims": {"sub": "alice"}, "scopes": None}}
    assert handler(event, Context())["body"] == "POST /x/things alice"


def test_every_problem_has_its_own_type_and_a_status_that_is_an_error() -> None:
    kinds: list[type[Problem]] = [Problem]
    for kind in kinds:
        kinds += [below for below in kind.__subclasses__() if below.__module__ == Problem.__module__]
    assert len({kind.type for kind in kinds}) == len(kinds)
    assert all(400 <= kind.status <= 599 for kind in kinds)
    assert all(kind.type.replace("-", "").isalpha() and kind.type.islower() for kind in kinds)
