"""The books of one function under any order of admissions, answers, returns, deaths and timeouts, against a naive model."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from warmfront.emulator.lambda_service.functions.scaling import Decision, Scaling


@dataclass
class Model:
    """Where every environment and every invocation is, in plain lists."""

    concurrency_max: int | None = None
    free: list[int] = field(default_factory=list)
    """Least recently used first."""
    busy: list[int] = field(default_factory=list)
    returning: list[int] = field(default_factory=list)
    waiting: int = 0
    starting: int = 0
    made: int = 0

    @property
    def in_flight(self) -> int:
        return len(self.busy) + self.waiting + self.starting


class ScalingMachine(RuleBasedStateMachine):
    """Drives Scaling as a Function does; every answer it gives is compared with the model's."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.scaling: Scaling[int] = Scaling(None)

    @initialize(concurrency_max=st.one_of(st.none(), st.integers(0, 4)))
    def begin(self, concurrency_max: int | None) -> None:
        self.model = Model(concurrency_max)
        self.scaling = Scaling(concurrency_max)

    # -- invocations ---------------------------------------------------------------------------------------------------

    @rule()
    def admit(self) -> None:
        model = self.model
        limit = model.concurrency_max
        throttled = limit is not None and model.in_flight >= limit
        decision = self.scaling.admit()
        if throttled:
            assert decision is Decision.THROTTLE
        elif model.free:
            assert decision == model.free[-1], "the environment used last serves first"
            model.busy.append(model.free.pop())
        elif len(model.returning) > model.waiting:
            assert decision is Decision.WAIT
            model.waiting += 1
        else:
            assert decision is Decision.START
            model.starting += 1

    @precondition(lambda self: self.model.starting)
    @rule()
    def a_started_environment_takes_its_invocation(self) -> None:
        self.model.starting -= 1
        self.model.made += 1
        self.model.busy.append(self.model.made)

    @precondition(lambda self: self.model.busy)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        environment = self._pick(data, self.model.busy)
        self.scaling.answered()
        self.scaling.finished()
        self.model.busy.remove(environment)
        self.model.returning.append(environment)

    @precondition(lambda self: self.model.busy)
    @rule(data=st.data())
    def an_invocation_crashes_and_resets_its_environment(self, data: st.DataObject) -> None:
        environment = self._pick(data, self.model.busy)
        self.scaling.finished()
        self.scaling.add_free(environment)
        self.model.busy.remove(environment)
        self._freed(environment)

    @precondition(lambda self: self.model.waiting)
    @rule()
    def a_waiting_invocation_gives_up_and_starts(self) -> None:
        self.scaling.give_up_waiting()
        self.model.waiting -= 1
        self.model.starting += 1

    # -- environments --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.returning)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        environment = self._pick(data, self.model.returning)
        self.scaling.came_back(environment)
        self.model.returning.remove(environment)
        self._freed(environment)

    @precondition(lambda self: self.model.returning)
    @rule(data=st.data())
    def die_on_the_way_back(self, data: st.DataObject) -> None:
        """Of those who wait, one has nothing to wait for any more."""
        environment = self._pick(data, self.model.returning)
        self.scaling.lost_on_return()
        self.model.returning.remove(environment)
        if self.scaling.waiting > self.scaling.returning:
            self.scaling.give_up_waiting()
            self.model.waiting -= 1
            self.model.starting += 1

    @precondition(lambda self: self.model.free)
    @rule(data=st.data())
    def die_while_free(self, data: st.DataObject) -> None:
        environment = self._pick(data, self.model.free)
        assert self.scaling.remove(environment)
        assert not self.scaling.remove(environment), "a second death changes nothing"
        self.model.free.remove(environment)

    @rule()
    def warm_one(self) -> None:
        self.model.made += 1
        self.scaling.add_free(self.model.made)
        self._freed(self.model.made)

    @precondition(lambda self: self.model.free)
    @rule(data=st.data())
    def nothing_is_free_twice(self, data: st.DataObject) -> None:
        environment = self._pick(data, self.model.free)
        try:
            self.scaling.add_free(environment)
        except ValueError:
            return
        raise AssertionError("an environment was added to the free ones twice")

    @precondition(lambda self: self.model.free)
    @rule()
    def the_reaper_looks_at_the_longest_idle(self) -> None:
        assert self.scaling.least_recent() == self.model.free[0]

    # -- what always holds ---------------------------------------------------------------------------------------------

    @invariant()
    def the_books_agree(self) -> None:
        scaling, model = self.scaling, self.model
        assert (scaling.in_flight, scaling.free, scaling.returning, scaling.waiting) == (
            model.in_flight,
            len(model.free),
            len(model.returning),
            model.waiting,
        )

    @invariant()
    def the_limit_holds(self) -> None:
        if self.model.concurrency_max is not None:
            assert self.scaling.in_flight <= self.model.concurrency_max

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        assert self.scaling.waiting <= self.scaling.returning
        assert not (self.scaling.waiting and self.scaling.free), "somebody waits beside a free environment"

    def _freed(self, environment: int) -> None:
        """Whoever waits gets a free environment at once, as a Function sees to."""
        self.model.free.append(environment)
        if self.model.waiting:
            assert self.scaling.take_for_waiter() == environment
            self.model.waiting -= 1
            self.model.busy.append(self.model.free.pop())

    @staticmethod
    def _pick(data: st.DataObject, among: list[int]) -> int:
        return data.draw(st.sampled_from(among))


TestScalingMachine = ScalingMachine.TestCase
TestScalingMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


class ClosedLoop(RuleBasedStateMachine):
    """N callers, each with at most one invocation in flight, and no environment ever dies: N environments are enough."""

    def __init__(self) -> None:
        super().__init__()
        self.callers = 1
        self.scaling: Scaling[int] = Scaling(None)
        self.made = 0
        self.busy: list[int] = []
        self.returning: list[int] = []

    @initialize(callers=st.integers(1, 5))
    def begin(self, callers: int) -> None:
        self.callers = callers

    @precondition(lambda self: self.scaling.in_flight < self.callers)
    @rule()
    def call(self) -> None:
        decision = self.scaling.admit()
        if decision is Decision.START:
            self.made += 1
            self.busy.append(self.made)
        elif isinstance(decision, int):
            self.busy.append(decision)

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        environment = data.draw(st.sampled_from(self.busy))
        self.busy.remove(environment)
        self.returning.append(environment)
        self.scaling.answered()
        self.scaling.finished()

    @precondition(lambda self: self.returning)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        environment = data.draw(st.sampled_from(self.returning))
        self.returning.remove(environment)
        self.scaling.came_back(environment)
        taken = self.scaling.take_for_waiter() if self.scaling.waiting else None
        if taken is not None:
            self.busy.append(taken)

    @invariant()
    def a_closed_loop_makes_no_more_environments_than_callers(self) -> None:
        assert self.made <= self.callers


TestClosedLoop = ClosedLoop.TestCase
TestClosedLoop.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
