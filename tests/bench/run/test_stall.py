"""A server that stalls for 100 ms of every second, on a simulated clock: what each loop makes of it, to the microsecond."""

from pathlib import Path

import pytest
from warmfront.bench.load.generator import Generator
from warmfront.bench.load.render import Renderer
from warmfront.bench.load.samples import Plan, Recording, Target
from warmfront.bench.load.workloads import load_workloads
from warmfront.bench.statistics.percentiles import percentile

from tests.bench.fake_time import FakeLoop, StallingServer, run

SECONDS = 10
RATE = 300
SERVICE_MS = 1
STALL_MS = 100


def loaded(folder: Path, plan: Plan, *, stall_ms: float = STALL_MS) -> Recording:
    path = folder / "w.toml"
    path.write_text('[[variant]]\nname = "v"\n[[request]]\npath = "/x"\n')
    file = load_workloads(path)
    loop = FakeLoop(StallingServer(service_s=SERVICE_MS / 1000, every_s=1.0, stall_s=stall_ms / 1000))
    generator = Generator(Target("nowhere", 1), clock=loop.clock_ns)
    renderer = Renderer(file.workloads[0], "", host="x", headers={}, seed="0", keep_alive=True)

    async def block() -> Recording:
        await generator.prepare(plan, renderer, expected=10)
        return await generator.run()

    recording = run(loop, block())
    assert recording.errors == 0
    return recording


def p99_ms(latency_us: list[int]) -> float:
    return percentile(latency_us, 0.99) / 1000


def closed(workers: int) -> Plan:
    return Plan(workers=workers, duration_s=SECONDS)


def opened(connections: int) -> Plan:
    return Plan(workers=connections, requests=SECONDS * RATE, rate=RATE, arrivals="constant")


def test_a_closed_loop_hides_the_stall_since_whoever_waits_asks_nothing(tmp_path: Path) -> None:
    recording = loaded(tmp_path, closed(workers=1))
    assert len(recording) == pytest.approx(SECONDS * 900, rel=0.01)
    assert p99_ms(recording.latency_us()) == pytest.approx(SERVICE_MS, rel=0.01)
    assert max(recording.latency_us()) / 1000 == pytest.approx(STALL_MS + SERVICE_MS, rel=0.02)


def test_an_open_loop_shows_the_stall_since_a_tenth_of_what_is_due_is_due_in_it(tmp_path: Path) -> None:
    """30 of 300 requests are due in each stall, and are answered one after the other when it is over."""
    recording = loaded(tmp_path, opened(connections=50))
    assert len(recording) == SECONDS * RATE
    gap_ms = 1000 / RATE
    # Who comes first waits longest; each that comes later waits a gap less, and for one answer more.
    worst_of_100 = STALL_MS + SERVICE_MS - 2 * (gap_ms - SERVICE_MS)
    assert p99_ms(recording.latency_us()) == pytest.approx(worst_of_100, abs=gap_ms)


def test_without_a_stall_both_loops_say_the_same(tmp_path: Path) -> None:
    for plan in (closed(workers=1), opened(connections=50)):
        assert p99_ms(loaded(tmp_path, plan, stall_ms=0).latency_us()) == pytest.approx(SERVICE_MS, rel=0.01)


def test_an_open_loop_that_lacks_connections_counts_from_when_a_request_was_due(tmp_path: Path) -> None:
    """Counted from when it was sent, one connection would hide the stall as a closed loop does."""
    recording = loaded(tmp_path, opened(connections=1))
    assert p99_ms(recording.service_us()) == pytest.approx(SERVICE_MS, rel=0.01)
    assert p99_ms(recording.latency_us()) > 0.9 * STALL_MS


def test_the_same_load_is_the_same_to_the_nanosecond(tmp_path: Path) -> None:
    first, second = (loaded(tmp_path, opened(connections=50)) for _ in range(2))
    assert first.done_ns == second.done_ns
    assert first.late_ns == second.late_ns
