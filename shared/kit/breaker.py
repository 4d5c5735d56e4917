"""A circuit breaker as a pure state machine: decides whether a call may be made. It does no I/O itself.

    permit = breaker.acquire()                 # raises CircuitOpen
    ...                                        # the call, bounded by permit.timeout_s(remaining_s)
    permit.settle(Outcome.SUCCESS)             # exactly once, whatever happened

The lock is held for the bookkeeping around a call, never during it. `shared/kit/guard.py` does the three steps for a
coroutine.

    CLOSED --(a bad outcome, and the rates are too high)--> OPEN
    OPEN --(its interval has passed, and a call asks for admission)--> HALF_OPEN
    HALF_OPEN --(enough probes succeeded)--> CLOSED
    HALF_OPEN --(a probe failed, was slow, or its lease expired)--> OPEN, for twice as long

Each transition starts a new era; a permit of an older era changes nothing any more. Nothing here runs by itself,
because a frozen environment runs no timers: what became due meanwhile is done at the next call.
"""

import random
import time
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from shared.kit.circuit import (
    CircuitOpen,
    Dropped,
    Event,
    Mode,
    Outcome,
    Reason,
    Rejected,
    SettledTwice,
    Snapshot,
    State,
    Transition,
)

EVENTS_MAX = 64  # kept for drain_events; on_event sees every one
_INFINITE = float("inf")
_UNCOUNTED = -1  # the era of permits whose outcome does not count


# Looked up once: a member access on an Enum costs a tenth of a whole acquire.
_CLOSED, _OPEN, _HALF_OPEN, _DISABLED = State.CLOSED, State.OPEN, State.HALF_OPEN, State.DISABLED
_SUCCESS, _FAILURE, _SLOW = Outcome.SUCCESS, Outcome.FAILURE, Outcome.SLOW
_IGNORED, _ABANDONED = Outcome.IGNORED, Outcome.ABANDONED


class BreakerSettings(NamedTuple):
    """Checked by the breaker that takes them. Tuples, not dataclasses, here and below: a tenth of the import time."""

    slow_s: float  # a call that takes this long is slow, whatever it answers
    call_timeout_s: float  # the breaker owns it, so that a hang is evidence
    window_s: int = 10
    calls_min: int = 5  # few: an environment sees few calls, and must learn within a few timeouts
    failure_rate: float = 0.5
    slow_rate: float = 0.8
    open_base_s: float = 1.0  # the first open interval; doubles with each failed round
    open_max_s: float = 30.0
    probes_to_close: int = 2
    mode: Mode = Mode.ENFORCE


def _check(name: str, settings: BreakerSettings) -> None:
    s = settings
    for holds, key, rule in (
        (0 < s.call_timeout_s < _INFINITE, "call_timeout_s", "above 0 and finite, or a hang is no evidence"),
        (0 < s.slow_s <= s.call_timeout_s, "slow_s", "above 0 and at most call_timeout_s"),
        (isinstance(s.window_s, int) and s.window_s >= 1, "window_s", "whole seconds, at least 1"),
        (s.calls_min >= 3, "calls_min", "at least 3, or one unlucky call opens the circuit"),
        (0 < s.failure_rate <= 1, "failure_rate", "above 0 and at most 1"),
        (0 < s.slow_rate <= 1, "slow_rate", "above 0 and at most 1"),
        (0 < s.open_max_s < _INFINITE, "open_max_s", "above 0 and finite, or the circuit stays open for ever"),
        (0 < s.open_base_s <= s.open_max_s, "open_base_s", "above 0 and at most open_max_s"),
        (s.probes_to_close >= 1, "probes_to_close", "at least 1"),
    ):
        if not holds:
            raise ValueError(f"circuit {name!r}: {key}={getattr(s, key)}: must be {rule}")


class Permit:
    """The right to make one call. Belongs to its era; a probe's right also ends with its lease."""

    __slots__ = ("_breaker", "admitted_at_s", "era", "lease_s", "outcome")

    def __init__(self, breaker: "CircuitBreaker", era: int, admitted_at_s: float, lease_s: float | None) -> None:
        self._breaker = breaker
        self.era = era
        self.admitted_at_s = admitted_at_s
        self.lease_s = lease_s
        self.outcome: Outcome | None = None  # as it counted: a slow success is SLOW; None until settled

    @property
    def name(self) -> str:
        return self._breaker.name

    @property
    def is_probe(self) -> bool:
        return self.lease_s is not None

    @property
    def limit_s(self) -> float:
        """The longest that this call may take, in seconds, whatever the caller's own deadline is."""
        return self._breaker.settings.call_timeout_s if self.lease_s is None else self.lease_s

    def timeout_s(self, remaining_s: float) -> float:
        return max(0.0, min(self.limit_s, remaining_s))

    def settle(self, outcome: Outcome) -> None:
        self._breaker._settle(self, outcome)


class CircuitBreaker:
    def __init__(
        self,
        name: str,
        settings: BreakerSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        _check(name, settings)
        self.name = name
        self.settings = settings
        self._clock = clock
        self._rng = rng
        self._on_event = on_event
        self._on_event_errors = 0
        self._unpublished: list[Event] = []
        self._events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self._lock = Lock()
        self._state = {Mode.FORCED_OPEN: State.FORCED_OPEN, Mode.DISABLED: _DISABLED}.get(settings.mode, _CLOSED)
        self._era = 0
        self._slow_s = settings.slow_s
        self._in_flight: dict[Permit, None] = {}  # of this era, oldest first
        self._probe: Permit | None = None
        self._probes_succeeded = 0
        self._interval_s = settings.open_base_s
        self._open_until_s = 0.0
        self._clear_window(clock())

    def acquire(self) -> Permit:
        with self._lock:
            now_s = self._clock()
            if self._state is _CLOSED:
                permit = Permit(self, self._era, now_s, None)
                self._in_flight[permit] = None
                return permit
            admitted = self._acquire_unless_closed(now_s)
        if self._unpublished:
            self._publish()
        if isinstance(admitted, CircuitOpen):
            raise admitted
        return admitted

    @property
    def era(self) -> int:
        """Another number than before: the state has moved. Does not look at the clock."""
        return self._era

    @property
    def state(self) -> State:
        with self._lock:
            self._expire_lease(self._clock())
            state = self._state
        if self._unpublished:
            self._publish()
        return state

    def snapshot(self) -> Snapshot:
        with self._lock:
            now_s = self._clock()
            self._expire_lease(now_s)
            self._roll(now_s)
            snapshot = Snapshot(
                name=self.name,
                state=self._state,
                era=self._era,
                calls=self._calls,
                failures=self._failures,
                slow=self._slow,
                in_flight=len(self._in_flight),
                probe_in_flight=self._probe is not None,
                probes_succeeded=self._probes_succeeded,
                open_interval_s=self._interval_s,
                retry_after_s=self._retry_after_s(now_s),
                on_event_errors=self._on_event_errors,
            )
        if self._unpublished:
            self._publish()
        return snapshot

    def drain_events(self) -> list[Event]:
        """What happened since the last drain, at most the latest EVENTS_MAX: for the metrics an invocation flushes."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events

    # Admission

    def _acquire_unless_closed(self, now_s: float) -> Permit | CircuitOpen:
        if self._state is _DISABLED:
            return Permit(self, _UNCOUNTED, now_s, None)
        self._expire_lease(now_s)
        if self._state is _OPEN and now_s >= self._open_until_s:
            self._move(_HALF_OPEN, now_s, "interval_passed")
        observing = self.settings.mode is Mode.OBSERVE
        if self._state is _HALF_OPEN and self._probe is None:
            call_timeout_s = self.settings.call_timeout_s
            lease_s = call_timeout_s if observing else min(call_timeout_s, self._interval_s)
            self._probe = Permit(self, self._era, now_s, lease_s)
            self._in_flight[self._probe] = None
            return self._probe
        retry_after_s = self._retry_after_s(now_s)
        self._emit(Rejected(self.name, now_s, self._state, retry_after_s, enforced=not observing))
        if observing:
            return Permit(self, _UNCOUNTED, now_s, None)
        return CircuitOpen(self.name, retry_after_s, self._state)

    def _retry_after_s(self, now_s: float) -> float:
        if self._state is State.FORCED_OPEN:
            return self.settings.open_max_s
        if self._state is _OPEN:
            return max(0.0, self._open_until_s - now_s)
        if self._probe is not None:
            return _lease_end_s(self._probe) - now_s
        return 0.0

    def _expire_lease(self, now_s: float) -> None:
        """A probe not settled in time is lost. The back-off starts when the lease ended, not when that is noticed."""
        if self._probe is not None and now_s >= (lease_end_s := _lease_end_s(self._probe)):
            self._open_for_longer(lease_end_s, "lease_expired")

    # Evidence

    def _settle(self, permit: Permit, outcome: Outcome) -> None:
        with self._lock:
            if permit.outcome is not None:
                raise SettledTwice(f"circuit {self.name!r}: permit settled a second time, with {outcome}")
            self._in_flight.pop(permit, None)
            now_s = self._clock()
            slow = now_s - permit.admitted_at_s >= self._slow_s
            if slow and (outcome is _SUCCESS or outcome is _ABANDONED):
                outcome = _SLOW
            permit.outcome = outcome
            if permit.era == self._era and self._state is _CLOSED:
                if int(now_s) > self._second:
                    self._roll(now_s)
                if outcome is _SUCCESS:
                    self._calls += 1
                    self._bucket[0] += 1
                elif outcome is not _IGNORED and outcome is not _ABANDONED:
                    self._count_bad(outcome is _FAILURE, slow or outcome is _SLOW)
                    self._trip_if_bad(now_s)
            elif permit.era != _UNCOUNTED:
                self._settle_probe(permit, outcome, now_s)
        if self._unpublished:
            self._publish()

    def _count_bad(self, failed: bool, slow: bool) -> None:
        self._calls += 1
        self._failures += failed
        self._slow += slow
        self._bucket[0] += 1
        self._bucket[1] += failed
        self._bucket[2] += slow

    def _trip_if_bad(self, now_s: float) -> None:
        """Only ever after a bad outcome: a success must not open the circuit over failures that are already history."""
        overdue = self._overdue(now_s)
        calls = self._calls + overdue
        if calls < self.settings.calls_min:
            return
        failing = self._failures / calls >= self.settings.failure_rate
        if failing or (self._slow + overdue) / calls >= self.settings.slow_rate:
            self._interval_s = self.settings.open_base_s
            self._open(now_s, "failure_rate" if failing else "slow_rate")

    def _overdue(self, now_s: float) -> int:
        """Calls in flight that are slow already. Each turned slow at one moment and leaves the window like an event."""
        overdue = 0
        for permit in self._in_flight:
            late_s = now_s - permit.admitted_at_s - self._slow_s
            if late_s < 0:
                break
            overdue += late_s < self.settings.window_s
        return overdue

    def _settle_probe(self, permit: Permit, outcome: Outcome, now_s: float) -> None:
        self._expire_lease(now_s)
        if permit.era != self._era:
            self._emit(Dropped(self.name, now_s, outcome, permit.era, self._era))
            return
        self._probe = None
        if outcome is _FAILURE:
            self._open_for_longer(now_s, "probe_failed")
        elif outcome is _SLOW:
            self._open_for_longer(now_s, "probe_slow")
        elif outcome is _SUCCESS:
            self._probes_succeeded += 1
            if self._probes_succeeded >= self.settings.probes_to_close:
                self._move(_CLOSED, now_s, "probes_succeeded")

    # Transitions

    def _open_for_longer(self, at_s: float, reason: Reason) -> None:
        self._interval_s = min(self._interval_s * 2, self.settings.open_max_s)
        self._open(at_s, reason)

    def _open(self, at_s: float, reason: Reason) -> None:
        # Full jitter: environments that opened together must not probe together.
        open_for_s = self._rng() * self._interval_s
        self._open_until_s = at_s + open_for_s
        self._move(_OPEN, at_s, reason, open_for_s)

    def _move(self, to: State, at_s: float, reason: Reason, open_for_s: float = 0.0) -> None:
        self._era += 1
        overdue = self._overdue(at_s) if self._state is _CLOSED else 0
        calls, slow = self._calls + overdue, self._slow + overdue
        self._emit(
            Transition(self.name, at_s, self._state, to, reason, self._era, open_for_s, calls, self._failures, slow)
        )
        self._state = to
        self._probe = None
        self._probes_succeeded = 0
        self._in_flight.clear()
        self._clear_window(at_s)

    # The window: calls, failures and slow calls in total, and per second so that seconds can leave

    def _clear_window(self, now_s: float) -> None:
        self._calls = self._failures = self._slow = 0
        self._second = int(now_s)
        self._buckets = deque([0, 0, 0] for _ in range(self.settings.window_s))
        self._bucket = self._buckets[-1]

    def _roll(self, now_s: float) -> None:
        for _ in range(min(int(now_s) - self._second, len(self._buckets))):
            calls, failures, slow = self._buckets.popleft()
            self._calls -= calls
            self._failures -= failures
            self._slow -= slow
            self._buckets.append([0, 0, 0])
        self._bucket = self._buckets[-1]
        self._second = max(self._second, int(now_s))
        self._forget_lost(now_s)

    def _forget_lost(self, now_s: float) -> None:
        """A permit that is never settled must not stay for ever; by now it has left the window as well."""
        lost_s = self._slow_s + self.settings.window_s
        for permit in [p for p in self._in_flight if now_s - p.admitted_at_s >= lost_s]:
            del self._in_flight[permit]

    # Events

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        if self._on_event is not None:
            self._unpublished.append(event)

    def _publish(self) -> None:
        """Outside the lock, so that a listener may ask the breaker; its errors are counted and never the caller's."""
        with self._lock:
            events, self._unpublished = self._unpublished, []
        for event in events:
            try:
                if self._on_event is not None:
                    self._on_event(event)
            except Exception:
                self._on_event_errors += 1


def _lease_end_s(probe: Permit) -> float:
    return probe.admitted_at_s + probe.limit_s
