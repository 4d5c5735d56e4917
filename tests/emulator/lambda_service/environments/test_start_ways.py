"""The ways an environment starts beside on demand: restored from a snapshot, provisioned, on Managed Instances."""

import asyncio
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from warmfront.emulator.lambda_service.api.control import start_ahead
from warmfront.emulator.lambda_service.types import SnapStartFailed, Throttled, VersionFailed
from warmfront.emulator.template import FunctionConfig

from tests.emulator.harness import Harness, descendants, function, running

SNAP: dict[str, Any] = {"snap_start": True, "auto_publish_alias": "live", "timeout_s": 10}


@pytest.fixture
def restored(tmp_path: Path) -> Iterator[Harness]:
    with prepared(tmp_path, function("f", "ways.handler", **SNAP)) as harness:
        yield harness


class prepared:  # noqa: N801 - reads as the context manager it wraps
    """A service with its snapshots taken and its environments ahead started, as `serve` has it when it says it is ready."""

    def __init__(self, tmp_path: Path, *functions: FunctionConfig, **options: Any) -> None:
        self.notes: list[str] = []
        self._running = running(tmp_path, *functions, note=self.notes.append, **options)

    def __enter__(self) -> Harness:
        harness = self._running.__enter__()
        harness.run(harness.service.prepare())
        return harness

    def __exit__(self, *exc: Any) -> None:
        self._running.__exit__(*exc)


def live(harness: Harness, event: object = None) -> Any:
    return harness.invoke("f", event, qualifier="live")


async def both(harness: Harness, event: object, count: int = 2) -> list[Any]:
    calls = [harness.invoke_async("f", event, qualifier="live") for _ in range(count)]
    return await asyncio.gather(*calls, return_exceptions=True)


# -- SnapStart ---------------------------------------------------------------------------------------------------------


def test_hooks_run_once_in_lambdas_order_around_the_snapshot(restored: Harness) -> None:
    expected = ["before second", "before first", "after first", "after second"]
    first, second = restored.run(both(restored, {"sleep_s": 0.2}))
    assert first.payload["pid"] != second.payload["pid"]
    assert first.payload["calls"] == second.payload["calls"] == expected
    assert live(restored).payload["calls"] == expected, "a warm invocation runs none"


def test_a_restored_environment_says_so_in_its_variables_and_its_log(restored: Harness) -> None:
    log = restored.log("f")
    assert re.search(r"^INIT_START .*\n(.*\n)*INIT_REPORT Init Duration: [0-9.]+ ms\tPhase: init$", log, re.M)
    outcome = live(restored)
    assert outcome.payload["type"] == "snap-start"
    assert outcome.payload["version"] == "1"
    assert outcome.payload["arn"].endswith(":function:f:live")
    assert outcome.payload["log_stream"] is None
    assert outcome.lines[0].startswith("RESTORE_START Runtime Version: python:3.13")
    assert any(re.fullmatch(r"RESTORE_REPORT Restore Duration: [0-9.]+ ms", line) for line in outcome.lines)
    found = re.search(
        r"\tDuration: ([0-9.]+) ms\tBilled Duration: (\d+) ms\t.*\tRestore Duration: ([0-9.]+) ms\tBilled Restore Duration: (\d+) ms\t$",
        outcome.report,
    )
    assert found is not None, outcome.report
    duration, billed, restore, billed_restore = map(float, found.groups())
    assert billed_restore <= restore + 1
    assert duration + billed_restore - 1 <= billed <= duration + billed_restore + 1, (
        "recorded on AWS: the sum, rounded up once"
    )
    assert "Init Duration" not in outcome.report
    assert "init ran" not in outcome.log, "init ran once, at the snapshot"
    assert log.count("init ran") == 1
    assert "Restore Duration" not in live(restored).report


def test_latest_is_on_demand_beside_a_restored_version(restored: Harness) -> None:
    outcome = restored.invoke("f")
    assert outcome.payload["type"] == "on-demand"
    assert outcome.payload["version"] == "$LATEST"
    assert outcome.cold
    assert set(restored.service.state()) == {"f", "f:$LATEST"}


def test_restored_environments_are_unique_where_they_must_be_and_share_what_init_made(restored: Harness) -> None:
    first, second = restored.run(both(restored, {"sleep_s": 0.2}))
    assert first.payload["uuid"] != second.payload["uuid"]
    assert first.payload["random"] != second.payload["random"]
    assert first.payload["at_init"] == second.payload["at_init"], "as on Lambda: what init made is in the snapshot"
    assert first.payload["scratch"] == "left by init"


def test_a_restored_environment_is_frozen_reused_and_ended_like_any_other(restored: Harness) -> None:
    first = live(restored)
    restored.settled("f")
    (environment,) = restored.function("f").environments.values()
    restored.until(lambda: stopped(environment.pid))
    assert live(restored).payload["pid"] == first.payload["pid"]
    restored.settled("f")
    restored.run(restored.function("f").retire())
    assert not restored.function("f").environments
    assert not alive(first.payload["pid"])
    assert restored.function("f").fleet.exited_cpu_s > 0, "its parent reports what it used"
    assert live(restored).payload["pid"] != first.payload["pid"]


def test_a_timeout_and_an_exit_end_a_restored_environment_and_the_next_invocation_restores(tmp_path: Path) -> None:
    with prepared(tmp_path, function("f", "ways.handler", **{**SNAP, "timeout_s": 1})) as harness:
        pid = live(harness).payload["pid"]
        assert live(harness, {"sleep_s": 5}).payload["errorType"] == "Sandbox.Timedout"
        assert live(harness, {"exit": 3}).payload["errorMessage"].endswith("exit status 3")
        again = live(harness)
        assert "Restore Duration" in again.report
        assert again.payload["pid"] != pid


def test_a_failed_before_hook_fails_the_version(tmp_path: Path) -> None:
    broken = function("f", "ways.handler", **SNAP, environment={"FAIL_IN": "before first"})
    with prepared(tmp_path, broken) as harness:
        assert re.search(
            r"^INIT_REPORT .*Status: error\tError Type: Runtime.BeforeSnapshotError$", harness.log("f"), re.M
        )
        assert "[ERROR] ValueError: no before first" in harness.log("f")
        with pytest.raises(VersionFailed, match="currently in the following state: Failed"):
            live(harness)
        assert harness.invoke("f").payload["type"] == "on-demand", "$LATEST has no snapshot"


def test_a_failed_after_hook_fails_the_invocation_as_lambda_words_it(tmp_path: Path) -> None:
    broken = function("f", "ways.handler", **SNAP, environment={"FAIL_IN": "after second"})
    with prepared(tmp_path, broken) as harness:
        for _ in range(2):
            with pytest.raises(SnapStartFailed, match="The runtime restore hook encountered an error") as caught:
                live(harness)
            assert (caught.value.code, caught.value.http_status) == ("SnapStartException", 400)
        assert harness.log("f").count("RESTORE_REPORT") == 2
        assert re.search(r"RESTORE_REPORT .*\tStatus: error\tError Type: Runtime.AfterRestoreError\n", harness.log("f"))
        assert not harness.function("f").environments


def test_a_socket_open_at_the_snapshot_is_named_and_broken_after_the_restore(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        service = prepared(tmp_path, function("f", "ways.handler", **SNAP, environment={"OPEN_TO": address}))
        with service as harness:
            (warning,) = service.notes
            assert warning.startswith("WARNING: f: socket ")
            assert f"to {address} is open when the snapshot is taken" in warning
            assert live(harness).payload["socket_alive"] is False


def test_a_thread_at_the_snapshot_is_named(tmp_path: Path) -> None:
    service = prepared(tmp_path, function("f", "ways.handler", **SNAP, environment={"KEEP_THREAD": "1"}))
    with service as harness:
        assert any("thread 'heartbeat' runs when the snapshot is taken" in note for note in service.notes)
        assert live(harness).result.status == "ok"


def test_an_event_loop_of_init_is_each_environments_own(tmp_path: Path) -> None:
    with prepared(tmp_path, function("f", "ways.handler", **SNAP, environment={"KEEP_LOOP": "1"})) as harness:
        for outcome in harness.run(both(harness, {"sleep_s": 0.1}, 3)):
            assert outcome.payload["loop"] == "woken"


def test_a_snapshot_whose_process_dies_is_taken_again(restored: Harness) -> None:
    snapshot = restored.function("f").fleet.snapshot
    assert snapshot is not None
    live(restored)
    assert snapshot.pid is not None
    os.kill(snapshot.pid, signal.SIGKILL)
    restored.until(lambda: snapshot.pid is None)
    restored.run(restored.function("f").retire())
    assert live(restored).payload["type"] == "snap-start"
    assert restored.log("f").count("init ran") == 2


def test_a_reload_restores_from_a_new_snapshot_and_ends_the_old_one(restored: Harness) -> None:
    live(restored)
    before = restored.function("f").fleet.snapshot
    restored.run(restored.service.reload(["f"]))
    after = restored.function("f").fleet.snapshot
    assert after is not before
    assert live(restored).result.status == "ok"
    assert before is not None
    restored.until(lambda: before.pid is None)


def test_a_restore_is_several_times_faster_than_a_start(restored: Harness) -> None:
    """The target (15 times, for the shop's functions) is the bench's to show; on a busy machine this much is certain."""
    runs: dict[str, list[float]] = {"live": [], "$LATEST": []}
    for _ in range(5):
        for qualifier, found in runs.items():
            target = restored.service.find("f" if qualifier == "live" else "f:$LATEST")
            restored.run(target.retire())
            (each,) = restored.run(target.start(1))
            found.append(each.init_duration_ms or 0.0)
    assert min(runs["live"]) * 3 < min(runs["$LATEST"]), runs


def test_restored_environments_share_their_memory(restored: Harness) -> None:
    restored_kb = [pss_kb(each.pid) for each in restored.run(restored.service.find("f").start(8))]
    spawned_kb = [pss_kb(each.pid) for each in restored.run(restored.service.find("f:$LATEST").start(2))]
    assert sum(restored_kb) / 8 * 2 < sum(spawned_kb) / 2


# -- provisioned concurrency -------------------------------------------------------------------------------------------


@pytest.fixture
def provisioned(tmp_path: Path) -> Iterator[Harness]:
    settings = {"provisioned_concurrency": 2, "auto_publish_alias": "live", "timeout_s": 10}
    with prepared(tmp_path, function("f", "ways.handler", **settings)) as harness:
        yield harness


def test_provisioned_environments_are_there_before_invocations_and_the_rest_spills_over(provisioned: Harness) -> None:
    function = provisioned.function("f")
    ahead = {each.pid for each in function.environments.values()}
    assert len(ahead) == 2
    outcomes = provisioned.run(both(provisioned, {"sleep_s": 0.3}, 3))
    kinds = [each.payload["type"] for each in outcomes]
    assert sorted(kinds) == ["on-demand", "provisioned-concurrency", "provisioned-concurrency"]
    assert {each.payload["pid"] for each in outcomes if each.payload["type"] != "on-demand"} == ahead
    assert function.counters.cold_starts == 1
    reports = re.findall(r"^REPORT .*$", provisioned.log("f"), re.M)
    assert all("Init Duration" in each for each in reports), "recorded on AWS: the init that nobody waited for, too"
    provisioned.settled("f")
    assert live(provisioned).payload["pid"] in ahead, "before what spilled over"


def test_a_provisioned_environment_that_dies_is_replaced_without_an_invocation(provisioned: Harness) -> None:
    function = provisioned.function("f")
    victim = next(iter(function.environments.values()))
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    provisioned.until(lambda: victim.id not in function.environments and len(idle(provisioned)) == 2)
    assert function.counters.cold_starts == 0
    provisioned.run(function.retire())
    provisioned.until(lambda: len(idle(provisioned)) == 2)


# -- Managed Instances -------------------------------------------------------------------------------------------------


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[Harness]:
    with prepared(tmp_path, function("f", "ways.handler", max_concurrency=3, timeout_s=2)) as harness:
        yield harness


def test_one_managed_environment_runs_several_invocations_each_in_a_process(managed: Harness) -> None:
    outcomes = managed.run(together(managed, {"sleep_s": 0.3}, 3))
    assert len({each.payload["pid"] for each in outcomes}) == 3
    assert {each.payload["type"] for each in outcomes} == {"lambda-managed-instances"}
    assert {each.payload["max_concurrency"] for each in outcomes} == {"3"}
    (environment,) = managed.function("f").environments.values()
    assert len(environment.pids) == 4
    assert managed.log("f").count('"type":"platform.report"') == 3


def test_what_finds_no_process_free_is_throttled(managed: Harness) -> None:
    outcomes = managed.run(together(managed, {"sleep_s": 0.3}, 4))
    assert [isinstance(each, Throttled) for each in outcomes].count(True) == 1
    assert managed.invoke("f").result.status == "ok"


def test_a_closed_loop_of_as_many_callers_as_processes_is_never_throttled(managed: Harness) -> None:
    async def caller() -> None:
        for _ in range(20):
            outcome = await managed.invoke_async("f")
            assert outcome.result.status == "ok"

    async def callers() -> None:
        await asyncio.gather(*(caller() for _ in range(3)))

    managed.run(callers())
    assert managed.function("f").counters.throttles == 0


def test_a_managed_environment_is_never_frozen(managed: Harness) -> None:
    managed.invoke("f")
    managed.settled("f")
    managed.run(asyncio.sleep(0.03))  # the freezer's delay, three times over
    (environment,) = managed.function("f").environments.values()
    assert not any(stopped(pid) for pid in environment.pids)


@pytest.mark.parametrize(
    ("event", "error"), [({"exit": 3}, "Runtime.ExitError"), ({"sleep_s": 30}, "Sandbox.Timedout")]
)
def test_a_process_that_is_lost_takes_its_environment_with_it_and_is_replaced(
    managed: Harness, event: dict[str, float], error: str
) -> None:
    (first,) = managed.function("f").environments
    assert managed.invoke("f", event).payload["errorType"] == error
    managed.until(lambda: first not in managed.function("f").environments and idle(managed))
    assert managed.invoke("f").result.status == "ok"


# -- all ways ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["on-demand", "snap-start", "provisioned", "managed"])
def test_start_overrides_the_template_and_environments_can_be_started_ahead(tmp_path: Path, way: Any) -> None:
    with prepared(tmp_path, function("f", "ways.handler", **SNAP), start=way, provisioned=1, processes=2) as harness:
        made = harness.run(ahead(harness, 2))
        assert (made["started"], made["failed"]) == (2, 0)
        assert all(each["spawned_ns"] < each["ready_ns"] <= made["ready_ns"] for each in made["inits"])
        assert harness.invoke("f").payload["type"] in INITIALIZATION_TYPES[way]
        state = harness.service.state()["f"]
        assert isinstance(state, dict)
        assert state["start"] == way
        if way == "snap-start":
            assert state["snapshot"]["state"] == "ready"


INITIALIZATION_TYPES = {
    "on-demand": {"on-demand"},
    "snap-start": {"snap-start"},
    "provisioned": {"provisioned-concurrency"},
    "managed": {"lambda-managed-instances"},
}


async def ahead(harness: Harness, count: int) -> dict[str, Any]:
    return await start_ahead(harness.service.find("f"), count)


async def together(harness: Harness, event: object, count: int) -> list[Any]:
    return await asyncio.gather(*(harness.invoke_async("f", event) for _ in range(count)), return_exceptions=True)


def idle(harness: Harness) -> list[str]:
    return [each.id for each in harness.function("f").environments.values() if each.idle]


def stopped(pid: int | None) -> bool:
    return "\nState:\tT" in Path(f"/proc/{pid}/status").read_text()


def alive(pid: int) -> bool:
    return pid in descendants()


def pss_kb(pid: int | None) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found is not None
    return int(found[1])
