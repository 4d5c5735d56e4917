"""What a circuit can be and report: its states, the outcomes of calls, events, a snapshot, and the exception when it is open."""

from enum import Enum
from typing import Literal, NamedTuple


class Mode(Enum):
    ENFORCE = "enforce"
    OBSERVE = "observe"  # does and reports everything except reject and shorten a probe: how a breaker is introduced
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


class Outcome(Enum):
    SUCCESS = "success"  # counts as slow if it took slow_s or longer
    FAILURE = "failure"
    SLOW = "slow"
    IGNORED = "ignored"  # an answer that says nothing about the dependency's health: not found, conflict, bad request
    ABANDONED = "abandoned"  # the caller gave up: counts nothing, unless it had waited for slow_s by then


Reason = Literal[
    "failure_rate", "slow_rate", "interval_passed", "probe_failed", "probe_slow", "lease_expired", "probes_succeeded"
]


class Transition(NamedTuple):
    name: str
    at_s: float
    from_state: State
    to_state: State
    reason: Reason
    era: int  # that it starts
    open_for_s: float  # 0 unless to_state is OPEN
    calls: int  # the window at that moment, overdue calls in flight included
    failures: int
    slow: int


class Rejected(NamedTuple):
    name: str
    at_s: float
    state: State
    retry_after_s: float
    enforced: bool  # False: only observed, the call went out


class Dropped(NamedTuple):
    """A result that came after its era: it may be true, but it is not news."""

    name: str
    at_s: float
    outcome: Outcome
    permit_era: int
    era: int


type Event = Transition | Rejected | Dropped


class Snapshot(NamedTuple):
    name: str
    state: State
    era: int
    calls: int
    failures: int
    slow: int
    in_flight: int
    probe_in_flight: bool
    probes_succeeded: int
    open_interval_s: float  # of this round, before jitter
    retry_after_s: float  # 0: a call would be admitted now
    on_event_errors: int


class CircuitOpen(Exception):
    """Made anew for each rejection: a stored exception would collect the traceback of every caller."""

    def __init__(self, name: str, retry_after_s: float, state: State) -> None:
        super().__init__(f"circuit {name!r} is {state.value}; retry in {retry_after_s:.1f} s")
        self.name = name
        self.retry_after_s = retry_after_s
        self.state = state


class SettledTwice(RuntimeError):
    """A permit has one outcome; a second settle is a bug of the caller's and would be counted twice."""
