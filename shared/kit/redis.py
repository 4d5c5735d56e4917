"""The environment's one connection to Redis: every use has a bound, and every failure is one of two errors.

redis-py speaks to the server (`redis_link.py`, imported by the first `Redis` that is made: 60 modules and their import
time are for those alone who use a Redis). Commands of one `ask` travel together. A reply that did not come in time, or
that shows a server which cannot serve now, ends the connection: the next use resolves the address again.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from hashlib import sha1
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from shared.kit import telemetry
from shared.kit.breaker import BreakerSettings, CircuitBreaker
from shared.kit.circuit import CircuitOpen, Event, Outcome, Transition
from shared.kit.clock import FreezeSafeClock
from shared.kit.redis_settings import Command, RedisSettings, Word

if TYPE_CHECKING:
    from redis.credentials import CredentialProvider

    from shared.kit.redis_link import Link

type Measure = Callable[[str, float], None]

# Error replies of a server that cannot serve for now. Another node, or the same one later, can.
# redis.io/docs/latest/develop/reference/protocol-spec; READONLY comes from a primary that has become a replica.
UNAVAILABLE = frozenset({"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "NOREPLICAS"})


class Unreachable(Exception):
    """No usable answer within the bound; the server may still do what it was asked."""


class Refused(Exception):
    """Redis answered with an error; the message is its code, such as OOM or WRONGTYPE."""


class Script:
    """One Lua script, sent by its digest, and whole to a server that does not know it."""

    __slots__ = ("_digest", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], args: Sequence[Word], *, whole: bool = False) -> Command:
        return ("EVAL" if whole else "EVALSHA", self._text if whole else self._digest, len(keys), *keys, *args)


class Redis:
    """Sends commands that may safely be repeated; one exchange at a time, in the order of asking.

    `credentials` replaces user and password of the URL, for instance with tokens of IAM. Raises BadRedisUrl. Nothing is
    opened before the first command, but the TLS context is made: it takes longer than connecting may.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        credentials: "CredentialProvider | None" = None,
        clock: Callable[[], float] | None = None,
        measure: Measure = telemetry.measure,
    ) -> None:
        from shared.kit.redis_link import link_to

        self.settings = settings
        self._clock = clock or FreezeSafeClock()
        self._measure = measure
        self._link: Link = link_to(settings, credentials)
        self._turn = asyncio.Lock()
        self._used_s = -math.inf
        self._total_s = settings.connect_timeout_s + settings.timeout_s
        self.breaker = CircuitBreaker(
            "redis",
            BreakerSettings(slow_s=self._total_s, call_timeout_s=self._total_s, calls_min=3, open_max_s=10.0),
            clock=self._clock,
            rng=SystemRandom().random,
            on_event=self._circuit_event,
        )

    async def ask(self, *commands: Command, remaining_s: float) -> list[Any]:
        """One reply for each command. Raises Unreachable, and Refused if one of the replies is an error."""
        return self._checked(await self._exchange(commands, remaining_s))

    async def run(self, script: Script, *calls: tuple[Sequence[str], Sequence[Word]], remaining_s: float) -> list[Any]:
        """The script, once for each (keys, arguments), in one round trip. Raises as `ask` does."""
        replies = await self._exchange([script.call(*call) for call in calls], remaining_s)
        if any(isinstance(reply, Exception) and code_of(reply) == "NOSCRIPT" for reply in replies):
            # None of the others has run either, or running it again changes nothing: scripts here are idempotent.
            replies = await self._exchange([script.call(*call, whole=True) for call in calls], remaining_s)
        return self._checked(replies)

    async def delete_matching(self, pattern: str) -> int:
        """Deletes the keys that match a glob pattern, on every node, and returns their number. Takes as long as it takes.

        Raises Unreachable.
        """
        async with self._turn:
            try:
                return await self._link.delete_matching(pattern)
            except Exception as error:
                await self._link.drop()
                raise Unreachable("not all keys were deleted") from error

    async def aclose(self) -> None:
        await self._link.drop()

    def _checked(self, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if isinstance(reply, Exception):
                code = code_of(reply)
                if code == "MOVED":  # a cluster, spoken to as a single server: a setting is wrong
                    telemetry.logger.error(telemetry.REDIS_IS_A_CLUSTER)
                raise Refused(code)
        return replies

    async def _exchange(self, commands: Sequence[Command], remaining_s: float) -> list[Any]:
        packed = self._link.pack(commands)  # a word of a wrong type is the caller's mistake and raises here
        try:
            permit = self.breaker.acquire()
        except CircuitOpen as error:
            raise Unreachable("the circuit is open") from error
        outcome = Outcome.ABANDONED  # stands for cancellation and for a caller that has no time left
        begun_s = time.perf_counter()
        try:
            if remaining_s <= 0:
                raise Unreachable("no time left")
            replies = await self._attempts(packed, remaining_s)
            outcome = Outcome.SUCCESS
            return replies
        except Unreachable:
            raise
        except Exception as error:  # whatever it is, it is not worth a request
            hurried = isinstance(error, TimeoutError) and remaining_s < self.settings.timeout_s
            outcome = Outcome.ABANDONED if hurried else Outcome.FAILURE
            telemetry.logger.warning(telemetry.REDIS_LOST, error_type=type(error).__name__)
            raise Unreachable("no answer") from error
        finally:
            permit.settle(outcome)
            telemetry.spend("redis", begun_s, failed=outcome is Outcome.FAILURE)

    async def _attempts(self, packed: Any, remaining_s: float) -> list[Any]:
        """Repeats once on a new connection unless time ran out: everything that is sent here may be repeated."""
        ends_s = time.monotonic() + min(remaining_s, self._total_s)
        if self._turn.locked():
            async with asyncio.timeout(ends_s - time.monotonic()):
                await self._turn.acquire()
        else:
            await self._turn.acquire()
        try:
            now_s = self._clock()
            if now_s - self._used_s >= self.settings.idle_max_s:
                await self._link.drop()
            self._used_s = now_s
            try:
                return await self._attempt(packed, ends_s)
            except TimeoutError:
                raise
            except Exception:  # a socket that died makes redis-py raise anything, TypeError included (redis-py#4287)
                return await self._attempt(packed, ends_s)
        finally:
            self._turn.release()

    async def _attempt(self, packed: Any, ends_s: float) -> list[Any]:
        """One exchange. Whatever goes wrong, no later exchange meets this connection or a reply that is still to come."""
        try:
            replies = await self._link.exchange(packed, ends_s)
            for reply in replies:
                if isinstance(reply, Exception) and code_of(reply) in UNAVAILABLE:
                    raise reply
            return replies
        except BaseException:
            await self._link.drop()
            raise

    def _circuit_event(self, event: Event) -> None:
        if isinstance(event, Transition):
            self._measure(telemetry.CIRCUIT_TRANSITIONS, 1)
            telemetry.logger.warning(
                telemetry.CIRCUIT_MOVED,
                circuit=event.name,
                from_state=event.from_state.value,
                to_state=event.to_state.value,
                reason=event.reason,
            )


def code_of(error: Exception) -> str:
    """The first word of Redis' message; the rest may quote what was sent. redis-py cuts it off errors that it knows."""
    return getattr(error, "status_code", None) or str(error).partition(" ")[0]
