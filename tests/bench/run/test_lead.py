"""What counts of a closed block met a loop under way: neither the common start of its workers nor their end."""

from pathlib import Path

import pytest
from warmfront.bench.load.samples import Outcome, Plan

from tests.bench.http_server import Answer, Got
from tests.bench.load.test_load import block, fine, outcomes

from .test_stall import SERVICE_MS, loaded

WORKERS = 4
FULL_MS = (
    WORKERS * SERVICE_MS
)  # one server, one request after the other: the wait of whoever asks with all others waiting


def test_the_common_start_does_not_count(tmp_path: Path) -> None:
    rising = [1, 2, 3, 4, 4, 4, 4, 4]
    without = loaded(tmp_path, Plan(workers=WORKERS, requests=8), stall_ms=0)
    assert [us / 1000 for us in without.latency_us()] == pytest.approx([SERVICE_MS * place for place in rising])
    counted = loaded(tmp_path, Plan(workers=WORKERS, requests=8, lead=WORKERS), stall_ms=0)
    assert [us / 1000 for us in counted.latency_us()] == pytest.approx([FULL_MS] * 8)


def test_the_load_goes_on_until_the_last_that_counts_is_answered(tmp_path: Path) -> None:
    recording, server = block(tmp_path, fine, Plan(workers=WORKERS, requests=20, lead=6))
    assert (len(recording), len(recording.around)) == (20, 6 + WORKERS - 1)
    assert len(server.got) == 20 + 6 + WORKERS - 1
    assert outcomes(recording) == {Outcome.OK: 20}
    assert recording.errors == 0


@pytest.mark.parametrize("plan", [Plan(workers=4, requests=500, lead=4), Plan(workers=4, duration_s=0.5, lead=4)])
def test_a_full_loop_is_as_fast_as_its_server(tmp_path: Path, plan: Plan) -> None:
    recording = loaded(tmp_path, plan, stall_ms=0)
    assert len(recording) / recording.duration_s == pytest.approx(1000 / SERVICE_MS)


def test_a_timed_block_counts_from_its_lead_to_its_time_and_no_further(tmp_path: Path) -> None:
    recording = loaded(tmp_path, Plan(workers=WORKERS, duration_s=0.1, lead=10), stall_ms=0)
    assert recording.first_ns == 10e6
    assert max(recording.done_ns) == 100e6
    assert (len(recording), len(recording.around)) == (90, 10 + WORKERS - 1)


def test_a_block_too_short_for_its_lead_goes_on_until_as_many_have_counted(tmp_path: Path) -> None:
    recording = loaded(tmp_path, Plan(workers=WORKERS, duration_s=0.001, lead=WORKERS), stall_ms=0)
    assert (recording.first_ns, len(recording)) == (4e6, WORKERS)


@pytest.mark.parametrize("lost", ["first", "last"])
def test_an_error_beside_what_counts_is_told_all_the_same(tmp_path: Path, lost: str) -> None:
    seen = 0

    def handler(_: Got) -> Answer:
        nonlocal seen
        seen += 1
        return Answer(status=500 if seen == {"first": 1, "last": 2 + 5 + 1}[lost] else 200)

    recording, _ = block(tmp_path, handler, Plan(workers=2, requests=5, lead=2))
    assert (len(recording), len(recording.around)) == (5, 3)
    assert recording.errors == recording.count(Outcome.STATUS) == 1


@pytest.mark.parametrize("plan", [{"rate": 10.0, "lead": 1}, {"lead": -1}])
def test_an_open_loop_has_no_lead(plan: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a lead must be a number of requests of a closed loop"):
        Plan(workers=1, requests=1, **plan)  # type: ignore[arg-type]
