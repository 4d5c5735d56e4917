"""Uses of one thing in any order, of any length: each that takes too long is ended, once, on time, and no other ever is."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.kit.bound import Bound

SECONDS = st.floats(0.0, 8.0)


class Timer:
    def __init__(self, due_s: float, call: Callable[..., object]) -> None:
        self.due_s, self.call, self.cancelled = due_s, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Clockwork:
    """What of a loop a bound uses. Timers are late by as much as the loop is not run: a frozen environment's is not."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        assert not args
        assert context is None
        self.timers.append(Timer(when, callback))
        return self.timers[-1]

    @property
    def armed(self) -> list[Timer]:
        return [each for each in self.timers if not each.cancelled]

    def run(self) -> None:
        """What is due by now, in the order of time."""
        while due := sorted((each for each in self.armed if each.due_s <= self.now_s), key=lambda each: each.due_s):
            self.timers.remove(due[0])
            due[0].call()
        self.timers = self.armed

    def run_until(self, then_s: float) -> None:
        """Each timer when it is due, as a loop that runs all the time."""
        while due := [each.due_s for each in self.armed if each.due_s <= then_s]:
            self.now_s = max(self.now_s, min(due))
            self.run()
        self.now_s = then_s


class BoundMachine(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        self.loop = Clockwork()
        self.ended_s: list[float] = []
        self.bound = Bound(cast(asyncio.AbstractEventLoop, self.loop), lambda: self.ended_s.append(self.loop.now_s))
        self.ends_s = math.inf
        self.expected_s: list[float] = []

    @precondition(lambda self: self.ends_s == math.inf)
    @rule(within_s=SECONDS)
    def begin(self, within_s: float) -> None:
        self.bound.begin(within_s)
        self.ends_s = self.loop.now_s + within_s

    @rule()
    def finish(self) -> None:
        self.bound.finish()
        self.ends_s = math.inf

    @rule()
    def close(self) -> None:
        self.bound.close()
        self.ends_s = math.inf
        assert self.loop.armed == []

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        then_s = self.loop.now_s + seconds
        if self.ends_s <= then_s:
            self.expected_s.append(self.ends_s)
            self.ends_s = math.inf
        self.loop.run_until(then_s)

    @rule(seconds=SECONDS)
    def freeze(self, seconds: float) -> None:
        """Time goes by, and only then the loop runs: what was in use has had its time all the same."""
        self.loop.now_s += seconds
        if self.ends_s <= self.loop.now_s:
            self.expected_s.append(self.loop.now_s)
            self.ends_s = math.inf
        self.loop.run()

    @invariant()
    def just_what_took_too_long_was_ended_and_on_time(self) -> None:
        assert self.ended_s == self.expected_s

    @invariant()
    def never_more_than_one_timer(self) -> None:
        assert len(self.loop.armed) <= 1


TestBound = BoundMachine.TestCase
TestBound.settings = settings(max_examples=200, stateful_step_count=40)


def test_uses_that_end_in_time_need_one_timer_among_them() -> None:
    loop = Clockwork()
    bound = Bound(cast(asyncio.AbstractEventLoop, loop), lambda: None)
    made = 0
    for _ in range(1000):
        before = len(loop.timers)
        bound.begin(2.0)
        made += len(loop.timers) - before
        loop.run_until(loop.now_s + 0.001)
        bound.finish()
    assert made == 1
