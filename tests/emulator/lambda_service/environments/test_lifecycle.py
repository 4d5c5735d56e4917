"""Environments from init to shutdown: freeze, reuse, scaling, throttling, failed inits, retirement, and nothing left behind."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from warmfront.emulator.lambda_service.types import ServiceError, Throttled

from tests.emulator.harness import Harness, Outcome, descriptors, function, running, until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    folder = tmp_path_factory.mktemp("lifecycle")
    functions = [
        function("pid", "outcomes.pid"),
        function("background", "surroundings.background"),
        function("loop", "outcomes.slow_pid"),
        function("reserved", "outcomes.slow_pid", reserved_concurrency=2),
        function("none", "outcomes.pid", reserved_concurrency=0),
        function("broken", "broken.handler"),
        function("needs", "needs.handler"),
        function("missing", "outcomes.not_there"),
        function("malformed", "nodots"),
        function("builtin", "sys.handler"),
        function("exits", "exits.handler"),
        function("slow", "slow.handler", environment={"INIT_S": "30"}, timeout_s=1),
        function(
            "slow_once", "slow.handler", environment={"INIT_S": "30", "FIRST_ONLY": str(folder / "first")}, timeout_s=20
        ),
        function("signals", "signals.handler", environment={"HEARD": str(folder / "heard")}),
        function("deaf", "deaf.handler"),
    ]
    with running(folder, *functions, init_limit_s=2.0) as harness:
        yield harness


# -- freeze and thaw ---------------------------------------------------------------------------------------------------


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_an_idle_environment_is_stopped_and_continued_with_its_next_event(service: Harness) -> None:
    pid = service.invoke("pid").payload
    service.until(lambda: state_of(pid) == "T")
    assert service.invoke("pid").payload == pid


def test_threads_of_a_handler_make_no_progress_between_invocations(service: Harness) -> None:
    first = service.invoke("background").payload
    assert first > 0
    (pid,) = service.pids("background")
    service.until(lambda: {stat.read_text().rpartition(")")[2].split()[0] for stat in stats(pid)} == {"T"})
    frozen = ticks_of_cpu(pid)
    service.run(asyncio.sleep(0.1))
    assert ticks_of_cpu(pid) == frozen
    assert service.invoke("background").payload >= first


def stats(pid: int) -> list[Path]:
    """One for each thread: a signal stops them one after another."""
    return list(Path(f"/proc/{pid}/task").glob("*/stat"))


def ticks_of_cpu(pid: int) -> tuple[str, ...]:
    """CPU time and context switches of a process's threads: none moves while it is stopped."""
    return tuple(path.read_text() for path in sorted(Path(f"/proc/{pid}/task").glob("*/schedstat")))


def test_a_service_that_does_not_freeze_lets_threads_run(tmp_path: Path) -> None:
    with running(tmp_path, function("background", "surroundings.background"), freeze=False) as harness:
        harness.invoke("background")
        (pid,) = harness.pids("background")
        before = ticks_of_cpu(pid)
        harness.until(lambda: ticks_of_cpu(pid) != before)
        assert state_of(pid) != "T"


# -- reuse and scaling -------------------------------------------------------------------------------------------------


def test_the_environment_used_last_serves_next(service: Harness) -> None:
    async def both() -> int:
        """Two at once; the process that answered last."""
        last = 0
        for call in asyncio.as_completed([service.invoke_async("loop", seconds) for seconds in (0.5, 0.01)]):
            last = (await call).payload
        return last

    used_last = service.run(both())
    for _ in range(3):
        service.settled("loop")
        assert service.invoke("loop", 0).payload == used_last


@pytest.mark.parametrize("callers", [1, 3, 8])
def test_a_closed_loop_of_n_makes_exactly_n_environments(service: Harness, callers: int) -> None:
    service.run(service.function("pid").retire())
    service.until(lambda: not service.function("pid").environments)
    before = service.function("pid").counters.cold_starts

    async def caller() -> set[int]:
        return {(await service.invoke_async("pid")).payload for _ in range(40)}

    async def all_callers() -> set[int]:
        return set().union(*await asyncio.gather(*(caller() for _ in range(callers))))

    seen = service.run(all_callers())
    assert len(seen) == callers
    assert len(service.function("pid").environments) == callers
    assert service.function("pid").counters.cold_starts - before == callers


def test_over_the_reserved_concurrency_invocations_are_throttled(service: Harness) -> None:
    async def four() -> list[object]:
        return await asyncio.gather(*(service.invoke_async("reserved", 0.2) for _ in range(4)), return_exceptions=True)

    outcomes = service.run(four())
    throttled = [each for each in outcomes if isinstance(each, Throttled)]
    assert len(throttled) == 2
    assert {each.reason for each in throttled} == {"ReservedFunctionConcurrentInvocationLimitExceeded"}
    assert service.function("reserved").counters.throttles == 2
    service.invoke("reserved", 0)


def test_a_reservation_of_zero_throttles_everything(service: Harness) -> None:
    with pytest.raises(Throttled, match="Rate Exceeded"):
        service.invoke("none")


def test_the_account_limit_is_shared_by_functions_without_a_reservation(tmp_path: Path) -> None:
    functions = [
        function("one", "outcomes.slow_pid"),
        function("two", "outcomes.slow_pid"),
        function("own", "outcomes.slow_pid", reserved_concurrency=2),
    ]
    with running(tmp_path, *functions, account_concurrency=4) as harness:

        async def many() -> list[object]:
            names = ["one", "two", "one", "two", "own", "own", "own"]
            return await asyncio.gather(*(harness.invoke_async(name, 0.3) for name in names), return_exceptions=True)

        reasons = [each.reason if isinstance(each, Throttled) else None for each in harness.run(many())]
    account, own = "ConcurrentInvocationLimitExceeded", "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert reasons == [None, None, account, account, None, None, own], "a reservation is nobody else's"


def test_environments_can_be_started_ahead(service: Harness) -> None:
    service.run(service.function("pid").retire())
    service.run(service.function("pid").start(2))
    assert len(service.function("pid").environments) == 2
    assert not service.invoke("pid").cold


# -- init that fails ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error_type", "message"),
    [
        ("broken", "ValueError", "not today"),
        (
            "needs",
            "Runtime.ImportModuleError",
            "Unable to import module 'needs': No module named 'not_installed_anywhere'",
        ),
        ("missing", "Runtime.HandlerNotFound", "Handler 'not_there' missing on module 'outcomes'"),
        (
            "malformed",
            "Runtime.MalformedHandlerName",
            "Bad handler 'nodots': not enough values to unpack (expected 2, got 1)",
        ),
        ("builtin", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
    ],
)
def test_an_init_error_is_tried_twice_and_answered(service: Harness, name: str, error_type: str, message: str) -> None:
    outcome = service.invoke(name)
    assert outcome.result.function_error == "Unhandled"
    payload = outcome.payload
    assert list(payload) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert (payload["errorMessage"], payload["errorType"], payload["requestId"]) == (message, error_type, "")
    reports = [line for line in outcome.lines if line.startswith("INIT_REPORT")]
    assert [re.sub(r"[0-9.]+ ms", "# ms", line) for line in reports] == [
        f"INIT_REPORT Init Duration: # ms\tPhase: init\tStatus: error\tError Type: {error_type}",
        f"INIT_REPORT Init Duration: # ms\tPhase: invoke\tStatus: error\tError Type: {error_type}",
    ]
    start = outcome.lines.index(f"START RequestId: {outcome.result.request_id} Version: $LATEST")
    assert outcome.lines.index(reports[1]) < start, "the second init is reported before START"
    assert not outcome.cold, "its duration contains the init"
    assert outcome.report.endswith(f"\tStatus: error\tError Type: {error_type}")


def test_after_a_failed_init_only_the_invocation_tries_again(service: Harness) -> None:
    service.invoke("broken")
    outcome = service.invoke("broken")
    assert [line.split("Phase: ")[1].split("\t")[0] for line in outcome.lines if line.startswith("INIT_REPORT")] == [
        "invoke"
    ]
    assert len(service.function("broken").environments) == 1


def test_a_process_that_exits_in_its_init_is_an_exit_error(service: Harness) -> None:
    outcome = service.invoke("exits")
    assert outcome.payload == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {outcome.result.request_id} Error: Runtime exited with error: exit status 7",
    }


def test_a_syntax_error_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def handler(event, context)\n    return 1\n")
    with running(tmp_path, function("bad", "bad.handler", code_path=tmp_path)) as harness:
        payload = harness.invoke("bad").payload
    assert payload["errorType"] == "Runtime.UserCodeSyntaxError"
    assert payload["errorMessage"] == "Syntax error in module 'bad': expected ':' (bad.py, line 1)"


def test_an_init_over_the_limit_is_tried_again_under_the_functions_timeout(service: Harness) -> None:
    outcome = service.invoke("slow")
    assert outcome.payload["errorType"] == "Sandbox.Timedout"
    reports = [line for line in outcome.lines if line.startswith("INIT_REPORT")]
    assert [re.sub(r"[0-9.]+ ms", "# ms", line) for line in reports] == [
        "INIT_REPORT Init Duration: # ms\tPhase: init\tStatus: timeout",
        "INIT_REPORT Init Duration: # ms\tPhase: invoke\tStatus: timeout",
    ]
    assert float(reports[0].split()[3]) >= 2000
    assert "\tDuration: 1000.00 ms\t" in outcome.report


def test_an_init_that_succeeds_the_second_time_is_in_the_duration(service: Harness) -> None:
    outcome = service.invoke("slow_once")
    assert outcome.payload == "ready"
    assert [line.split("Phase: ")[1] for line in outcome.lines if line.startswith("INIT_REPORT")] == [
        "init\tStatus: timeout"
    ]
    assert not outcome.cold
    assert outcome.duration_ms > 20


# -- the end -----------------------------------------------------------------------------------------------------------


def test_retired_environments_run_their_signal_handlers(service: Harness) -> None:
    heard = Path(service.function("signals").config.environment["HEARD"])
    service.invoke("signals")
    service.settled("signals")
    assert service.run(service.function("signals").retire()) == 1
    assert heard.read_text() == f"{int(signal.SIGTERM)}\n"
    assert not service.function("signals").environments
    assert "tidied up" in service.log("signals")
    assert service.invoke("signals").cold


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(service: Harness) -> None:
    pid = service.invoke("deaf").payload
    service.settled("deaf")
    service.run(service.function("deaf").retire())
    assert not Path(f"/proc/{pid}").exists()


def test_a_busy_environment_is_retired_when_it_comes_back(service: Harness) -> None:
    async def retire_while_busy() -> tuple[int, int]:
        call = asyncio.ensure_future(service.invoke_async("loop", 0.3))
        await until(busy)
        retired = await service.function("loop").retire()
        return retired, (await call).payload

    def busy() -> bool:
        return any(each.running for each in service.function("loop").environments.values())

    retired, pid = service.run(retire_while_busy())
    assert retired >= 1
    service.until(lambda: not service.function("loop").environments)
    assert not Path(f"/proc/{pid}").exists()


def test_idle_environments_are_reaped_and_busy_ones_are_not(service: Harness) -> None:
    pid = service.invoke("pid").payload
    service.settled("pid")
    target = service.function("pid")
    service.call(lambda: target.reap_idle(0.0))
    assert target.environments
    service.call(lambda: target.reap_idle(1e12))
    service.until(lambda: not target.environments)
    assert not Path(f"/proc/{pid}").exists()


def test_a_crashed_environment_is_reaped_too(service: Harness) -> None:
    service.invoke("broken")
    service.call(lambda: service.function("broken").reap_idle(1e12))
    service.until(lambda: not service.function("broken").environments)


def test_an_environment_killed_while_frozen_is_forgotten_with_its_port(service: Harness) -> None:
    pid = service.invoke("pid").payload
    service.settled("pid")
    target = service.function("pid")
    before = len(target.environments)
    ports = len(listening_ports())
    os.kill(pid, signal.SIGKILL)
    service.until(lambda: len(target.environments) == before - 1)
    assert len(listening_ports()) == ports - 1
    assert service.invoke("pid").payload != pid


def test_closing_leaves_no_process_no_descriptor_and_no_file(tmp_path: Path) -> None:
    with running(tmp_path / "warm-up", function("pid", "outcomes.pid")) as harness:
        harness.invoke("pid")
    before, others = descriptors(), listening_ports()
    functions = [
        function("pid", "outcomes.pid"),
        function("ends", "outcomes.ends"),
        function("broken", "broken.handler"),
        function("sleeps", "outcomes.sleeps", timeout_s=1),
    ]
    with running(tmp_path, *functions) as harness:
        harness.invoke("pid")
        harness.invoke("ends", 3)
        harness.invoke("broken")
        harness.invoke("sleeps", 30)
        os.kill(harness.pids("pid")[0], signal.SIGKILL)
        ports = listening_ports() - others
        assert ports
    assert descriptors() == before
    assert not listening_ports() & ports
    assert not list((tmp_path / "state").glob("tmp/*"))


def test_closing_in_the_middle_of_inits_and_invocations_leaves_nothing(tmp_path: Path) -> None:
    functions = [
        function("slow", "slow.handler", environment={"INIT_S": "30"}),
        function("sleeps", "outcomes.sleeps", timeout_s=30),
    ]
    with running(tmp_path, *functions) as harness:

        async def begin() -> list[asyncio.Task[Outcome]]:
            calls = [asyncio.ensure_future(harness.invoke_async(name, 30)) for name in ("slow", "sleeps", "slow")]
            await until(lambda: any(each.running for each in harness.function("sleeps").environments.values()))
            return calls

        calls = harness.run(begin())

        async def close() -> list[Outcome | BaseException]:
            await harness.service.__aexit__()
            return await asyncio.gather(*calls, return_exceptions=True)

        answers = harness.run(close())
    assert [type(answer) for answer in answers] == [ServiceError] * 3, "whoever waits is told"


def listening_ports() -> set[int]:
    """Ports this process listens on."""
    inodes = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            inodes.add(entry.readlink().name)
        except OSError:
            continue
    ports = set()
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            ports.add(int(fields[1].partition(":")[2], 16))
    return ports
