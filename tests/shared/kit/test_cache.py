"""The cache's decisions, and what its readers get in each case, with a store, a clock and a chance of the test's own."""

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from shared.kit import telemetry
from shared.kit.cache import BYPASSED, MISSED, Cache, Entry, Found, Load, Outcome, State, decode, state_of, tombstone
from shared.kit.deadline import Deadline
from shared.kit.problems import Invalid, NotFound, Unavailable
from shared.kit.settings import CacheSettings
from tests.machines.model_cache import ModelStore
from tests.shared.conftest import Measured, soon

TTL_S, STALE_S, NEGATIVE_S = 100, 400, 5


def entry(ends_ms: int = 0, *, absent: bool = False, load_ms: int = 10) -> Entry:
    return Entry(3, absent, ends_ms, load_ms, "text")


@pytest.mark.parametrize("one", [entry(5), entry(7, absent=True), Entry(1, False, 2, 3, "größer\nals 1 Zeile")])
def test_an_entry_is_read_as_it_was_written(one: Entry) -> None:
    assert decode(one.encode()) == one


@pytest.mark.parametrize(
    "stored", [None, b"", tombstone(4), b"V1 2\ntext", b"V1 2 x\ntext", b"X1 2 3\ntext", b"V1 2 3\n\xff"]
)
def test_what_is_no_entry_is_as_good_as_nothing(stored: bytes | None) -> None:
    assert decode(stored) is None


@pytest.mark.parametrize(
    ("age_ms", "state"), [(-1, State.FRESH), (0, State.STALE), (99, State.STALE), (100, State.OLD)]
)
def test_an_entry_is_fresh_then_stale_then_old(age_ms: int, state: State) -> None:
    assert state_of(entry(1_000), 1_000 + age_ms, 100, 0.0) is state
    assert state_of(None, 0, 100, 0.0) is State.NONE


def test_what_there_is_not_is_forgotten_when_its_time_is_over() -> None:
    assert state_of(entry(1_000, absent=True), 999, 100, 0.999) is State.FRESH
    assert state_of(entry(1_000, absent=True), 1_000, 100, 0.0) is State.NONE


def test_a_reader_refreshes_early_the_likelier_the_dearer_the_load_and_the_nearer_the_end() -> None:
    def chance(left_ms: float, load_ms: int) -> float:
        draws = [number / 1_000 for number in range(1_000)]
        early = [state_of(entry(1_000, load_ms=load_ms), 1_000 - left_ms, 100, draw) is State.EARLY for draw in draws]
        return sum(early) / len(draws)

    # An exponential's tail: P = exp(-left / load).
    for left_ms, load_ms in ((1, 10), (10, 10), (30, 10), (30, 100)):
        assert chance(left_ms, load_ms) == pytest.approx(math.exp(-left_ms / load_ms), abs=0.002)


class Scene:
    """One cache over the model store; `row` is the database."""

    def __init__(self, measured: Measured) -> None:
        self.now_s = 1_000_000.0
        self.draw = 0.0
        self.store = ModelStore(lambda: self.now_s * 1000)
        self.row: int | None = 1
        self.failure: Exception | None = None
        self.loads = 0
        self.measured = measured
        self.cache = self.environment()

    def environment(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> Cache:
        return Cache(
            CacheSettings(ttl_s=TTL_S, stale_s=STALE_S, negative_ttl_s=NEGATIVE_S),
            self.store,
            wall=lambda: self.now_s,
            monotonic=lambda: self.now_s,
            sleep=sleep,
            rng=lambda: self.draw,
            measure=self.measured,
        )

    async def load(self) -> tuple[int, str]:
        self.loads += 1
        if self.failure is not None:
            raise self.failure
        if self.row is None:
            raise NotFound("There is none.")
        return self.row, f"row {self.row}"

    def read(self, deadline: Deadline | None = None, load: Load | None = None) -> Found:
        return asyncio.run(self.cache.read(deadline or soon(), "key", load or self.load))

    def invalidate(self, version: int) -> bool:
        return asyncio.run(self.cache.invalidate({"key": version}))


@pytest.fixture
def scene(measured: Measured) -> Scene:
    return Scene(measured)


def test_the_first_reader_loads_and_the_next_one_is_served(scene: Scene) -> None:
    assert scene.read() == (1, "row 1", Outcome.MISS, "Warmfront; fwd=miss; stored")
    assert scene.read() == (1, "row 1", Outcome.HIT, f"Warmfront; hit; ttl={TTL_S}")
    assert scene.loads == 1
    assert scene.measured.values == {telemetry.CACHE_MISS: [1], telemetry.CACHE_HIT: [1]}


def test_times_to_live_differ_so_that_what_was_stored_together_does_not_end_together(scene: Scene) -> None:
    scene.draw = 0.999
    scene.read()
    scene.draw = 0.0
    scene.now_s += TTL_S * 0.9 + 0.2
    assert scene.read().outcome is Outcome.MISS


def test_what_there_is_not_is_remembered_for_a_moment(scene: Scene) -> None:
    scene.row = None
    for status in ("Warmfront; fwd=miss; stored", f"Warmfront; hit; ttl={NEGATIVE_S}"):
        with pytest.raises(NotFound, match="There is none") as refused:
            scene.read()
        assert refused.value.headers["cache-status"] == status
    assert scene.loads == 1
    scene.row = 1
    scene.now_s += NEGATIVE_S
    assert scene.read().version == 1


def test_what_is_there_by_now_is_found_at_once_if_its_writer_says_so(scene: Scene) -> None:
    scene.row = None
    with pytest.raises(NotFound):
        scene.read()
    scene.row = 1
    assert scene.invalidate(1)
    assert scene.read().version == 1


def test_after_an_invalidation_the_old_row_is_neither_served_nor_stored(scene: Scene) -> None:
    scene.read()
    assert scene.invalidate(2)
    late = scene.read()  # from a snapshot of before the commit
    assert (late.version, late.status) == (1, MISSED)
    scene.row = 2
    assert scene.read() == (2, "row 2", Outcome.MISS, "Warmfront; fwd=miss; stored")
    assert scene.read().outcome is Outcome.HIT


def test_news_of_a_version_that_is_stored_already_change_nothing(scene: Scene) -> None:
    scene.row = 2
    scene.read()
    scene.invalidate(2)
    assert scene.read().outcome is Outcome.HIT


def test_past_its_time_a_value_is_loaded_again_and_stands_in_if_the_database_fails(scene: Scene) -> None:
    scene.read()
    scene.now_s += TTL_S + 300
    scene.failure = Unavailable("down")
    found = scene.read()
    assert (found.version, found.outcome, found.status) == (1, Outcome.STALE, "Warmfront; hit; ttl=-300")
    scene.failure, scene.row = None, 2
    assert scene.read().version == 2
    scene.now_s += TTL_S + STALE_S
    scene.failure = Unavailable("down")
    with pytest.raises(Unavailable) as refused:
        scene.read()
    assert refused.value.headers["cache-status"] == MISSED
    assert refused.value.headers["retry-after"] == "1"


def test_a_value_stands_in_for_no_refusal_of_the_request_itself(scene: Scene) -> None:
    scene.read()
    scene.now_s += TTL_S
    scene.failure = Invalid({"pointer": "#/", "detail": "No."})
    with pytest.raises(Invalid):
        scene.read()


def test_an_early_refresh_that_fails_is_a_hit(scene: Scene) -> None:
    scene.read()
    scene.now_s += TTL_S - 0.001
    scene.draw = 0.999
    scene.failure = Unavailable("down")
    assert scene.read().outcome is Outcome.HIT
    assert scene.loads == 2
    scene.failure, scene.row = None, 2
    assert scene.read().version == 2


def test_while_one_refreshes_the_others_are_served_what_is_stale(scene: Scene) -> None:
    scene.read()
    scene.now_s += TTL_S

    async def during_load() -> tuple[int, str]:
        return (await scene.cache.read(soon(), "key", scene.load)).version + 1, "row 2"

    assert scene.read(load=during_load).version == 2
    assert scene.measured.values[telemetry.CACHE_STALE] == [1]


def test_what_is_older_than_twice_its_time_is_waited_for_instead(scene: Scene) -> None:
    scene.read()
    scene.now_s += 2 * TTL_S
    slept: list[float] = []

    async def sleep(pause_s: float) -> None:
        slept.append(pause_s)
        scene.now_s += pause_s

    other = scene.environment(sleep)

    async def during_load() -> tuple[int, str]:
        scene.row = 2
        found = await other.read(soon(), "key", scene.load)
        assert (found.version, found.outcome) == (2, Outcome.MISS)  # it has waited for long enough
        return 2, "row 2"

    assert scene.read(load=during_load).version == 2
    assert sum(slept) == pytest.approx(0.25)
    assert slept[1] == pytest.approx(2 * slept[0])


def test_who_waits_takes_over_where_the_loader_has_given_up(scene: Scene) -> None:
    async def test() -> None:
        gone_on = asyncio.Event()

        async def sleep(pause_s: float) -> None:
            del pause_s
            gone_on.set()
            await asyncio.sleep(0)

        async def failing() -> tuple[int, str]:
            await gone_on.wait()
            raise Unavailable("down")

        first = asyncio.create_task(scene.cache.read(soon(), "key", failing))
        await asyncio.sleep(0)
        found = await scene.environment(sleep).read(soon(), "key", scene.load)
        assert (found.outcome, found.status) == (Outcome.MISS, "Warmfront; fwd=miss; stored")
        with pytest.raises(Unavailable):
            await first

    asyncio.run(test())


def test_without_redis_every_reader_loads_and_says_so(scene: Scene) -> None:
    scene.store.down = True
    assert scene.read() == (1, "row 1", Outcome.BYPASS, BYPASSED)
    scene.failure = Unavailable("down")
    with pytest.raises(Unavailable) as refused:
        scene.read()
    assert refused.value.headers["cache-status"] == BYPASSED
    assert scene.measured.values[telemetry.CACHE_BYPASS] == [1, 1]


@pytest.mark.parametrize(("age_s", "outcome"), [(TTL_S - 0.001, Outcome.HIT), (TTL_S + 1, Outcome.STALE)])
def test_redis_lost_after_the_first_look_leaves_what_was_seen(scene: Scene, age_s: float, outcome: Outcome) -> None:
    scene.read()
    scene.now_s += age_s
    scene.draw = 0.999
    scene.failure = Unavailable("down")

    async def pause(before: str) -> None:
        scene.store.down = before == "lease"

    scene.store.pause = pause
    assert scene.read().outcome is outcome
    assert scene.loads == (1 if outcome is Outcome.HIT else 2)


def test_a_reader_who_finds_it_refreshed_between_its_two_looks_gives_the_lease_back(scene: Scene) -> None:
    scene.read()
    scene.now_s += TTL_S

    async def pause(before: str) -> None:
        if before == "lease":
            scene.store.entries["key"] = (entry(int(scene.now_s * 1000) + 5_000).encode(), math.inf)

    scene.store.pause = pause
    assert scene.read().outcome is Outcome.HIT
    assert scene.loads == 1
    assert scene.store.leases == {}


def test_an_invalidation_that_did_not_arrive_is_counted(scene: Scene) -> None:
    scene.store.down = True
    assert not scene.invalidate(2)
    assert scene.measured.values == {telemetry.CACHE_NOT_INVALIDATED: [1]}


def test_with_no_time_left_redis_is_not_even_asked(scene: Scene) -> None:
    assert scene.read(Deadline(0.0)).outcome is Outcome.BYPASS
