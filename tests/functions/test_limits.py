"""What a client may use, counted for all environments in a real Redis; and what each response says of its time."""

import asyncio
import re
import socket
from collections.abc import Iterator

import pytest
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis as Server

from shared.kit import environment
from shared.kit.limiter import Limiter
from shared.kit.problems import RateLimited
from shared.kit.redis import Redis
from tests.functions.conftest import Context, Function, distributed_environ, load, shop_environ
from tests.shared.conftest import Measured, settings_with, soon

RATE_LIMIT = re.compile(r'"client";r=(\d+);t=(\d+)')
TIMING = re.compile(r"(?:[a-z]+;dur=\d+\.\d\d, )*total;dur=\d+\.\d\d")


async def several(server: Server, clients: list[str], **settings: int) -> list[bool]:
    """Each on a connection of its own, as environments have them, all at once: whether it was let in."""
    values = settings_with(REDIS_URL=server.url(), REDIS_TIMEOUT_MS=5_000, REDIS_CONNECT_TIMEOUT_MS=5_000, **settings)
    limits = values.limiter
    assert limits is not None
    connections = [Redis(values.required_redis(), measure=Measured()) for _ in range(8)]
    limiters = [Limiter(limits, redis, "tests", measure=Measured()) for redis in connections]

    async def ask(number: int, client: str) -> bool:
        try:
            headers = await limiters[number % len(limiters)].admit(soon(), client)
        except RateLimited as limited:
            headers = dict(limited.headers)
            assert int(headers["retry-after"]) >= 1
        assert headers, "it failed open"
        found = RATE_LIMIT.fullmatch(headers["ratelimit"])
        assert found
        assert int(found[1]) >= 0
        return "retry-after" not in headers

    try:
        return await asyncio.gather(*(ask(number, client) for number, client in enumerate(clients)))
    finally:
        for redis in connections:
            await redis.aclose()


def test_however_many_ask_at_once_a_client_has_its_share_and_no_more(redis: Server) -> None:
    let_in = asyncio.run(several(redis, ["one"] * 40, RATE_LIMIT=10, RATE_WINDOW_S=3_600))
    assert sum(let_in) == 10


def test_each_client_has_a_share_of_its_own(redis: Server) -> None:
    clients = [f"client {number % 4}" for number in range(80)]
    let_in = asyncio.run(several(redis, clients, RATE_LIMIT=7, RATE_WINDOW_S=3_600))
    assert {client: sum(y for c, y in zip(clients, let_in, strict=True) if c == client) for client in clients} == {
        f"client {number}": 7 for number in range(4)
    }


def test_what_was_used_comes_back_evenly_and_then_nothing_is_left_behind(redis: Server) -> None:
    """100 in a second are one in 10 ms: soon after the last one there is another, and a second later no key."""

    async def test() -> None:
        assert sum(await several(redis, ["patient"] * 150, RATE_LIMIT=100, RATE_WINDOW_S=1)) >= 100
        values = settings_with(REDIS_URL=redis.url(), RATE_LIMIT=100, RATE_WINDOW_S=1, REDIS_TIMEOUT_MS=5_000)
        limits = values.limiter
        assert limits is not None
        connection = Redis(values.required_redis(), measure=Measured())
        limiter = Limiter(limits, connection, "passing", measure=Measured())
        for _ in range(2):
            assert await limiter.admit(soon(), "patient")
        async with asyncio.timeout(10):
            while (await connection.ask(("KEYS", "passing:*"), remaining_s=5))[0]:  # noqa: ASYNC110 - no event says that a key ended
                await asyncio.sleep(0.01)
        await connection.aclose()

    asyncio.run(test())
    assert any(asyncio.run(several(redis, ["patient"], RATE_LIMIT=100, RATE_WINDOW_S=1)))


@pytest.fixture
def limited(server: Postgres, redis: Server, migrate: Function) -> Iterator[Function]:
    migrate.invoke({"action": "reset", "databases": ["distributed"]})
    settings = {"SHOP_RATE_LIMIT": "3", "SHOP_RATE_WINDOW_S": "3600", "SHOP_REDIS_TIMEOUT_MS": "2000"}
    yield load("distributed", "functions.distributed.app", distributed_environ(server, redis) | settings)
    environment.reset()


def test_a_client_over_its_share_is_told_when_to_come_back(limited: Function) -> None:
    replies = [limited.get("/products/1") for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert [reply.headers["ratelimit-policy"] for reply in replies] == ['"client";q=3;w=3600'] * 4
    left = [RATE_LIMIT.fullmatch(reply.headers["ratelimit"]) for reply in replies]
    assert [found and int(found[1]) for found in left] == [2, 1, 0, 0]
    problem = replies[-1].json
    assert problem["type"] == "urn:warmfront:problem:rate-limited"
    assert 1_000 < int(replies[-1].headers["retry-after"]) == problem["retry_after"] <= 1_200
    assert limited.get("/nothing").headers.get("ratelimit") is None  # no such route, no share used


def test_a_refusal_of_another_kind_says_what_is_left_as_well(limited: Function) -> None:
    reply = limited.get("/products/0")
    assert (reply.status, "ratelimit" in reply.headers) == (404, True)


def test_without_redis_there_is_no_limit_within_the_bounded_time(server: Postgres, migrate: Function) -> None:
    migrate.invoke({"action": "reset", "databases": ["distributed"]})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        environ = shop_environ(server, "distributed") | {"REDIS_URL": url, "SHOP_RATE_LIMIT": "1"}
        function = load("distributed", "functions.distributed.app", environ)
        replies = [function.get("/products/1", context=Context(3_000)) for _ in range(4)]
    environment.reset()
    assert [reply.status for reply in replies] == [200] * 4
    assert not any("ratelimit" in reply.headers for reply in replies)


def test_without_a_setting_nobody_is_limited_or_counted(distributed: Function) -> None:
    reply = distributed.get("/products/1")
    assert "ratelimit" not in reply.headers
    assert distributed.module.SETTINGS.limiter is None


def test_every_response_says_where_its_time_went(pooled: Function, distributed: Function) -> None:
    for function, path, names in (
        (pooled, "/products/1", {"db", "total"}),
        (pooled, "/products/0", {"total"}),  # no id: nothing was asked for it
        (distributed, "/products/2", {"redis", "db", "total"}),
        (distributed, "/products/2", {"redis", "total"}),
    ):
        timing = function.get(path).headers["server-timing"]
        assert TIMING.fullmatch(timing)
        parts = dict(part.split(";dur=") for part in timing.split(", "))
        assert parts.keys() == names
        assert sum(float(ms) for name, ms in parts.items() if name != "total") <= float(parts["total"]) + 0.02


def test_where_it_is_not_to_be_said_it_is_not(server: Postgres, migrate: Function) -> None:
    migrate.invoke({"action": "reset", "databases": ["pooled"]})
    environ = shop_environ(server, "pooled") | {"SHOP_SERVER_TIMING": "off"}
    reply = load("pooled", "functions.pooled.app", environ).get("/products/1")
    environment.reset()
    assert (reply.status, "server-timing" in reply.headers) == (200, False)
