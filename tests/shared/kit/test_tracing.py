"""Tracing: the documents that the X-Ray SDK would send, sent without it, and nothing at all where nobody traces."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.kit import telemetry
from shared.kit.tracing import HEADER, XRayProvider, tracer_for

ROOT = Path(__file__).parents[3]
TRACE_ID, PARENT_ID = "1-67f0c1a2-0123456789abcdef01234567", "53995c3f42cd8ad8"
SAMPLED = f"Root={TRACE_ID};Parent={PARENT_ID};Sampled=1"


class Daemon:
    """Listens where the X-Ray daemon would."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.address: tuple[str, int] = self._socket.getsockname()

    def received(self) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = []
        while True:
            try:
                header, body = self._socket.recv(65_536).split(b"\n", 1)
            except BlockingIOError:
                return documents
            assert header + b"\n" == HEADER
            documents.append(json.loads(body))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    yield daemon
    daemon.close()


@pytest.fixture
def provider(daemon: Daemon) -> Iterator[XRayProvider]:
    provider = XRayProvider(daemon.address, {"_X_AMZN_TRACE_ID": SAMPLED})
    yield provider
    provider.close()


def test_a_piece_of_work_is_one_document_below_its_segment(daemon: Daemon, provider: XRayProvider) -> None:
    with provider.in_subsegment("## handler") as subsegment:
        subsegment.put_annotation("ColdStart", True)
        provider.put_annotation("Service", "pooled")
        provider.put_metadata("rows", 1, "shop")
    (document,) = daemon.received()
    assert re.fullmatch("[0-9a-f]{16}", document["id"])
    assert (document["name"], document["type"]) == ("## handler", "subsegment")
    assert (document["trace_id"], document["parent_id"]) == (TRACE_ID, PARENT_ID)
    assert document["start_time"] <= document["end_time"]
    assert document["annotations"] == {"ColdStart": True, "Service": "pooled"}
    assert document["metadata"] == {"shop": {"rows": 1}}


def test_time_at_postgres_and_redis_is_a_span_of_the_handler(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "on_spend", None)
    host, port = daemon.address
    environ = {"AWS_XRAY_DAEMON_ADDRESS": f"{host}:{port}", "_X_AMZN_TRACE_ID": SAMPLED}
    tracer = tracer_for(environ, "pooled")
    assert tracer is not None
    telemetry.spend("db", time.perf_counter())  # outside of any handler

    async def query() -> None:
        begun_s = time.perf_counter()
        await asyncio.sleep(0.02)
        telemetry.spend("db", begun_s, failed=True)
        telemetry.spend("redis", time.perf_counter())

    with tracer.provider.in_subsegment("## handler"):
        asyncio.run(query())
    postgres, redis, handler = daemon.received()
    assert isinstance(tracer.provider, XRayProvider)
    tracer.provider.close()
    assert [each["name"] for each in (postgres, redis, handler)] == ["postgres", "redis", "## handler"]
    assert postgres["parent_id"] == redis["parent_id"] == handler["id"]
    assert (postgres["namespace"], postgres["fault"], "fault" in redis) == ("remote", True, False)
    assert postgres["end_time"] - postgres["start_time"] >= 0.02
    assert handler["start_time"] <= postgres["start_time"]


def test_work_inside_work_names_its_parent(daemon: Daemon, provider: XRayProvider) -> None:
    async def nested() -> None:
        async with provider.in_subsegment_async("query", namespace="remote"):
            pass

    with provider.in_subsegment("## handler"):
        asyncio.run(nested())
    inner, outer = daemon.received()
    assert (inner["parent_id"], inner["namespace"]) == (outer["id"], "remote")


def test_an_error_is_a_fault_and_tells_its_type_but_not_its_message(daemon: Daemon, provider: XRayProvider) -> None:
    with pytest.raises(ValueError, match="secret"), provider.in_subsegment("## handler"):
        raise ValueError("secret row")
    (document,) = daemon.received()
    assert document["fault"] is True
    assert document["cause"]["exceptions"][0]["type"] == "ValueError"
    assert "secret" not in json.dumps(document)


@pytest.mark.parametrize("header", ["", f"Root={TRACE_ID};Parent={PARENT_ID};Sampled=0", "Sampled=1", "nonsense"])
def test_an_invocation_that_was_not_sampled_sends_nothing(daemon: Daemon, header: str) -> None:
    provider = XRayProvider(daemon.address, {"_X_AMZN_TRACE_ID": header})
    with provider.in_subsegment("## handler") as subsegment:
        subsegment.put_annotation("ColdStart", True)
    assert daemon.received() == []


def test_no_daemon_and_too_large_a_document_fail_nothing(daemon: Daemon) -> None:
    nobody = XRayProvider(("127.0.0.1", 9), {"_X_AMZN_TRACE_ID": SAMPLED})
    for _ in range(3):  # the refusal of one datagram is reported by the next
        with nobody.in_subsegment("## handler"):
            pass
    nobody.close()
    provider = XRayProvider(daemon.address, {"_X_AMZN_TRACE_ID": SAMPLED})
    with provider.in_subsegment("## handler") as subsegment:
        subsegment.put_metadata("everything", "x" * 70_000)
    assert daemon.received() == []


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"AWS_XRAY_DAEMON_ADDRESS": ""},
        {"AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000", "POWERTOOLS_TRACE_DISABLED": "true"},
    ],
)
def test_where_nothing_traces_there_is_no_tracer(environ: dict[str, str]) -> None:
    assert tracer_for(environ, "shop") is None


def test_the_daemons_address_may_name_both_protocols() -> None:
    tracer = tracer_for({"AWS_XRAY_DAEMON_ADDRESS": "tcp:127.0.0.1:2001 udp:127.0.0.1:2000"}, "shop")
    assert tracer is not None
    assert isinstance(tracer.provider, XRayProvider)
    assert tracer.provider._daemon == ("127.0.0.1", 2000)


def test_powertools_sends_the_same_document_with_our_provider_as_with_the_sdk(daemon: Daemon) -> None:
    script = """
import os, sys
from aws_lambda_powertools import Tracer
from shared.kit.tracing import tracer_for
tracer = tracer_for(os.environ, "shop") if sys.argv[1] == "ours" else Tracer(service="shop", auto_patch=False)
def handler(event, context): return {}
tracer.capture_lambda_handler(handler, capture_response=False)({}, None)
"""
    environ = {
        "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{daemon.address[1]}",
        "_X_AMZN_TRACE_ID": SAMPLED,
        "LAMBDA_TASK_ROOT": str(ROOT),
        "PYTHONPATH": str(ROOT),
    }
    for whose in ("ours", "sdk"):
        subprocess.run([sys.executable, "-c", script, whose], env=environ, check=True)
    ours, sdk = daemon.received()
    drawn = ("id", "start_time", "end_time")
    assert {name: value for name, value in ours.items() if name not in drawn} == {
        name: value for name, value in sdk.items() if name not in drawn
    }
    assert [type(ours[name]) for name in drawn] == [type(sdk[name]) for name in drawn]
