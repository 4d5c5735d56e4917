"""Faults of the dashboard's buttons: what each does to a real function, and that every one ends."""

import asyncio
from pathlib import Path

import pytest
from warmfront.emulator.lambda_service.functions.injected_faults import KINDS, FaultError, clear, describe, inject
from warmfront.emulator.lambda_service.types import Throttled

from tests.emulator.harness import Harness, function, running, until


def put_in(harness: Harness, kind: str, **more: float) -> None:
    harness.call(lambda: inject(harness.function("F"), kind, **more))


def test_a_throttled_function_refuses_until_the_fault_is_cleared(tmp_path: Path) -> None:
    with running(tmp_path, function("F", "outcomes.echo")) as harness:
        put_in(harness, "throttle")
        with pytest.raises(Throttled):
            harness.invoke("F")
        assert harness.function("F").counters.throttles == 1
        assert harness.call(lambda: clear(harness.function("F")))
        assert harness.invoke("F").result.status == "ok"


def test_a_crash_kills_as_many_environments_as_it_says_and_is_over(tmp_path: Path) -> None:
    with running(tmp_path, function("F", "outcomes.echo")) as harness:
        put_in(harness, "crash", amount=2)
        outcomes = [harness.invoke("F") for _ in range(3)]
        assert [each.result.error_type for each in outcomes] == ["Runtime.ExitError", "Runtime.ExitError", None]
        assert harness.function("F").fault is None


def test_a_stalled_environment_stands_still_and_then_answers(tmp_path: Path) -> None:
    with running(tmp_path, function("F", "outcomes.echo")) as harness:
        warm = harness.invoke("F")
        put_in(harness, "stall", amount=0.3)
        stalled = harness.invoke("F")
        assert stalled.result.status == "ok"
        assert stalled.duration_ms > 300 > warm.duration_ms
        assert not stalled.cold
        assert harness.function("F").fault is None


def test_a_cleared_stall_goes_on_at_once(tmp_path: Path) -> None:
    with running(tmp_path, function("F", "outcomes.echo")) as harness:
        put_in(harness, "stall", amount=60)

        async def clear_when_it_stands() -> str:
            call = asyncio.create_task(harness.invoke_async("F"))
            environments = harness.function("F").environments
            await until(lambda: any(each.running and stands(each.pid) for each in environments.values()))
            assert not call.done()
            clear(harness.function("F"))
            return (await call).result.status

        assert harness.run(clear_when_it_stands()) == "ok"


def test_a_stalled_invocation_times_out_all_the_same(tmp_path: Path) -> None:
    with running(tmp_path, function("F", "outcomes.echo", timeout_s=1)) as harness:
        harness.invoke("F")
        put_in(harness, "stall", amount=60)
        assert harness.invoke("F").result.status == "timeout"
        harness.call(lambda: clear(harness.function("F")))
        assert harness.invoke("F").result.status == "ok"


def test_latency_is_the_callers_and_not_the_functions(tmp_path: Path) -> None:
    with running(tmp_path, function("F", "outcomes.echo")) as harness:
        harness.invoke("F")
        put_in(harness, "latency", amount=400)

        async def timed() -> tuple[float, float]:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            outcome = await harness.invoke_async("F")
            return loop.time() - began_s, outcome.duration_ms

        waited_s, duration_ms = harness.run(timed())
        assert waited_s >= 0.4
        assert duration_ms < 400


@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_outlives_its_time(tmp_path: Path, kind: str) -> None:
    with running(tmp_path, function("F", "outcomes.echo")) as harness:
        put_in(harness, kind, seconds=1)
        fault = harness.function("F").fault
        assert fault is not None
        assert 0 < describe(fault)["left_s"] <= 1  # type: ignore[operator]
        harness.until(lambda: harness.function("F").fault is None)
        assert harness.invoke("F").result.status == "ok"


def test_a_second_fault_takes_the_place_of_the_first_and_its_time(tmp_path: Path) -> None:
    with running(tmp_path, function("F", "outcomes.echo")) as harness:
        put_in(harness, "throttle", seconds=1)
        put_in(harness, "latency", seconds=100, amount=1)
        harness.run(asyncio.sleep(1.1))
        assert harness.function("F").fault is not None
        assert harness.invoke("F").result.status == "ok"


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("flood", {}, "no fault 'flood'; there are throttle, crash, stall, latency"),
        ("stall", {"seconds": 0}, "seconds .* must be 1 to 600, not 0"),
        ("latency", {"amount": 1e9}, r"amount \(Milliseconds\) must be 1 to 10000"),
        ("latency", {"amount": float("nan")}, "amount"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_can(
    tmp_path: Path, kind: str, more: dict[str, float], said: str
) -> None:
    with running(tmp_path, function("F", "outcomes.echo")) as harness:
        with pytest.raises(FaultError, match=said):
            put_in(harness, kind, **more)
        assert harness.function("F").fault is None


def stands(pid: int | None) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0] == "T"
