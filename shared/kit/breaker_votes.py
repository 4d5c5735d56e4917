"""Environments vote OPEN in a Redis, so that a fleet learns of an outage together. Knows nothing of what is protected.

It can only add rejections, each bounded: the environment's own breaker is asked first and its no is final, and
whatever goes wrong here leaves that breaker alone in charge. One exchange (`breaker_votes.lua`) happens when this
breaker opened or closed, when it is about to probe, when a fleet's probe has ended, and at an admission if the last is
older than `poll_s`. Nothing runs in between: a frozen environment runs no timers.

    votes = VotingBreaker(breaker, RedisVoteStore(url, protects=None), environment_id=...)
    row = await votes.call(fetch, remaining_s=deadline.remaining_s(), failures=ConnectionError)
"""

import math
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

from shared.kit import guard
from shared.kit.breaker import BreakerSettings, CircuitBreaker, CircuitOpen, Mode, Outcome, Permit, State

if TYPE_CHECKING:
    from shared.kit.redis import Redis

QUORUM = 3
TIMER_LATE_S = 0.002  # an event loop's timers fire up to 1 ms late, and dropping the connection takes its time
SMALL_FLEET = 5  # below it, three environments that agree may be more than there are
CLOSED, REJECT, LEASED = 0, 1, 2  # verdicts of the script


def quorum_for(reserved_concurrency: int | None) -> int:
    """None: not reserved, the fleet may grow."""
    return QUORUM if reserved_concurrency is None or reserved_concurrency >= SMALL_FLEET else 1


class VoteSettings(NamedTuple):
    """Checked by the breaker that takes them."""

    quorum: int = QUORUM
    poll_s: float = 1.0  # how old the fleet's verdict may be
    vote_s: float = 30.0  # how long a vote counts, and how long an idle fleet remembers
    budget_s: float = 0.010  # that one exchange may take of a request


class Exchange(NamedTuple):
    """What the script is told. `vote`: 1 opened, -1 closed, 0 no news."""

    environment_id: str
    vote: int
    action: str  # "look", "admit", and of a leased call: "good", "bad", "void"
    token: int
    lease_ms: int
    quorum: int
    vote_ms: int
    base_ms: int
    max_ms: int
    probes: int


class Reply(NamedTuple):
    verdict: int
    wait_ms: int
    token: int


class VoteStore(Protocol):
    async def exchange(self, name: str, exchange: Exchange) -> Reply: ...


class Held(NamedTuple):
    """A permit, and with it the fleet's lease if the call is the fleet's probe."""

    permit: Permit
    token: int  # 0: no lease


class FleetRejected(NamedTuple):
    name: str
    at_s: float
    retry_after_s: float


class FleetChanged(NamedTuple):
    """As seen from this environment."""

    name: str
    at_s: float
    is_open: bool


class Degraded(NamedTuple):
    """No exchange: for now this environment decides alone."""

    name: str
    at_s: float
    error: str


type VoteEvent = FleetRejected | FleetChanged | Degraded


class VotingBreaker:
    """A circuit breaker that also asks its fleet. Only one that enforces takes part; in other modes it is alone."""

    def __init__(
        self,
        breaker: CircuitBreaker,
        store: VoteStore,
        *,
        environment_id: str,
        settings: VoteSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        on_event: Callable[[VoteEvent], None] | None = None,
    ) -> None:
        self.breaker = breaker
        self.settings = settings = settings or VoteSettings()
        if min(settings.quorum, settings.poll_s, settings.vote_s, settings.budget_s) <= 0:
            raise ValueError(f"circuit {breaker.name!r}: {settings}: every setting must be above 0")
        self.on_event_errors = 0
        self._store = store
        self._environment_id = environment_id
        self._clock = clock
        self._on_event = on_event
        self._enforces = breaker.settings.mode is Mode.ENFORCE
        self._timeout_s = max(settings.budget_s - TIMER_LATE_S, settings.budget_s / 2)
        own = BreakerSettings(slow_s=self._timeout_s, call_timeout_s=self._timeout_s, calls_min=3)
        self._own = CircuitBreaker(f"{breaker.name}-votes", own, clock=clock, rng=rng)
        self._fresh_until_s = -math.inf  # until then the last verdict stands
        self._reject_until_s = -math.inf  # the last verdict: in the past, it was closed
        self._fleet_open = False
        self._told_era = breaker.era
        self._voted = False

    async def call[T](self, fn: Callable[[], Awaitable[T]], *, remaining_s: float, failures: guard.ExceptionTypes) -> T:
        """As `guard.call`, with the fleet's consent."""
        ends_s = self._clock() + remaining_s
        held = await self.acquire(remaining_s=remaining_s)
        try:
            left_s = ends_s - self._clock()
            return await guard.call_with(held.permit, fn, remaining_s=left_s, failures=failures)
        finally:
            await self._tell(held, ends_s - self._clock())

    async def acquire(self, *, remaining_s: float) -> Held:
        """Raises CircuitOpen, of this environment's circuit or of the fleet's. What it returns goes to `settle`."""
        permit = self.breaker.acquire()
        if not self._enforces:
            return Held(permit, 0)
        try:
            return Held(permit, await self._ask(permit, remaining_s))
        except BaseException:
            permit.settle(Outcome.ABANDONED)
            raise

    async def settle(self, held: Held, outcome: Outcome, *, remaining_s: float) -> None:
        held.permit.settle(outcome)
        await self._tell(held, remaining_s)

    async def _ask(self, permit: Permit, remaining_s: float) -> int:
        """The token of the fleet's lease, or 0 where none is needed."""
        now_s = self._clock()
        rejecting = now_s < self._reject_until_s
        if now_s < self._fresh_until_s and (rejecting or not permit.is_probe):
            if rejecting:
                raise self._rejection(now_s)
            return 0
        # One call asks, the others of this environment go by the last verdict: out if it was closed, else wait.
        if self._fleet_open:
            self._fresh_until_s = self._reject_until_s = now_s + self.settings.budget_s
        else:
            self._fresh_until_s = now_s + self.settings.poll_s
        lease_s = permit.limit_s + 2 * self.settings.budget_s  # the probe's news need their time as well
        reply = await self._exchange("admit", 0, math.ceil(lease_s * 1000), remaining_s)
        if reply is None or reply.verdict == CLOSED:
            return 0
        if reply.verdict == LEASED:
            return reply.token
        raise self._rejection(self._clock())

    async def _tell(self, held: Held, remaining_s: float) -> None:
        if not self._enforces or (not held.token and self.breaker.era == self._told_era):
            return
        action = "look"
        if held.token:
            action = {Outcome.SUCCESS: "good", Outcome.FAILURE: "bad", Outcome.SLOW: "bad"}.get(
                held.permit.outcome or Outcome.ABANDONED, "void"
            )
        await self._exchange(action, held.token, 0, remaining_s)

    async def _exchange(self, action: str, token: int, lease_ms: int, remaining_s: float) -> Reply | None:
        """None: no answer within the budget, for whatever reason, and none will be waited for."""
        if remaining_s <= 0:
            return None
        own = self.breaker.snapshot()
        vote = 0
        if own.era != self._told_era:
            vote = 1 if own.state is State.OPEN else -1 if own.state is State.CLOSED and self._voted else 0
        exchange = self._composed(vote, action, token, lease_ms)
        try:
            reply = await guard.call(
                self._own,
                lambda: self._store.exchange(self.breaker.name, exchange),
                remaining_s=min(self._timeout_s, remaining_s),
                failures=Exception,
            )
        except Exception as error:  # a broken client included: redis-py lets AttributeErrors out of a dead socket
            self._alone(error)
            return None
        self._told_era = own.era
        if vote:
            self._voted = vote > 0
        self._believe(reply)
        return reply

    def _composed(self, vote: int, action: str, token: int, lease_ms: int) -> Exchange:
        s = self.breaker.settings
        return Exchange(
            environment_id=self._environment_id,
            vote=vote,
            action=action,
            token=token,
            lease_ms=lease_ms,
            quorum=self.settings.quorum,
            vote_ms=math.ceil(self.settings.vote_s * 1000),
            base_ms=math.ceil(s.open_base_s * 1000),
            max_ms=math.ceil(s.open_max_s * 1000),
            probes=s.probes_to_close,
        )

    def _believe(self, reply: Reply) -> None:
        now_s = self._clock()
        is_open = reply.verdict != CLOSED
        self._reject_until_s = now_s + reply.wait_ms / 1000 if is_open else -math.inf
        # Never for longer than poll_s: the fleet may close before the wait is over.
        self._fresh_until_s = now_s + self.settings.poll_s
        if is_open:
            self._fresh_until_s = min(self._fresh_until_s, self._reject_until_s)
        if is_open != self._fleet_open:
            self._fleet_open = is_open
            self._emit(FleetChanged(self.breaker.name, now_s, is_open))

    def _alone(self, error: Exception) -> None:
        now_s = self._clock()
        self._reject_until_s = -math.inf
        self._fresh_until_s = now_s + self.settings.poll_s
        self._fleet_open = False
        if not isinstance(error, CircuitOpen):
            self._emit(Degraded(self.breaker.name, now_s, f"{type(error).__name__}: {error}"))

    def _rejection(self, now_s: float) -> CircuitOpen:
        retry_after_s = max(0.0, self._reject_until_s - now_s)
        self._emit(FleetRejected(self.breaker.name, now_s, retry_after_s))
        return CircuitOpen(self.breaker.name, retry_after_s, State.OPEN)

    def _emit(self, event: VoteEvent) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            self.on_event_errors += 1


class KitVoteStore:
    """The script over the environment's own connection, which its cache uses as well. See RedisVoteStore for `protects`."""

    def __init__(self, redis: "Redis", *, protects: str | None) -> None:
        from shared.kit.redis import Script

        _refuse_to_share(redis.settings.url, protects)
        self._redis = redis
        self._script = Script(Path(__file__).with_suffix(".lua").read_text())

    async def exchange(self, name: str, exchange: Exchange) -> Reply:
        # Bounded by whoever asks; a reply that comes too late is read and thrown away, in its turn.
        ((verdict, wait_ms, token),) = await self._redis.run(
            self._script, (_keys(name), exchange), remaining_s=math.inf
        )
        return Reply(int(verdict), int(wait_ms), int(token))


class RedisVoteStore:
    """The script in a Redis. Made while the environment starts, since it imports the client; connects when first used.

    `protects` is the URL of the Redis that the breaker protects, None if that is no Redis: votes about a server's
    outage cannot be cast in that server.
    """

    def __init__(self, url: str, *, protects: str | None) -> None:
        _refuse_to_share(url, protects)
        from redis import asyncio as client
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        # No retries and no time-outs of its own: an exchange has one, and redis-py drops a connection cut short.
        self._client = client.Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_timeout=None, socket_connect_timeout=None, driver_info=None
        )
        self._script = self._client.register_script(Path(__file__).with_suffix(".lua").read_text())

    async def exchange(self, name: str, exchange: Exchange) -> Reply:
        verdict, wait_ms, token = await self._script(keys=_keys(name), args=list(exchange))
        return Reply(int(verdict), int(wait_ms), int(token))

    async def aclose(self) -> None:
        await self._client.aclose()


def _keys(name: str) -> list[str]:
    return [f"cb:{{{name}}}:v", f"cb:{{{name}}}:s"]  # the hash tag keeps both on one node of a cluster


def _refuse_to_share(url: str, protects: str | None) -> None:
    if protects is not None and _server(url) == _server(protects):
        host, port = _server(url)
        raise ValueError(f"votes about {host}:{port} cannot be kept in {host}:{port}; give them another Redis")


def _server(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    host = parts.hostname or parts.path
    return ("localhost" if host in ("127.0.0.1", "::1") else host, parts.port or 6379)
