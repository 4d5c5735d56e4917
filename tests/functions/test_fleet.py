"""Environments of the distributed function tell each other of an outage, and do without Redis if they have to."""

from collections.abc import Iterator

import pytest
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis as Server

from shared.kit import environment
from shared.kit.breaker_votes import KitVoteStore
from shared.kit.redis import Redis
from shared.kit.redis_settings import RedisSettings
from tests.functions.conftest import Function, Reply, distributed_environ, load
from tests.shared.conftest import Measured

OPEN = "urn:warmfront:problem:circuit-open"
# Slow machines are no outage here: the exchange has 10 ms, which the first one, with its connection, may not keep.
CALLS_MIN = 3


@pytest.fixture
def fleet(server: Postgres, redis: Server, migrate: Function) -> Iterator[list[Function]]:
    """Two environments whose database is gone."""
    del migrate
    gone = distributed_environ(server, redis)
    gone["DATABASE_URL"] = gone["DATABASE_URL"].replace("/distributed", "/fleet")
    gone |= {"SHOP_BREAKER_VOTES": "on", "SHOP_BREAKER_QUORUM": "1", "SHOP_BREAKER_OPEN_MS": "60000"}
    gone |= {"SHOP_BREAKER_OPEN_MAX_MS": "60000", "SHOP_BREAKER_CALLS_MIN": str(CALLS_MIN)}
    yield [load("distributed", "functions.distributed.app", gone) for _ in range(2)]
    environment.reset()


def asked(function: Function, number: int) -> Reply:
    """For what nobody has asked for yet: an absent product would be remembered."""
    return function.get(f"/orders/{number}")


def test_one_environments_outage_is_the_others_news(fleet: list[Function]) -> None:
    first, second = fleet
    replies = [asked(first, 1_000 + number) for number in range(20)]
    assert {reply.status for reply in replies} == {503}
    assert replies[-1].json["type"] == OPEN
    # Its own breaker has seen nothing yet; an exchange that took too long is made up for by the next.
    told = [asked(second, 2_000 + number) for number in range(CALLS_MIN)]
    assert OPEN in [reply.json["type"] for reply in told]
    closed = second.module.database().breaker.snapshot()
    assert closed.state.value == "closed"
    waits = [int(reply.headers["retry-after"]) for reply in told if reply.json["type"] == OPEN]
    assert all(wait >= 1 for wait in waits)


def test_votes_about_a_redis_are_not_kept_in_it(redis: Server) -> None:
    mine = Redis(RedisSettings(url=redis.url()), measure=Measured())
    with pytest.raises(ValueError, match="give them another Redis"):
        KitVoteStore(mine, protects=redis.url())


def test_without_the_setting_nobody_votes(distributed: Function) -> None:
    assert distributed.get("/products/1").status == 200
    assert distributed.module.database()._votes is None
