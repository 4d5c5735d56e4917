"""A request's trace joins what the gateway, the Lambda service and the handler's tracer say of it; receiving costs bounded memory."""

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from warmfront.emulator.lambda_service.trace_header import Sampler, root
from warmfront.emulator.observe import segments as segments_module
from warmfront.emulator.observe.recorder import Answered, Ended
from warmfront.emulator.observe.segments import SegmentReceiver, read_datagram
from warmfront.emulator.observe.stream import QUEUE_MAX, Stream
from warmfront.emulator.observe.traces import assemble

from tests.emulator.harness import PATIENCE_S, until
from tests.emulator.observe.watched import TEMPLATE, ask, trace_of
from tests.emulator.serving import Served, serve

TRACE = "1-5759e988-bd862e3fe1be46a994272793"
PARENT = "53995c3f42cd8ad8"
HEADER = f"Root={TRACE};Parent={PARENT};Sampled=1"
MS = 1_000_000


def datagram(**members: object) -> bytes:
    document = {"trace_id": TRACE, "id": "a" * 16, "name": "work", "start_time": 1.0, "end_time": 1.5, **members}
    return b'{"format":"json","version":1}\n' + json.dumps(document).encode()


def ended(**changes: Any) -> Ended:
    whole = Ended(
        ended_ns=20 * MS, request_id="r1", trace_header=HEADER, status="ok", error_type=None, received_ns=2 * MS,
        dispatched_ns=10 * MS, duration_ms=8.0, init_ms=6.0, restore_ms=None, memory_used_mb=30, environment="e1",
        spawned_ns=3 * MS, ready_ns=9 * MS, log=b"", function="F",
    )  # fmt: skip
    return whole._replace(**changes)


REQUEST = Answered(20 * MS, 0, "Api", "GET /a", "F", "GET", "/a", 200, 2, "g1", f"Root={TRACE}")


def spans(trace: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    assert trace is not None
    return {span["kind"] + ":" + span["name"]: span for span in trace["spans"]}


def test_a_cold_request_is_gateway_then_queue_init_and_invoke() -> None:
    trace = assemble(TRACE, [REQUEST], [("F", ended())], [], epoch_ns=0)
    found = spans(trace)
    assert {name: (span["start_ms"], span["duration_ms"]) for name, span in found.items()} == {
        "gateway:GET /a": (0.0, 20.0),
        "queue:queue": (2.0, 1.0),
        "init:init": (3.0, 6.0),
        "invoke:F": (10.0, 8.0),
    }
    gateway = found["gateway:GET /a"]
    assert gateway["parent"] is None
    assert {span["parent"] for span in found.values()} == {None, gateway["id"]}
    assert trace is not None
    assert trace["sampled"]


def test_a_warm_invocation_has_no_init() -> None:
    found = spans(assemble(TRACE, [], [("F", ended(init_ms=None, spawned_ns=0, ready_ns=1))], [], epoch_ns=0))
    assert set(found) == {"queue:queue", "invoke:F"}


def test_the_handlers_segments_hang_under_its_invocation() -> None:
    documents = [
        {"id": "b", "name": "inner", "parent_id": "a", "start_time": 0.013, "end_time": 0.014},
        {"id": "a", "name": "## handler", "parent_id": PARENT, "start_time": 0.012, "end_time": 0.015, "fault": True,
         "cause": {"exceptions": [{"type": "ValueError", "message": "no"}]}},
    ]  # fmt: skip
    trace = assemble(TRACE, [REQUEST], [("F", ended())], documents, epoch_ns=0)
    assert trace is not None
    assert [span["name"] for span in trace["spans"]] == ["GET /a", "queue", "init", "F", "## handler", "inner"]
    found = spans(trace)
    assert found["segment:## handler"]["parent"] == PARENT == found["invoke:F"]["id"]
    assert found["segment:## handler"]["error"] == "ValueError: no"
    assert found["segment:inner"]["function"] == "F"


def test_a_segment_whose_parent_is_unknown_or_itself_stands_at_the_top() -> None:
    documents = [
        {"id": "a", "name": "a", "parent_id": "gone", "start_time": 1.0},
        {"id": "b", "name": "b", "parent_id": "b", "start_time": 2.0},
    ]
    trace = assemble(TRACE, [], [], documents, epoch_ns=0)
    assert trace is not None
    assert [(span["name"], span["parent"]) for span in trace["spans"]] == [("a", None), ("b", None)]
    assert assemble(TRACE, [], [], [], epoch_ns=0) is None


# -- receiving ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[SegmentReceiver]:
    with closing(SegmentReceiver()) as receiver:
        yield receiver


def send(receiver: SegmentReceiver, *datagrams: bytes) -> None:
    host, _, port = receiver.address.partition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for each in datagrams:
            sender.sendto(each, (host, int(port)))


def test_nested_subsegments_come_out_beside_their_parents_and_the_later_report_counts(
    receiver: SegmentReceiver,
) -> None:
    outer = {"subsegments": [{"id": "b" * 16, "name": "inner", "start_time": 1.1, "end_time": 1.2}]}
    send(receiver, datagram(in_progress=True), datagram(**outer), datagram(trace_id="1-other", id="c" * 16), b"noise")
    found = receiver.of_trace(TRACE)
    assert [(each["name"], each.get("parent_id")) for each in found] == [("work", None), ("inner", "a" * 16)]
    assert "in_progress" not in found[0]


def test_segments_are_read_in_batches_when_somebody_sent_some(
    receiver: SegmentReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments_module, "BATCH_S", 0.01)

    async def run() -> None:
        receiver.start()
        for round_ in (1, 2):
            send(receiver, *[datagram(id=f"{number:016x}") for number in range(5)])
            async with asyncio.timeout(PATIENCE_S):
                await until(lambda wanted=5 * round_: receiver.received == wanted)  # type: ignore[misc]

    asyncio.run(run())


def test_segments_that_nobody_asks_for_are_forgotten_oldest_first(
    receiver: SegmentReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments_module, "KEPT_MAX", 3)
    send(receiver, *[datagram(id=f"{number:016x}") for number in range(5)])
    assert [int(each["id"], 16) for each in receiver.of_trace(TRACE)] == [2, 3, 4]


def test_what_the_socket_could_not_hold_is_counted(receiver: SegmentReceiver) -> None:
    flood = datagram(metadata="x" * 60_000)
    sent = 300
    send(receiver, *[flood] * sent)
    receiver.drain()
    send(receiver, datagram())  # the kernel tells of drops with the next datagram it takes
    receiver.drain()
    assert receiver.dropped > 0
    assert receiver.received + receiver.dropped == sent + 1


@pytest.mark.parametrize("noise", [b"", b"hello", b'{"format":"json"}\n{', b'{"format":"json"}\n[1]'])
def test_what_is_no_segment_is_none(noise: bytes) -> None:
    assert read_datagram(noise) is None


# -- the header --------------------------------------------------------------------------------------------------------


def test_the_first_invocations_of_a_second_are_sampled_and_a_share_of_the_others() -> None:
    now_s = [0.0]
    sampler = Sampler(per_second=2, share=0.5, clock=lambda: now_s[0], generator=random.Random(1))
    headers = [sampler.header(f"Root={TRACE}") for _ in range(1002)]
    assert ["Sampled=1" in each for each in headers[:2]] == [True, True]
    assert 400 < sum("Sampled=1" in each for each in headers[2:]) < 600
    now_s[0] = 1.0
    never = Sampler(per_second=0, share=0.0)
    assert "Sampled=1" in sampler.header(f"Root={TRACE}")
    assert never.header(f"Root={TRACE}").endswith(";Sampled=0")


def test_what_a_second_has_left_is_not_carried_into_the_next() -> None:
    now_s = [0.5]
    sampler = Sampler(per_second=2, share=0.0, clock=lambda: now_s[0])
    assert "Sampled=1" in sampler.header(f"Root={TRACE}")
    now_s[0] = 1.25
    assert ["Sampled=1" in sampler.header(f"Root={TRACE}") for _ in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("sampled", ["0", "1"])
def test_a_caller_that_has_decided_is_followed_and_each_function_has_a_segment_of_its_own(sampled: str) -> None:
    sampler = Sampler(per_second=0 if sampled == "1" else 10)
    given = f"Root={TRACE};Parent={PARENT};Sampled={sampled}"
    made = sampler.header(given)
    assert made.startswith(f"Root={TRACE};Parent=")
    assert made.endswith(f";Sampled={sampled}")
    assert PARENT not in made
    assert sampler.header(given) != made


def test_the_trace_id_of_any_header_is_what_follows_root() -> None:
    assert root(f"Self=1;Root={TRACE};Sampled=1") == root(f"Root={TRACE}") == root(TRACE) == TRACE


# -- the stream --------------------------------------------------------------------------------------------------------


def test_ticks_are_made_only_for_somebody_and_a_slow_reader_loses_the_oldest() -> None:
    made: list[int] = []

    async def run() -> list[int]:
        def make(_: int) -> dict[str, Any]:
            made.append(len(made) + 1)
            return {"number": made[-1]}

        stream = Stream(make, lambda: 0)
        await asyncio.sleep(0)
        assert not made
        with stream.subscribe() as ticks:
            for _ in range(QUEUE_MAX + 3):
                stream._tick()  # what its timer would do
            stream.close()
            numbers = [tick["number"] async for tick in ticks]
        assert not stream.watched
        assert stream.dropped == 3
        return numbers

    numbers = asyncio.run(run())
    assert numbers == list(range(5, QUEUE_MAX + 4))


# -- served ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(TEMPLATE) as served:
        yield served


def test_a_strangers_x_ray_sdk_is_traced_with_no_configuration_cold_and_warm(served: Served) -> None:
    for kinds in (["gateway", "queue", "init", "invoke"], ["gateway", "queue", "invoke"]):
        status, headers, _ = ask(served, "/powertools")
        assert status == 200
        trace = trace_of(served, headers)
        assert [span["kind"] for span in trace["spans"]] == [*kinds, "segment", "segment"]
        by_name = {span["name"]: span for span in trace["spans"]}
        handler, method = by_name["## powertools"], by_name["## app.price"]
        assert handler["parent"] == by_name["Powertools"]["id"]
        assert method["parent"] == handler["id"]
        assert method["annotations"] == {"items": "3"}
        assert handler["annotations"]["ColdStart"] is ("init" in kinds)
        assert all(0 <= span["start_ms"] <= trace["duration_ms"] for span in trace["spans"])


def test_an_invocation_is_found_with_its_log_its_report_and_its_trace(served: Served) -> None:
    _, headers, _ = ask(served, "/powertools?fail=1")
    trace_id = trace_of(served, headers)["trace_id"]
    (found,) = [
        each
        for each in json.loads(ask(served, "/_warmfront/invocations")[2])["invocations"]
        if each["trace_id"] == trace_id
    ]
    assert (found["status"], found["failed"], found["error_type"], found["http_status"]) == (
        "error",
        True,
        "ValueError",
        500,
    )
    whole = json.loads(ask(served, f"/_warmfront/invocations/{found['request_id']}")[2])
    assert whole["report"].startswith(f"REPORT RequestId: {found['request_id']}")
    assert "no such order" in whole["log"]
    assert whole["trace"]["trace_id"] == trace_id
    assert any(span["error"] == "ValueError: no such order" for span in whole["trace"]["spans"])


def test_failed_invocations_come_first_and_the_newest_trace_does(served: Served) -> None:
    ask(served, "/failing")
    _, headers, _ = ask(served, "/greedy")
    listed = json.loads(ask(served, "/_warmfront/invocations?limit=1")[2])["invocations"]
    assert listed[0]["failed"]
    newest = json.loads(ask(served, "/_warmfront/traces?limit=1")[2])["traces"]
    assert newest[0]["trace_id"] == trace_of(served, headers)["trace_id"]
    assert newest[0]["name"] == "GET /greedy"


def test_the_trace_that_a_client_began_goes_on(served: Served) -> None:
    _, headers, body = ask(served, "/greedy", {"X-Amzn-Trace-Id": HEADER})
    assert root(headers["x-amzn-trace-id"]) == root(body) == TRACE
    assert body.endswith(";Sampled=1")
    assert PARENT not in body


def test_what_is_unknown_or_asked_for_wrongly_is_said(served: Served) -> None:
    assert ask(served, "/_warmfront/traces/1-none")[0] == 404
    assert ask(served, "/_warmfront/invocations/none")[0] == 404
    status, _, body = ask(served, "/_warmfront/traces?limit=many")
    assert status == 400
    assert "limit" in body
