"""The two loops against a real server: every exchange is one sample, whatever became of it."""

import asyncio
import itertools
import time
from collections import Counter
from pathlib import Path

import pytest
from warmfront.bench.load.generator import Generator
from warmfront.bench.load.pacing import schedule
from warmfront.bench.load.render import Renderer
from warmfront.bench.load.samples import Outcome, Plan, Recording, Target
from warmfront.bench.load.workloads import load_workloads

from tests.bench.http_server import Answer, Got, Handler, Server, serving

PLAIN = '[[request]]\npath = "/x/{id:1..100000}"\n'


async def run_blocks(port: int, path: Path, plans: list[Plan]) -> list[Recording]:
    file = load_workloads(path)
    generator = Generator(Target("127.0.0.1", port))
    recordings = []
    for plan in plans:
        renderer = Renderer(
            file.workloads[0], file.variants[0].prefix, host="x", headers={}, seed=plan.seed, keep_alive=plan.keep_alive
        )
        await generator.prepare(plan, renderer, expected=10)
        recordings.append(await generator.run())
    generator.close()
    return recordings


def blocks(tmp_path: Path, handler: Handler, *plans: Plan, requests: str = PLAIN) -> tuple[list[Recording], Server]:
    path = tmp_path / "w.toml"
    path.write_text('[[variant]]\nname = "v"\n' + requests)
    with serving(handler) as server:
        return asyncio.run(run_blocks(server.port, path, list(plans))), server


def block(tmp_path: Path, handler: Handler, plan: Plan, *, requests: str = PLAIN) -> tuple[Recording, Server]:
    (recording,), server = blocks(tmp_path, handler, plan, requests=requests)
    return recording, server


def outcomes(recording: Recording) -> Counter[Outcome]:
    return Counter(Outcome(value) for value in recording.outcome)


def fine(_: Got) -> Answer:
    return Answer()


@pytest.mark.parametrize(("workers", "requests"), [(1, 1), (1, 7), (5, 100), (50, 20), (3, 0)])
def test_a_closed_block_sends_exactly_its_requests(tmp_path: Path, workers: int, requests: int) -> None:
    recording, server = block(tmp_path, fine, Plan(workers=workers, requests=requests))
    assert len(recording) == len(server.got) == requests
    assert outcomes(recording) == ({Outcome.OK: requests} if requests else {})
    assert list(recording.status) == [200] * requests
    assert recording.intended_ns == recording.sent_ns
    assert all(sent < done for sent, done in zip(recording.sent_ns, recording.done_ns, strict=True))


def test_never_more_than_the_workers_are_in_flight(tmp_path: Path) -> None:
    inside, most = 0, 0

    async def handler(_: Got) -> Answer:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.001)  # the server's work, so that requests overlap; the test itself waits for nothing
        inside -= 1
        return Answer()

    _, server = block(tmp_path, handler, Plan(workers=8, requests=200))
    assert most == 8
    assert server.connections == 8


def test_connections_are_kept_from_block_to_block(tmp_path: Path) -> None:
    plans = [Plan(workers=4, requests=40), Plan(workers=4, requests=40), Plan(workers=6, requests=40)]
    recordings, server = blocks(tmp_path, fine, *plans)
    assert server.connections == 6
    assert [recording.opened for recording in recordings] == [0, 0, 0]


def test_a_new_connection_for_each_request_when_asked(tmp_path: Path) -> None:
    recording, server = block(tmp_path, fine, Plan(workers=3, requests=30, keep_alive=False))
    assert server.connections == recording.opened == 30
    assert outcomes(recording) == {Outcome.OK: 30}


def test_a_timed_block_ends_after_its_time_with_all_that_was_begun(tmp_path: Path) -> None:
    recording, server = block(tmp_path, fine, Plan(workers=4, duration_s=0.3))
    assert len(recording) == len(server.got) > 256  # more than was rendered for it
    assert max(recording.sent_ns) - min(recording.sent_ns) <= 0.3e9 < recording.duration_s * 1e9


def test_an_unexpected_status_is_an_error_with_its_latency(tmp_path: Path) -> None:
    def handler(got: Got) -> Answer:
        return Answer(status=500 if int(got.path[3:]) % 2 else 200)

    recording, server = block(tmp_path, handler, Plan(workers=4, requests=100))
    odd = sum(int(got.path[3:]) % 2 for got in server.got)
    assert 0 < odd < 100
    assert recording.errors == odd == recording.status.count(500)
    assert len(recording.latency_us()) == 100


def test_what_takes_too_long_is_a_sample_as_long_as_the_time_out(tmp_path: Path) -> None:
    hung: list[Got] = []

    async def handler(got: Got) -> Answer:
        if not hung:
            hung.append(got)
            await asyncio.Event().wait()  # never answers: the caller's time-out ends the wait
        return Answer()

    plan = Plan(workers=2, requests=20, timeout_s=0.2)
    (recording, after), server = blocks(tmp_path, handler, plan, plan)
    assert outcomes(recording) == {Outcome.TIMEOUT: 1, Outcome.OK: 19}
    assert outcomes(after) == {Outcome.OK: 20}
    (waited,) = [
        latency
        for latency, outcome in zip(recording.latency_us(), recording.outcome, strict=True)
        if outcome == Outcome.TIMEOUT
    ]
    assert waited >= 200_000
    assert server.connections == 3  # the one that hung was replaced


def test_a_lost_connection_is_an_error_and_is_opened_again(tmp_path: Path) -> None:
    count = itertools.count(1)

    def handler(_: Got) -> Answer:
        return Answer(raw=b"" if next(count) % 10 == 0 else None)

    recording, server = block(tmp_path, handler, Plan(workers=2, requests=50))
    assert outcomes(recording) == {Outcome.LOST: 5, Outcome.OK: 45}
    assert server.connections > 2


def test_what_is_not_http_is_an_error(tmp_path: Path) -> None:
    recording, _ = block(tmp_path, lambda _: Answer(raw=b"SSH-2.0-x\r\n"), Plan(workers=1, requests=3))
    assert outcomes(recording) == {Outcome.PROTOCOL: 3}


def test_a_server_that_is_gone_gives_errors_and_not_an_exception(tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text('[[variant]]\nname = "v"\n' + PLAIN)
    with serving(fine) as server:
        port = server.port
    (recording,) = asyncio.run(run_blocks(port, path, [Plan(workers=2, requests=6)]))
    assert outcomes(recording) == {Outcome.CONNECT: 6}


def test_a_server_that_closes_after_each_answer_is_answered_by_new_connections(tmp_path: Path) -> None:
    def handler(_: Got) -> Answer:
        return Answer(headers={"connection": "close"})

    recording, server = block(tmp_path, handler, Plan(workers=2, requests=20))
    assert outcomes(recording) == {Outcome.OK: 20}
    assert server.connections >= 20


def test_a_body_check_that_fails_is_an_error(tmp_path: Path) -> None:
    requests = '[[request]]\npath = "/x/{id:1..100}"\njson = { id = "{id}" }\n'

    def handler(got: Got) -> Answer:
        number = int(got.path[3:])
        return Answer(b'{"id": %d}' % (number if number > 50 else 0))

    recording, server = block(tmp_path, handler, Plan(workers=4, requests=100), requests=requests)
    wrong = sum(int(got.path[3:]) <= 50 for got in server.got)
    assert 0 < wrong < 100
    assert outcomes(recording) == {Outcome.BODY: wrong, Outcome.OK: 100 - wrong}


UPDATE = """
[[request]]
method = "PATCH"
path = "/x/{id}"
headers = { If-Match = "{etag}" }
body = '{"token": "{token}", "price": {price:1..9}}'
[[request.before]]
path = "/x/{id:1..1000}"
capture = { etag = { header = "ETag" }, token = { json = "a.token" } }
"""


def versioned(got: Got) -> Answer:
    if got.method == "GET":
        return Answer(b'{"a": {"token": "t\\"%s"}}' % got.path[3:].encode(), headers={"ETag": f'"v{got.path[3:]}"'})
    right = got.headers["if-match"] == f'"v{got.path[3:]}"' and rf't\"{got.path[3:]}"'.encode() in got.body
    return Answer(status=200 if right else 412)


def test_a_captured_value_goes_into_the_next_step_and_both_are_one_sample(tmp_path: Path) -> None:
    recording, server = block(tmp_path, versioned, Plan(workers=4, requests=60), requests=UPDATE)
    assert outcomes(recording) == {Outcome.OK: 60}
    assert Counter(got.method for got in server.got) == {"GET": 60, "PATCH": 60}


def test_a_capture_that_is_missing_is_an_error_unless_it_has_a_default(tmp_path: Path) -> None:
    def handler(got: Got) -> Answer:
        return Answer(b'{"a": {"token": "t"}}', status=200 if got.headers.get("if-match", "*") == "*" else 412)

    recording, _ = block(tmp_path, handler, Plan(workers=2, requests=10), requests=UPDATE)
    assert outcomes(recording) == {Outcome.CAPTURE: 10}
    with_default = UPDATE.replace('header = "ETag"', 'header = "ETag", default = "*"')
    recording, _ = block(tmp_path, handler, Plan(workers=2, requests=10), requests=with_default)
    assert outcomes(recording) == {Outcome.OK: 10}


def test_a_first_step_that_fails_fails_the_exchange_and_the_second_is_not_sent(tmp_path: Path) -> None:
    recording, server = block(tmp_path, lambda _: Answer(status=503), Plan(workers=2, requests=10), requests=UPDATE)
    assert outcomes(recording) == {Outcome.STATUS: 10}
    assert {got.method for got in server.got} == {"GET"}


# Open loop


def test_a_schedule_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    plan = Plan(workers=1, duration_s=2, rate=500, seed="a")
    assert schedule(plan) == schedule(plan)
    assert schedule(plan) != schedule(Plan(workers=1, duration_s=2, rate=500, seed="b"))


def test_a_constant_schedule_is_even_and_a_poisson_one_has_its_rate_and_spread() -> None:
    even = schedule(Plan(workers=1, requests=5, rate=100, arrivals="constant"))
    assert list(even) == [0, 10_000_000, 20_000_000, 30_000_000, 40_000_000]
    times = schedule(Plan(workers=1, requests=20_000, rate=100))
    gaps = [after - before for before, after in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1e7, rel=0.05)
    assert spread == pytest.approx(mean, rel=0.05)  # exponential gaps: as wide as they are long


def test_an_open_block_sends_its_schedule_and_says_how_late_it_was(tmp_path: Path) -> None:
    plan = Plan(workers=100, requests=100, rate=500, arrivals="constant")
    recording, server = block(tmp_path, fine, plan)
    assert len(recording) == len(server.got) == 100
    due = sorted(recording.intended_ns)
    assert [after - before for before, after in itertools.pairwise(due)] == [2_000_000] * 99
    assert len(recording.late_ns) == 100
    assert min(recording.late_ns) >= 0


def test_an_open_block_keeps_its_schedule_when_answers_are_slow(tmp_path: Path) -> None:
    async def handler(_: Got) -> Answer:
        await asyncio.sleep(0.1)  # the slow answer that is measured
        return Answer()

    plan = Plan(workers=2, requests=10, rate=1000, arrivals="constant")
    recording, _ = block(tmp_path, handler, plan)
    assert outcomes(recording) == {Outcome.OK: 10}
    assert max(recording.latency_us()) > 400_000  # ten at once through two connections: the last waits for four others
    assert max(recording.service_us()) < max(recording.latency_us())


def test_what_never_found_a_connection_is_a_sample_too(tmp_path: Path) -> None:
    async def handler(_: Got) -> Answer:
        await asyncio.Event().wait()  # keeps the one connection until the callers have given up
        return Answer()

    plan = Plan(workers=1, requests=20, rate=1000, arrivals="constant", timeout_s=0.1)
    recording, _ = block(tmp_path, handler, plan)
    assert outcomes(recording) == {Outcome.TIMEOUT: 20}


def test_an_open_loop_shows_the_stall_that_a_closed_loop_hides(tmp_path: Path) -> None:
    """A server that answers nothing for 100 ms of every 500: a tenth to a fifth of all requests due are due then."""
    started = time.monotonic()

    def handler(_: Got) -> Answer:
        into = (time.monotonic() - started) % 0.5
        if into > 0.4:
            time.sleep(0.5 - into)  # blocks the server's whole loop, as a stop of the world does
        return Answer()

    closed, opened = blocks(
        tmp_path,
        handler,
        Plan(workers=1, duration_s=1.5),
        Plan(workers=20, duration_s=1.5, rate=300, arrivals="constant"),
    )[0]

    def p95(recording: Recording) -> int:
        latencies = sorted(recording.latency_us())
        return latencies[len(latencies) * 95 // 100]

    assert p95(opened) > 30_000
    assert p95(closed) < p95(opened) / 5
