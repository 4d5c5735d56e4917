"""Which execution environment serves the next invocation: reuse, wait for a returning one, start, or throttle.

A pure state machine over opaque environments: no clock, no I/O, no await. Every decision is O(1) in the number of environments.
"""

from enum import Enum


class Decision(Enum):
    """What an invocation that found no free environment has to do."""

    START = "start"
    WAIT = "wait"
    THROTTLE = "throttle"


class Scaling[E]:
    """The books of one function: free environments (last used on top), those on their way back, and invocations in flight.

    `concurrency_max`: invocations in flight at once; None means no limit of the function's own.
    """

    def __init__(self, concurrency_max: int | None) -> None:
        self.concurrency_max = concurrency_max
        self._free: dict[E, None] = {}  # insertion order: the last one in was used last
        self._ahead: dict[E, None] = {}  # likewise; these are used before those (provisioned before on demand)
        self.in_flight = 0
        """Invocations between `admit` and `finished`."""
        self.returning = 0
        """Environments that have answered and not yet asked for the next event."""
        self.waiting = 0
        """Admitted invocations that wait for a returning environment."""

    @property
    def free(self) -> int:
        return len(self._free) + len(self._ahead)

    def admit(self) -> E | Decision:
        """Admit one invocation: a free environment (most recently used first), or what to do instead."""
        if self.concurrency_max is not None and self.in_flight >= self.concurrency_max:
            return Decision.THROTTLE
        self.in_flight += 1
        if self._ahead or self._free:
            return self._take()
        if self.returning > self.waiting:
            # An answer has left but its process has not asked for the next event yet: a closed loop of N callers would
            # otherwise start an environment N + 1 on every such gap.
            self.waiting += 1
            return Decision.WAIT
        return Decision.START

    def _take(self) -> E:
        return (self._ahead or self._free).popitem()[0]

    def take_for_waiter(self) -> E | None:
        """A waiting invocation looks again; it stays waiting when nothing is free."""
        if not (self._ahead or self._free):
            return None
        self.waiting -= 1
        return self._take()

    def give_up_waiting(self) -> None:
        """A waiting invocation stops waiting (it will start an environment, or its caller has gone)."""
        self.waiting -= 1

    def finished(self) -> None:
        """An admitted invocation is over, whatever its outcome."""
        self.in_flight -= 1

    def answered(self) -> None:
        """An environment has answered; it is on its way back."""
        self.returning += 1

    def lost_on_return(self) -> None:
        """A returning environment died before it came back."""
        self.returning -= 1

    def came_back(self, environment: E, *, ahead: bool = False) -> None:
        """A returning environment is free again."""
        self.returning -= 1
        self.add_free(environment, ahead=ahead)

    def add_free(self, environment: E, *, ahead: bool = False) -> None:
        """An environment that was not returning is free: started ahead, reset, or its invocation was withdrawn.

        `ahead`: it is used before those that are not, and never `least_recent`.
        """
        if environment in self._free or environment in self._ahead:
            raise ValueError("environment is already free")
        (self._ahead if ahead else self._free)[environment] = None

    def remove(self, environment: E) -> bool:
        """Forget a free environment (it died or was retired); False when it was not free."""
        for free in (self._free, self._ahead):
            if environment in free:
                del free[environment]
                return True
        return False

    def least_recent(self) -> E | None:
        """The free environment that has been idle longest: what the reaper looks at first."""
        return next(iter(self._free), None)
