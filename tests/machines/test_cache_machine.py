"""Readers, writers, a database and a cache in any order of steps: whoever reads after a write was told reads it.

The store is the model; the last test holds the Lua script in a real Redis to it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from warmfront.backing.redis import Redis as Server

from shared.kit.cache import FORMAT, Cache, Found, Outcome, RedisStore
from shared.kit.deadline import Deadline
from shared.kit.problems import NotFound, Unavailable
from shared.kit.redis import Redis
from shared.kit.redis_settings import RedisSettings
from shared.kit.settings import CacheSettings
from tests.machines.model_cache import ModelStore, Pause, no_pause, version_of

TTL_S, STALE_S, NEGATIVE_S = 100, 400, 5
STEPS_MAX = 50
INVOCATION_S = 30  # Lambda ends one that takes longer, so a reader never stores what it read before that
KEY = "k"  # keys have nothing to do with each other


@dataclass(eq=False)
class Reader:
    started_s: float
    promised: int  # the version that had been told when it started
    steps: Coroutine[Any, None, Found] = field(init=False)
    captured: int | None = None
    done: bool = False
    database_failed: bool = False


class CacheMachine(RuleBasedStateMachine):
    news: Bundle[int] = Bundle("news")

    checks_versions = True

    @initialize(luck=st.sampled_from([0.0, 0.5, 0.999]))
    def build(self, luck: float) -> None:
        self.now_s = 1_000_000.0
        self.store = ModelStore(lambda: self.now_s * 1000, Pause, self.checks_versions)
        settings = CacheSettings(ttl_s=TTL_S, stale_s=STALE_S, negative_ttl_s=NEGATIVE_S)
        self.cache = Cache(
            settings,
            self.store,
            wall=lambda: self.now_s,
            monotonic=lambda: self.now_s,
            sleep=lambda _: Pause("wait"),
            rng=lambda: luck,
            measure=lambda *_: None,
        )
        self.committed_s = [0.0]  # of version 0 (there is none), 1, ...
        self.promised = 0
        self.database_down = False
        self.in_flight: list[Reader] = []

    @property
    def version(self) -> int:
        return len(self.committed_s) - 1

    @rule(steps=st.integers(0, 5))
    def start(self, steps: int) -> None:
        reader = Reader(self.now_s, self.promised)

        async def load() -> tuple[int, str]:
            await Pause("database")
            if self.database_down:
                reader.database_failed = True
                raise Unavailable("down")
            version = reader.captured = self.version
            await Pause("answer")
            if version == 0:
                raise NotFound("none")
            return version, f"row {version}"

        deadline = Deadline(INVOCATION_S, clock=lambda: self.now_s)
        reader.steps = self.cache.read(deadline, KEY, load)
        self.in_flight.append(reader)
        self._go_on(reader, steps)

    @precondition(lambda self: self.in_flight)
    @rule(number=st.integers(0, 3), steps=st.sampled_from([1, 2, 3, STEPS_MAX]))
    def go_on(self, number: int, steps: int) -> None:
        self._go_on(self.in_flight[number % len(self.in_flight)], steps)

    @rule()
    def read(self) -> None:
        self.start(STEPS_MAX)

    def _go_on(self, reader: Reader, steps: int) -> None:
        for _ in range(steps):
            if reader.done:
                return
            try:
                reader.steps.send(None)
            except StopIteration as stop:
                found: Found = stop.value
                assert found.text == f"row {found.version}"
                self.end(reader, found.version, found.outcome)
            except NotFound:
                self.end(reader, 0, None)
            except Unavailable:
                assert reader.database_failed
                self.end(reader, None, None)

    @rule(told=st.booleans())
    def write(self, told: bool) -> None:
        """Not told: whoever wrote was killed after the commit."""
        self.committed_s.append(self.now_s)
        if told:
            self.tell(self.version)

    @rule(target=news)
    def write_and_tell_later(self) -> int:
        self.committed_s.append(self.now_s)
        return self.version

    @rule(version=consumes(news))
    def tell(self, version: int) -> None:
        pause, self.store.pause = self.store.pause, no_pause
        told = complete(self.cache.invalidate({KEY: version}))
        self.store.pause = pause
        assert told is not self.store.down
        if told:
            self.promised = max(self.promised, version)

    @rule(seconds=st.sampled_from([0.01, 0.5, 4.0, 20.0, 110.0]))
    def tick(self, seconds: float) -> None:
        self.now_s += seconds
        for reader in [r for r in self.in_flight if self.now_s - r.started_s > INVOCATION_S]:
            reader.steps.close()
            reader.done = True
            self.in_flight.remove(reader)

    @rule()
    def evict(self) -> None:
        """With it goes what it knew: what older readers are still carrying may be stored."""
        self.store.entries.clear()
        self.promised = min([self.promised, *(r.captured for r in self.in_flight if r.captured is not None)])

    @rule(up=st.sampled_from([False, True, True]))
    def redis(self, up: bool) -> None:
        self.store.down = not up

    @rule(up=st.sampled_from([False, True, True]))
    def database(self, up: bool) -> None:
        self.database_down = not up

    def end(self, reader: Reader, version: int | None, outcome: Outcome | None) -> None:
        reader.done = True
        self.in_flight.remove(reader)
        if version is None:
            return
        assert version >= min(reader.promised, self.promised), f"row {version}, and {reader.promised} was told"
        if version < self.version:
            good_s = NEGATIVE_S if version == 0 else TTL_S
            if outcome is Outcome.STALE:
                good_s = TTL_S + (STALE_S if reader.database_failed else TTL_S)
            # Both whoever stored it and whoever reads it may have been under way for an invocation's time.
            outdated_s = self.now_s - self.committed_s[version + 1]
            assert outdated_s <= good_s + 2 * INVOCATION_S, f"row {version}, {outdated_s} s too late"

    def teardown(self) -> None:
        for reader in getattr(self, "in_flight", []):
            reader.steps.close()


def complete[T](coroutine: Coroutine[Any, None, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("it paused")


RUN = hypothesis_settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_nobody_reads_older_than_what_was_told_nor_longer_than_the_bound() -> None:
    run_state_machine_as_test(CacheMachine, settings=RUN)


def test_without_the_check_of_versions_a_slow_reader_puts_back_an_old_row() -> None:
    class Unchecked(CacheMachine):
        checks_versions = False

    search = hypothesis_settings(RUN, max_examples=2_000, phases=[Phase.generate], derandomize=True, database=None)
    with pytest.raises(AssertionError, match=r"and \d+ was told"):
        run_state_machine_as_test(Unchecked, settings=search)


STEP = st.one_of(
    st.tuples(st.just("look"), st.sampled_from("xy")),
    st.tuples(st.just("lease"), st.sampled_from("xy")),
    st.tuples(st.just("fill"), st.integers(0, 4), st.sampled_from(["x", "y", ""])),
    st.tuples(st.just("invalidate"), st.integers(0, 4)),
    st.tuples(st.just("release"), st.sampled_from("xy")),
)


@pytest.fixture(scope="module")
def redis() -> Any:
    with Server.start({}, origin="wheel") as server:
        yield server


def test_the_script_in_redis_does_what_the_model_does(redis: Server) -> None:
    numbers = iter(range(10**6))

    @hypothesis_settings(max_examples=60, deadline=None)
    @given(st.lists(STEP, max_size=12))
    def conforms(steps: list[tuple[Any, ...]]) -> None:
        asyncio.run(compare(redis, f"k{next(numbers)}", steps))

    conforms()


async def compare(redis: Server, key: str, steps: list[tuple[Any, ...]]) -> None:
    # A machine that is busy with other tests is no finding here.
    client = Redis(RedisSettings(url=redis.url(), timeout_s=5.0, connect_timeout_s=5.0))
    real, model = RedisStore(client, "model"), ModelStore(lambda: 0.0)
    does: dict[str, Callable[..., Any]] = {
        "look": lambda store, token: store.look(key, token, 60_000, 5.0),
        "lease": lambda store, token: store.lease(key, token, 60_000, 5.0),
        "fill": lambda store, version, token: store.fill(key, version, b"V%d 0 0\nx" % version, 60_000, token, 5.0),
        "invalidate": lambda store, version: store.invalidate({key: version}, 60_000),
        "release": lambda store, token: store.release(key, token, 5.0),
    }
    try:
        for name, *args in steps:
            assert await does[name](real, *args) == await does[name](model, *args), (name, args)
            (stored,) = await client.ask(("GET", f"model:{FORMAT}:{key}"), remaining_s=5.0)
            assert stored == model.stored(key)
            assert version_of(stored) <= 4
    finally:
        await client.aclose()
