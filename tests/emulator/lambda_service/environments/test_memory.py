"""The memory limit and the peak that REPORT tells."""

import re
from collections.abc import Iterator

import pytest

from tests.emulator.harness import Harness, Outcome, function, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    functions = [
        function("hold", "memory.hold", memory_mb=128, timeout_s=20),
        function("spike", "memory.spike", memory_mb=128),
        function("grow", "memory.grow", memory_mb=192, timeout_s=20),
        function("child", "memory.child", memory_mb=128, timeout_s=20),
        function("child_of_a_thread", "memory.child_of_a_thread", memory_mb=128, timeout_s=20),
        function("hungry", "hungry.handler", memory_mb=192, timeout_s=20),
    ]
    with running(tmp_path_factory.mktemp("memory"), *functions) as harness:
        yield harness


def memory_used_mb(outcome: Outcome) -> int:
    found = re.search(r"\tMax Memory Used: (\d+) MB\t", outcome.report)
    assert found is not None
    return int(found[1])


def assert_out_of_memory(outcome: Outcome, limit_mb: int) -> None:
    assert list(outcome.payload.items()) == [
        ("errorType", "Runtime.OutOfMemory"),
        (
            "errorMessage",
            f"RequestId: {outcome.result.request_id} Error: Runtime exited with error: signal: killed",
        ),
    ]
    assert outcome.report.endswith("\tStatus: error\tError Type: Runtime.OutOfMemory")
    assert memory_used_mb(outcome) == limit_mb, "never more than it has"


def test_a_handler_that_takes_memory_without_end_is_ended(service: Harness) -> None:
    assert_out_of_memory(service.invoke("grow"), 192)


def test_the_next_invocation_after_it_works(service: Harness) -> None:
    assert_out_of_memory(service.invoke("hold", {"mb": 200, "seconds": 10}), 128)
    after = service.invoke("hold", {"mb": 10})
    assert after.payload == 1, "a new process"
    assert not after.cold


def test_memory_taken_and_given_back_is_in_the_peak(service: Harness) -> None:
    first = service.invoke("spike", 1)
    assert 5 < memory_used_mb(first) < 40
    service.until_sampled()
    assert 70 < memory_used_mb(service.invoke("spike", 60)) < 110
    service.until_sampled()
    assert 70 < memory_used_mb(service.invoke("spike", 1)) < 110, "the peak is the environment's, not the invocation's"


def test_a_spike_over_the_limit_ends_the_invocation_even_if_it_was_short(service: Harness) -> None:
    service.until_sampled()
    assert_out_of_memory(service.invoke("spike", 200), 128)


@pytest.mark.parametrize("name", ["child", "child_of_a_thread"])
def test_memory_of_child_processes_counts(service: Harness, name: str) -> None:
    assert_out_of_memory(service.invoke(name, 200), 128)


def test_an_init_that_takes_too_much_fails(service: Harness) -> None:
    outcome = service.invoke("hungry")
    assert_out_of_memory(outcome, 192)
    assert outcome.log.count("Error Type: Runtime.OutOfMemory") == 3, "two inits and the invocation"
