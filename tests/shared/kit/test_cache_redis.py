"""The cache against a real Redis that is slow, dead, full, forgetful or not there: every answer comes, and soon."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from warmfront.backing.redis import Redis as Server

from shared.kit import telemetry
from shared.kit.cache import Cache, Outcome, RedisStore, forget
from shared.kit.circuit import State
from shared.kit.redis import Redis, Refused, Unreachable
from shared.kit.redis_link import Single
from shared.kit.settings import BadSetting, CacheSettings
from tests.shared.conftest import Measured, settings_with, soon

CALLERS = 50
# A machine that is busy with other tests is no finding; where time-outs are the subject, tests set their own.
PATIENT = {"REDIS_TIMEOUT_MS": 5_000, "REDIS_CONNECT_TIMEOUT_MS": 5_000}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start({}, origin="wheel") as server:
        yield server


@pytest.fixture(autouse=True)
def empty(server: Server) -> None:
    run(server, lambda redis: redis.ask(("FLUSHALL",), remaining_s=5.0))


def run[T](server: Server | str, test: Callable[[Redis], Coroutine[Any, Any, T]], **values: object) -> T:
    """`test` with a connection of its own."""

    async def whole() -> T:
        url = server if isinstance(server, str) else server.url()
        redis = Redis(settings_with(REDIS_URL=url, **(PATIENT | values)).required_redis(), measure=lambda *_: None)
        try:
            async with asyncio.timeout(20):
                return await test(redis)
        finally:
            await redis.aclose()

    return asyncio.run(whole())


def cache_on(redis: Redis, measured: Measured | None = None, **values: int) -> Cache:
    return Cache(CacheSettings(**values), RedisStore(redis, "test"), measure=measured or (lambda *_: None))


async def row() -> tuple[int, str]:
    return 1, "row 1"


async def get(redis: Redis, key: str) -> Any:
    (value,) = await redis.ask(("GET", key), remaining_s=5.0)
    return value


def test_a_value_is_stored_and_found_by_another_environment(server: Server) -> None:
    async def test(redis: Redis) -> Outcome:
        return (await cache_on(redis).read(soon(), "k", row)).outcome

    assert run(server, test) is Outcome.MISS
    assert run(server, test) is Outcome.HIT
    assert run(server.url(1), test) is Outcome.MISS  # another database is another Redis


def test_fifty_callers_of_a_cold_key_load_it_once(server: Server) -> None:
    loads = 0

    async def slow_row() -> tuple[int, str]:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.05)
        return 1, "row 1"

    async def test(_: Redis) -> None:
        settings = settings_with(REDIS_URL=server.url(), **PATIENT)
        clients = [Redis(settings.required_redis(), measure=lambda *_: None) for _ in range(CALLERS)]
        patient = CacheSettings(wait_ms=10_000, lease_ms=15_000)
        caches = [Cache(patient, RedisStore(client, "test"), measure=lambda *_: None) for client in clients]
        found = await asyncio.gather(*(cache.read(soon(), "k", slow_row) for cache in caches))
        assert {each.text for each in found} == {"row 1"}
        assert sum(each.outcome is Outcome.MISS for each in found) == 1
        await asyncio.gather(*(client.aclose() for client in clients))

    run(server, test)
    assert loads == 1


class WithoutVersions(RedisStore):
    """As caches are often written: whoever comes last is stored."""

    async def fill(self, key: str, version: int, entry: bytes, keep_ms: int, token: str, remaining_s: float) -> bool:
        del version, token
        await self._redis.ask(("SET", self._prefix + key, entry, "PX", keep_ms), remaining_s=remaining_s)
        return True


@pytest.mark.parametrize(("store", "afterwards"), [(RedisStore, 2), (WithoutVersions, 1)])
@pytest.mark.parametrize("reread", [True, False])
def test_a_slow_reader_cannot_put_back_the_old_row_but_could_without_versions(
    server: Server, store: type[RedisStore], afterwards: int, reread: bool
) -> None:
    """`reread`: somebody has stored the new row when the slow reader comes; else there is only the tombstone."""

    async def test(redis: Redis) -> int:
        cache = Cache(CacheSettings(wait_ms=0), store(redis, "test"), measure=lambda *_: None)
        read, committed = asyncio.Event(), asyncio.Event()

        async def old_row() -> tuple[int, str]:
            read.set()
            await committed.wait()
            return 1, "row 1"

        async def new_row() -> tuple[int, str]:
            return 2, "row 2"

        slow = asyncio.create_task(cache.read(soon(), "k", old_row))
        await read.wait()
        assert await cache.invalidate({"k": 2})
        if reread:
            await cache.read(soon(), "k", new_row)
        committed.set()
        assert (await slow).version == 1  # it asked before
        return (await cache.read(soon(), "k", new_row)).version

    assert run(server, test) == afterwards


def test_a_loader_that_died_is_waited_for_no_longer_than_said(server: Server) -> None:
    async def test(redis: Redis) -> None:
        cache = cache_on(redis, wait_ms=20)
        await cache.store.lease("k", "the dead one's", 60_000, 5.0)
        assert (await cache.read(soon(), "k", row)).status == "Warmfront; fwd=miss; stored"
        assert (await cache.read(soon(), "k", row)).outcome is Outcome.HIT

    run(server, test)


def test_everything_in_redis_has_an_end(server: Server) -> None:
    async def absent() -> tuple[int, str]:
        from shared.kit.problems import NotFound

        raise NotFound("none")

    async def test(redis: Redis) -> None:
        cache = cache_on(redis)
        await cache.read(soon(), "stored", row)
        await cache.invalidate({"gone": 2})
        await cache.store.lease("leased", "x", 1_000, 5.0)
        with pytest.raises(Exception, match="none"):
            await cache.read(soon(), "absent", absent)
        (keys,) = await redis.ask(("KEYS", "*"), remaining_s=5.0)
        assert len(keys) == 4
        ends = await redis.ask(*(("PTTL", key) for key in keys), remaining_s=5.0)
        assert all(end > 0 for end in ends)

    run(server, test)


def test_a_server_that_has_forgotten_the_script_is_told_again(server: Server) -> None:
    async def test(redis: Redis) -> None:
        cache = cache_on(redis)
        await cache.read(soon(), "a", row)
        await redis.ask(("SCRIPT", "FLUSH"), remaining_s=5.0)
        assert (await cache.read(soon(), "b", row)).status == "Warmfront; fwd=miss; stored"

    run(server, test)


def test_a_connection_that_ended_while_nobody_looked_costs_nothing(server: Server) -> None:
    async def test(redis: Redis) -> None:
        measured = Measured()
        cache = cache_on(redis, measured)
        await cache.read(soon(), "k", row)
        (own,) = await redis.ask(("CLIENT", "ID"), remaining_s=5.0)

        async def end_it(other: Redis) -> None:
            await other.ask(("CLIENT", "KILL", "ID", own), remaining_s=5.0)

        await asyncio.to_thread(run, server, end_it)
        assert (await cache.read(soon(), "k", row)).outcome is Outcome.HIT
        assert redis.breaker.state is State.CLOSED

    run(server, test)


def test_a_connection_that_ends_under_a_question_is_asked_again_on_another() -> None:
    async def test() -> None:
        served = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal served
            served += 1
            await reader.readuntil(b"GET\r\n$1\r\nk\r\n")
            if served > 1:
                writer.write(b"$1\r\nv\r\n")
                await reader.read()
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        settings = settings_with(REDIS_URL=f"redis://127.0.0.1:{port}/0", **PATIENT)
        redis = Redis(settings.required_redis(), measure=lambda *_: None)
        async with listener, asyncio.timeout(20):
            assert await get(redis, "k") == b"v"
            await redis.aclose()
        assert served == 2

    asyncio.run(test())


def test_a_restart_of_redis_costs_a_load_and_no_request(server: Server) -> None:
    async def test(redis: Redis) -> None:
        cache = cache_on(redis)
        await cache.read(soon(), "k", row)
        await asyncio.to_thread(server.restart, "immediate")
        assert (await cache.read(soon(), "k", row)).outcome is Outcome.MISS

    run(server, test)


def test_an_idle_connection_that_is_too_old_is_not_trusted(server: Server) -> None:
    async def test(_: Redis) -> None:
        now_s = 0.0
        settings = settings_with(REDIS_URL=server.url(), CONNECTION_IDLE_MAX_S=300, **PATIENT)
        redis = Redis(settings.required_redis(), clock=lambda: now_s, measure=lambda *_: None)
        (first,) = await redis.ask(("CLIENT", "ID"), remaining_s=5.0)
        now_s += 299
        assert await redis.ask(("CLIENT", "ID"), remaining_s=5.0) == [first]
        now_s += 300
        assert await redis.ask(("CLIENT", "ID"), remaining_s=5.0) != [first]
        await redis.aclose()

    run(server, test)


def test_answers_stay_with_their_questions_although_callers_give_up(server: Server) -> None:
    async def test(redis: Redis) -> None:
        for number in range(20):
            await redis.ask(("SET", f"n{number}", number), remaining_s=5.0)

        async def ask(number: int) -> None:
            assert await get(redis, f"n{number}") == b"%d" % number

        for round_ in range(30):
            tasks = [asyncio.create_task(ask(number)) for number in range(20)]
            for _ in range(round_ % 4):
                await asyncio.sleep(0)
            for task in tasks[round_ % 3 :: 3]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        await ask(7)

    run(server, test)


@contextmanager
def silence() -> Iterator[socket.socket]:
    """Takes connections, as the kernel does for a server that hangs, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def accepted_by(listener: socket.socket) -> int:
    listener.setblocking(False)
    count = 0
    try:
        while True:
            listener.accept()[0].close()
            count += 1
    except BlockingIOError:
        return count


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_redis_that_never_answers_is_asked_a_few_times_and_then_left_alone() -> None:
    async def test(redis: Redis) -> None:
        cache = cache_on(redis)
        found = [await cache.read(soon(), "k", row) for _ in range(20)]
        assert {each.outcome for each in found} == {Outcome.BYPASS}
        assert redis.breaker.state is State.OPEN
        assert await cache.invalidate({"k": 2}) is False

    with silence() as listener:
        run(f"redis://127.0.0.1:{port_of(listener)}/0", test, REDIS_TIMEOUT_MS=20, REDIS_CONNECT_TIMEOUT_MS=1_000)
        assert accepted_by(listener) == 3


def test_a_redis_that_is_not_there_is_a_bypass() -> None:
    async def test(redis: Redis) -> None:
        cache = cache_on(redis)
        assert (await cache.read(soon(), "k", row)).outcome is Outcome.BYPASS
        assert await cache.invalidate({"k": 2}) is False

    with silence() as listener:
        port = port_of(listener)
    run(f"redis://127.0.0.1:{port}/0", test)


def test_a_caller_in_a_hurry_is_no_evidence_against_redis() -> None:
    async def test(redis: Redis) -> None:
        for _ in range(10):
            with pytest.raises(Unreachable):
                await redis.ask(("GET", "k"), remaining_s=0.001)
        assert redis.breaker.state is State.CLOSED

    with silence() as listener:
        run(f"redis://127.0.0.1:{port_of(listener)}/0", test)


@pytest.mark.parametrize("error", [AttributeError, TypeError, RuntimeError])
def test_a_client_that_breaks_in_its_own_code_is_asked_again_on_another_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def broken(*_: object) -> None:
        raise error("'NoneType' object has no attribute '_add_writer'")

    async def test(redis: Redis) -> None:
        cache = cache_on(redis)
        await cache.read(soon(), "k", row)
        link = redis._link
        assert isinstance(link, Single)
        monkeypatch.setattr(link.connection._writer, "writelines", broken)
        async with asyncio.timeout(PATIENT["REDIS_TIMEOUT_MS"] / 2_000):  # at once, and not when a reply is overdue
            assert (await cache.read(soon(), "k", row)).outcome is Outcome.HIT
        assert redis.breaker.state is State.CLOSED

    run(server, test)


def test_a_wrong_password_is_a_bypass_that_tells_nobody_the_password(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(redis: Redis) -> None:
        assert (await cache_on(redis).read(soon(), "k", row)).outcome is Outcome.BYPASS

    run(f"redis://:hidden@127.0.0.1:{server.port}/0", test)
    (told,) = caplog.records
    assert told.message == telemetry.REDIS_LOST
    assert "hidden" not in str(vars(told))


def test_a_redis_that_is_full_still_serves_what_it_has(server: Server) -> None:
    async def test(redis: Redis) -> None:
        cache = cache_on(redis)
        await cache.read(soon(), "there", row)
        await redis.ask(("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"), remaining_s=5.0)
        try:
            for _ in range(5):
                assert (await cache.read(soon(), "new", row)).outcome is Outcome.BYPASS
                assert (await cache.read(soon(), "there", row)).outcome is Outcome.HIT
            with pytest.raises(Refused, match="OOM"):
                await redis.ask(("SET", "k", "v"), remaining_s=5.0)
        finally:
            await redis.ask(("CONFIG", "SET", "maxmemory", "64mb", "maxmemory-policy", "allkeys-lru"), remaining_s=5.0)

    run(server, test)


def test_what_somebody_else_stored_under_the_key_is_a_miss(server: Server) -> None:
    async def test(redis: Redis) -> None:
        await redis.ask(("SET", "test:1:k", "not ours"), ("LPUSH", "test:1:list", "x"), remaining_s=5.0)
        cache = cache_on(redis)
        assert (await cache.read(soon(), "k", row)).outcome is Outcome.MISS
        assert (await cache.read(soon(), "list", row)).outcome is Outcome.BYPASS

    run(server, test)


def test_forgetting_a_database_leaves_the_others_alone(server: Server) -> None:
    async def test(redis: Redis) -> None:
        for namespace in ("a*[b]", "a-b"):  # the pattern of the first, taken as one, matches the second
            cache = Cache(CacheSettings(), RedisStore(redis, namespace), measure=lambda *_: None)
            for number in range(30):
                await cache.read(soon(), str(number), row)
        assert await forget(settings_with(REDIS_URL=server.url(), **PATIENT).required_redis(), "a*[b]") == 30
        (keys,) = await redis.ask(("KEYS", "*"), remaining_s=5.0)
        assert len(keys) == 30

    run(server, test)


def test_without_an_address_it_refuses_to_start() -> None:
    with pytest.raises(BadSetting, match="REDIS_URL is not set; it must be redis://"):
        settings_with().required_redis()
