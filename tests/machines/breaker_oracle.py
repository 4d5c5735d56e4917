"""The breaker's rules once more, as naively as they can be written: whole histories, no buckets, no running totals."""

from dataclasses import dataclass, field

from shared.kit.breaker import BreakerSettings
from shared.kit.circuit import Mode, Outcome, State


@dataclass(eq=False)
class Ticket:
    """What the oracle remembers of one permit."""

    era: int
    admitted_at_s: float
    lease_end_s: float | None = None
    settled: bool = False


@dataclass(frozen=True)
class Evidence:
    at_s: float
    failed: bool
    slow: bool


@dataclass
class Oracle:
    settings: BreakerSettings
    jitter: float  # what the random source answers
    state: State = State.CLOSED
    era: int = 0
    failed_rounds: int = 0
    open_until_s: float = 0.0
    probes_succeeded: int = 0
    evidence: list[Evidence] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)

    def acquire(self, now_s: float) -> Ticket | float:
        """A ticket, or the seconds after which to come back."""
        self.let_time_pass(now_s)
        if self.state is State.OPEN and now_s >= self.open_until_s:
            self._enter(State.HALF_OPEN)
        if self.state is State.CLOSED:
            ticket = Ticket(self.era, now_s)
        elif self.state is State.HALF_OPEN and self.live_probe(now_s) is None:
            ticket = Ticket(self.era, now_s, now_s + self.lease_s())
        elif self.settings.mode is Mode.OBSERVE:
            ticket = Ticket(-1, now_s)
        else:
            return self.retry_after_s(now_s)
        self.tickets.append(ticket)
        return ticket

    def settle(self, ticket: Ticket, outcome: Outcome, now_s: float) -> None:
        self.let_time_pass(now_s)
        ticket.settled = True
        if ticket.era != self.era:
            return
        slow = now_s - ticket.admitted_at_s >= self.settings.slow_s or outcome is Outcome.SLOW
        failed = outcome is Outcome.FAILURE
        silent = outcome is Outcome.IGNORED or (outcome is Outcome.ABANDONED and not slow)
        if silent:
            return
        bad = failed or slow
        if self.state is State.HALF_OPEN:
            if bad:
                self._open(now_s, failed_rounds=self.failed_rounds + 1)
            else:
                self.probes_succeeded += 1
                if self.probes_succeeded == self.settings.probes_to_close:
                    self._enter(State.CLOSED)
                    self.failed_rounds = 0
            return
        self.evidence.append(Evidence(now_s, failed, slow))
        if bad and self.is_bad(now_s):
            self._open(now_s, failed_rounds=0)

    def is_bad(self, now_s: float) -> bool:
        calls, failures, slow = self.counts(now_s)
        overdue = len([t for t in self.in_flight() if self.is_overdue(t, now_s)])
        calls, slow = calls + overdue, slow + overdue
        s = self.settings
        return calls >= s.calls_min and (failures / calls >= s.failure_rate or slow / calls >= s.slow_rate)

    def counts(self, now_s: float) -> tuple[int, int, int]:
        recent = [e for e in self.evidence if int(e.at_s) > int(now_s) - self.settings.window_s]
        return len(recent), len([e for e in recent if e.failed]), len([e for e in recent if e.slow])

    def is_overdue(self, ticket: Ticket, now_s: float) -> bool:
        slow_since_s = ticket.admitted_at_s + self.settings.slow_s
        return slow_since_s <= now_s < slow_since_s + self.settings.window_s

    def in_flight(self) -> list[Ticket]:
        return [t for t in self.tickets if t.era == self.era and not t.settled]

    def live_probe(self, now_s: float) -> Ticket | None:
        live = [t for t in self.in_flight() if t.lease_end_s is not None and now_s < t.lease_end_s]
        assert len(live) <= 1
        return live[0] if live else None

    def let_time_pass(self, now_s: float) -> None:
        for ticket in self.in_flight():
            if ticket.lease_end_s is not None and ticket.lease_end_s <= now_s:
                self._open(ticket.lease_end_s, failed_rounds=self.failed_rounds + 1)

    def interval_s(self) -> float:
        return min(self.settings.open_base_s * 2.0**self.failed_rounds, self.settings.open_max_s)

    def lease_s(self) -> float:
        if self.settings.mode is Mode.OBSERVE:
            return self.settings.call_timeout_s
        return min(self.settings.call_timeout_s, self.interval_s())

    def retry_after_s(self, now_s: float) -> float:
        if self.state is State.OPEN:
            return max(0.0, self.open_until_s - now_s)
        probe = self.live_probe(now_s)
        return probe.lease_end_s - now_s if probe is not None and probe.lease_end_s is not None else 0.0

    def _open(self, at_s: float, *, failed_rounds: int) -> None:
        self.failed_rounds = failed_rounds
        self.open_until_s = at_s + self.jitter * self.interval_s()
        self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self.state = state
        self.era += 1
        self.probes_succeeded = 0
        self.evidence.clear()
