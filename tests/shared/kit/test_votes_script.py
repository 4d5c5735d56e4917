"""The Lua script on a real server: it answers as the model does, and every key it leaves will expire."""

import random
from pathlib import Path
from typing import Any

import pytest
import redis
from warmfront.backing.redis import Redis

import shared.kit.breaker_votes
from shared.kit.breaker_votes import Exchange
from tests.machines.votes_model import Fleet, Reply, Request, Rules, Store, Verdict, after_time, sync

SCRIPT = Path(shared.kit.breaker_votes.__file__).with_suffix(".lua").read_text()
SERVER_TIME = "redis.call('TIME')"
KEYS = ("cb:{quotes}:v", "cb:{quotes}:s")
RULES = Rules(quorum=3, vote_ms=3_000, base_ms=1_000, max_ms=4_000, probes=2)
LEASE_MS = 2_000


@pytest.fixture
def client(votes_redis: Redis) -> Any:
    client = redis.Redis.from_url(votes_redis.url())
    client.flushdb()
    yield client
    client.close()


def exchange(request: Request, rules: Rules = RULES) -> Exchange:
    return Exchange(
        request.environment,
        request.vote,
        request.action,
        request.token,
        request.lease_ms,
        rules.quorum,
        rules.vote_ms,
        rules.base_ms,
        rules.max_ms,
        rules.probes,
    )


class Scripted:
    """The script with a clock of our own in place of the server's: nothing else of it is changed."""

    def __init__(self, client: Any) -> None:
        assert SCRIPT.count(SERVER_TIME) == 1
        self._client = client
        self._script = client.register_script(SCRIPT.replace(SERVER_TIME, "{ARGV[11], ARGV[12]}"))

    def sync(self, now_ms: int, request: Request) -> Reply:
        seconds, rest_ms = divmod(now_ms, 1000)
        args = [*exchange(request), seconds, rest_ms * 1000 + 999]  # microseconds are cut, not rounded
        verdict, wait_ms, token = self._script(keys=KEYS, args=args)
        return Reply(Verdict(verdict), wait_ms, token)

    def store(self, now_ms: int) -> Store:
        votes = [(e.decode(), int(ends)) for e, ends in self._client.zrange(KEYS[0], 0, -1, withscores=True)]
        state = {k.decode(): int(v) for k, v in self._client.hgetall(KEYS[1]).items()}
        return comparable(Store(tuple(sorted(votes)), Fleet(**state) if state else None), now_ms)


def comparable(store: Store, now_ms: int) -> Store:
    """As it stands now: what is over the script leaves to the keys' expiry."""
    return Store(tuple(v for v in store.votes if v[1] > now_ms), after_time(store.fleet, now_ms, RULES))


@pytest.mark.parametrize("seed", range(10))
def test_the_script_answers_every_request_as_the_model_does(client: Any, seed: int) -> None:
    rng = random.Random(seed)
    script, model = Scripted(client), Store()
    now_ms = int(client.time()[0]) * 1000 + 3_600_000  # ahead, so that no key expires by the server's own clock
    tokens = [0]
    seen = set()
    for _ in range(250):
        now_ms += rng.choices([0, 1, 250, 999, 1_000, 2_000, 3_000, 20_000], [40, 10, 10, 5, 10, 5, 3, 1])[0]
        action = rng.choice(["look", "admit", "admit", "admit", "good", "good", "bad", "void"])
        token = rng.choice(tokens[-3:]) if action in ("good", "bad", "void") else 0
        request = Request(rng.choice("abcde"), rng.choices([-1, 0, 1], [1, 6, 6])[0], action, token, LEASE_MS)
        model, expected = sync(model, now_ms, request, RULES)
        assert script.sync(now_ms, request) == expected, request
        assert script.store(now_ms) == comparable(model, now_ms), request
        seen.add(expected.verdict)
        if expected.token:
            tokens.append(expected.token)
    assert seen == set(Verdict)


def run(client: Any, environment: str, vote: int = 0, action: str = "look", token: int = 0) -> list[int]:
    """One exchange by the server's own clock."""
    script = client.register_script(SCRIPT)
    answer: list[int] = script(keys=KEYS, args=list(exchange(Request(environment, vote, action, token, LEASE_MS))))
    return answer


def test_every_key_expires_and_no_refused_caller_puts_that_off(client: Any) -> None:
    for environment in "abc":
        run(client, environment, vote=1)
    ends = [client.pexpiretime(key) for key in KEYS]
    seconds, microseconds = client.time()
    now_ms = seconds * 1000 + microseconds // 1000
    assert now_ms < ends[0] <= now_ms + RULES.vote_ms
    assert now_ms < ends[1] <= now_ms + RULES.base_ms + RULES.vote_ms
    for environment in "abcde":
        verdict, wait_ms, _ = run(client, environment, action="admit")
        assert (verdict, 0 < wait_ms <= RULES.base_ms) == (Verdict.REJECT, True)
        run(client, environment, action="good", token=42)
        run(client, environment, action="bad", token=42)
    assert [client.pexpiretime(key) for key in KEYS] == ends


def test_a_fleet_that_closed_leaves_nothing_behind(client: Any) -> None:
    script = Scripted(client)
    now_ms = int(client.time()[0]) * 1000 + 3_600_000
    for environment in "abc":
        script.sync(now_ms, Request(environment, vote=1))
    now_ms += RULES.base_ms
    for _ in range(RULES.probes):
        reply = script.sync(now_ms, Request("d", action="admit", lease_ms=LEASE_MS))
        assert reply.verdict is Verdict.LEASED
        script.sync(now_ms, Request("d", action="good", token=reply.token))
    assert list(client.scan_iter()) == []


def test_the_script_writes_only_its_two_keys(client: Any) -> None:
    for environment in "abc":
        run(client, environment, vote=1)
    assert {key.decode() for key in client.scan_iter()} == set(KEYS)
