"""Requests that come in any number, while others begin or fail to: each begins once, in order, a few in a turn, and none is left."""

import contextlib
from collections.abc import Callable
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from warmfront.emulator.gateway.backlog import Backlog


class Turns:
    """What of a loop a backlog uses."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None], *args: Any) -> None:
        assert not args
        self.due.append(callback)

    def turn(self) -> None:
        """What is due now, and nothing that this makes due."""
        due, self.due = self.due, []
        for callback in due:
            with contextlib.suppress(ZeroDivisionError):  # a loop logs it and goes on
                callback()


class BacklogMachine(RuleBasedStateMachine):
    @initialize(per_turn=st.integers(1, 5))
    def start(self, per_turn: int) -> None:
        self.turns = Turns()
        self.per_turn = per_turn
        self.backlog = Backlog(cast(Any, self.turns), per_turn)
        self.added: list[int] = []
        self.begun: list[int] = []

    def _add(self, brings: int, *, fails: bool) -> None:
        number = len(self.added)
        self.added.append(number)

        def begin() -> None:
            self.begun.append(number)
            for _ in range(brings):
                self._add(0, fails=False)
            if fails:
                raise ZeroDivisionError

        self.backlog.add(begin)

    @rule(brings=st.integers(0, 3), fails=st.booleans())
    def come(self, brings: int, *, fails: bool) -> None:
        before = len(self.begun)
        self._add(brings, fails=fails)
        assert len(self.begun) == before, "it began while its request was read"

    @rule()
    def turn(self) -> None:
        before = len(self.begun)
        self.turns.turn()
        assert len(self.begun) - before <= self.per_turn

    @rule()
    def rest(self) -> None:
        """However it came to be, all begin within as many turns as there are requests."""
        for _ in range(4 * len(self.added) + 1):
            self.turns.turn()
        assert self.begun == self.added
        assert not self.turns.due, "the loop turns for nothing"

    @invariant()
    def in_order(self) -> None:
        assert self.begun == self.added[: len(self.begun)]
        assert len(self.backlog) == len(self.added) - len(self.begun)
        assert len(self.turns.due) == (len(self.backlog) > 0), "one turn is due, and only if somebody waits"


TestBacklog = BacklogMachine.TestCase
TestBacklog.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
