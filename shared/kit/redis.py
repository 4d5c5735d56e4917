"""The environment's one connection to Redis, and the one way to use it. Knows no key.

Not redis-py: importing it costs a cold start 85 to 115 ms of CPU beside the 150 that the whole of `pooled` imports in,
one command costs it several times what this costs, and on a connection that died during a freeze it may raise
AttributeError (redis/redis-py#4287). hiredis packs and parses; what is left is to send in order and to give up in time.

Commands of one `ask` travel together, and whoever asks meanwhile goes right behind: a connection answers in order. A
reply that did not come in time ends the connection, so that no late reply can answer another question.
"""

import asyncio
import select
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import sha1
from random import SystemRandom
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

from shared.kit import telemetry
from shared.kit.breaker import BreakerSettings, CircuitBreaker, CircuitOpen, Event, FreezeSafeClock, Outcome, Transition
from shared.shop.settings import BadSetting, Settings

type Word = str | bytes | int | float | memoryview[int]
type Command = Sequence[Word]
type Measure = Callable[[str, float], None]

PORT = 6379
TICKS_MAX = 10


class Unreachable(Exception):
    """Redis did not do it, for whatever reason; it may still do it. Always bounded in time."""


class Refused(Exception):
    """Redis answered, and the answer was an error."""


class Script:
    """One Lua script; sent by its digest, and whole to a server that does not know it (yet, or any more)."""

    __slots__ = ("_digest", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], args: Sequence[Word], *, whole: bool = False) -> Command:
        return ("EVAL" if whole else "EVALSHA", self._text if whole else self._digest, len(keys), *keys, *args)


class Redis:
    """A Redis that may fail: every use has a bound, and every way to fail is Unreachable or Refused."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] | None = None,
        measure: Measure = telemetry.measure,
    ) -> None:
        if settings.redis_url is None:
            raise BadSetting("REDIS_URL is not set; it must be redis://USER:PASSWORD@HOST:PORT/NUMBER.")
        self.url = settings.redis_url  # has the password in it
        self._timeout_s = settings.redis_timeout_ms / 1000
        self._connect_s = settings.redis_connect_timeout_ms / 1000
        self._idle_max_s = settings.connection_idle_max_s
        self._clock = clock or FreezeSafeClock()
        self._measure = measure
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self.breaker = CircuitBreaker(
            "redis",
            BreakerSettings(
                slow_s=self._timeout_s + self._connect_s,
                call_timeout_s=self._timeout_s + self._connect_s,
                calls_min=3,
                open_max_s=10.0,
            ),
            clock=self._clock,
            rng=SystemRandom().random,
            on_event=self._circuit_event,
        )

    async def ask(self, *commands: Command, remaining_s: float) -> list[Any]:
        """One reply each; one of them an error is Refused."""
        for reply in (replies := await self._exchange(commands, remaining_s)):
            if isinstance(reply, hiredis.ReplyError):
                raise Refused(_code(reply))
        return replies

    async def run(self, script: Script, *calls: tuple[Sequence[str], Sequence[Word]], remaining_s: float) -> list[Any]:
        """The script, once for each (keys, arguments), in one round trip."""
        replies = await self._exchange([script.call(*call) for call in calls], remaining_s)
        if any(isinstance(reply, hiredis.ReplyError) and _code(reply) == "NOSCRIPT" for reply in replies):
            # None of the others has run either, or running it again changes nothing: scripts here are idempotent.
            replies = await self._exchange([script.call(*call, whole=True) for call in calls], remaining_s)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise Refused(_code(reply))
        return replies

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.fail(ConnectionError("closed here"))

    async def _exchange(self, commands: Sequence[Command], remaining_s: float) -> list[Any]:
        try:
            permit = self.breaker.acquire()
        except CircuitOpen as error:
            raise Unreachable("left alone for now") from error
        outcome = Outcome.ABANDONED  # stands for cancellation and for a caller that has no time left
        begun_s = time.perf_counter()
        try:
            if remaining_s <= 0:
                raise Unreachable("no time left")
            replies = await self._attempts(commands, remaining_s)
            outcome = Outcome.SUCCESS
            return replies
        except Unreachable:
            raise
        except Exception as error:  # whatever it is, it is not worth a request
            hasty = isinstance(error, TimeoutError) and remaining_s < self._timeout_s
            outcome = Outcome.ABANDONED if hasty else Outcome.FAILURE
            telemetry.logger.warning(telemetry.REDIS_LOST, error_type=type(error).__name__)
            raise Unreachable("no answer") from error
        finally:
            permit.settle(outcome)
            telemetry.spend("redis", begun_s)

    async def _attempts(self, commands: Sequence[Command], remaining_s: float) -> list[Any]:
        """Once more on a fresh connection if the first turns out to be lost: all that is asked here may be repeated."""
        packed = _packed(commands)
        ends_s = time.monotonic() + min(remaining_s, self._connect_s + self._timeout_s)
        for last in (False, True):
            try:
                connection = await self._connected(ends_s - time.monotonic())
                wait_s = min(self._timeout_s, ends_s - time.monotonic())
                return await connection.ask(packed, len(commands), wait_s)
            except TimeoutError:
                raise
            except ConnectionError:
                if last:
                    raise
        raise AssertionError("unreachable")

    async def _connected(self, remaining_s: float) -> "_Connection":
        known = self._connection
        if known is not None:
            now_s = self._clock()
            if now_s - known.used_s < self._idle_max_s and await known.alive():
                known.used_s = now_s
                return known
            known.fail(ConnectionError("lost while it lay idle"))
        async with asyncio.timeout(min(self._connect_s, remaining_s)), self._connecting:
            if self._connection is known or self._connection is None:
                self._connection = await _open(self.url)
                self._connection.used_s = self._clock()
            return self._connection

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


class _Connection(asyncio.Protocol):
    """Bytes out, replies in, in order. Whatever goes wrong goes wrong for everybody who waits here."""

    def __init__(self, greeting: Sequence[Command]) -> None:
        self.used_s = 0.0
        self._greeting = len(greeting)  # replies that nobody waits for, and that must not be errors
        self._hello = _packed(greeting)
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[asyncio.Future[list[Any]], int]] = deque()
        self._replies: list[Any] = []
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)

    async def alive(self) -> bool:
        """Asks the socket, because nobody has read it while the environment was frozen. See postgres.Member.alive."""
        for _ in range(TICKS_MAX):
            if self._transport is None or self._waiting or not self._poll.poll(0):
                break
            await asyncio.sleep(0)
        return self._transport is not None

    async def ask(self, packed: bytes, replies: int, timeout_s: float) -> list[Any]:
        if self._transport is None:
            raise ConnectionError("lost before it was used")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()
        self._waiting.append((answer, replies))
        try:
            # Credentials and database go out with the first question instead of costing a round trip of their own.
            self._transport.write(self._hello + packed)
        except Exception as error:
            self.fail(error)  # what was sent of it is unknown, so the next reply could be anybody's
        self._hello = b""
        # A plain timer: when this process was kept waiting itself, a reply that has arrived is read before it fires.
        bound = loop.call_later(timeout_s, self.fail, TimeoutError("no reply in time"))
        try:
            return await answer
        finally:
            bound.cancel()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except hiredis.ProtocolError as error:
            self.fail(ConnectionError(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(exc or ConnectionError("closed by the server"))

    def fail(self, error: Exception) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        while self._waiting:
            answer, _ = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(error)

    def _take(self, reply: Any) -> None:
        if self._greeting:
            self._greeting -= 1
            if isinstance(reply, hiredis.ReplyError):
                self.fail(PermissionError(_code(reply)))
        elif not self._waiting:
            self.fail(ConnectionError("a reply that nobody asked for"))
        else:
            self._replies.append(reply)
            answer, wanted = self._waiting[0]
            if len(self._replies) == wanted:
                self._waiting.popleft()
                replies, self._replies = self._replies, []
                if not answer.done():
                    answer.set_result(replies)


async def _open(url: str) -> _Connection:
    parts = urlsplit(url)
    greeting: list[Command] = []
    if parts.password:
        greeting.append(("AUTH", *([unquote(parts.username)] if parts.username else []), unquote(parts.password)))
    if (number := parts.path.strip("/")) not in ("", "0"):
        greeting.append(("SELECT", number))
    encrypted = ssl.create_default_context() if parts.scheme == "rediss" else None
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: _Connection(greeting), parts.hostname or "localhost", parts.port or PORT, ssl=encrypted
    )
    return connection


def _packed(commands: Sequence[Command]) -> bytes:
    # hiredis' own annotation knows tuples of one word only.
    return b"".join(hiredis.pack_command(tuple(command)) for command in commands)  # type: ignore[arg-type]


def _code(error: Exception) -> str:
    """The first word of Redis' message; the rest may quote what was sent."""
    return str(error).partition(" ")[0]
