"""Deadline: every wait gets its own bound or what is left, and no time left is an answer."""

import pytest

from shared.kit.deadline import Deadline
from shared.kit.problems import TimedOut


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Context:
    def __init__(self, remaining_ms: int) -> None:
        self._remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining_ms


def test_a_wait_takes_its_own_bound_while_there_is_time() -> None:
    assert Deadline(3.0, clock=Clock()).timeout_s(0.5) == 0.5


def test_a_wait_takes_what_is_left_when_that_is_less() -> None:
    clock = Clock()
    deadline = Deadline(3.0, clock=clock)
    clock.now_s += 2.75
    assert deadline.timeout_s(0.5) == 0.25


def test_the_reserve_is_not_for_waiting() -> None:
    deadline = Deadline.of(Context(1_000), reserve_ms=200, clock=Clock())
    assert deadline.timeout_s(60) == pytest.approx(0.8)


def test_with_no_time_left_there_is_no_wait_at_all() -> None:
    clock = Clock()
    deadline = Deadline.of(Context(150), reserve_ms=200, clock=clock)
    with pytest.raises(TimedOut):
        deadline.timeout_s(0.5)
    assert deadline.remaining_s() < 0
