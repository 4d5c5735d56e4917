"""The stage's throttle as a token bucket."""

from warmfront.emulator.gateway.stage_throttle import TokenBucket, buckets
from warmfront.emulator.template import Api, Route, Throttle


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_burst_passes_at_once_and_then_the_rate_holds() -> None:
    clock = Clock()
    bucket = TokenBucket(Throttle(rate_per_s=2, burst=3), clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock.now_s = 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    clock.now_s = 100.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_a_rate_without_burst_lets_a_seconds_worth_through() -> None:
    bucket = TokenBucket(Throttle(rate_per_s=2), Clock())
    assert [bucket.take() for _ in range(3)] == [True, True, False]


def test_a_burst_without_rate_never_runs_dry_for_long() -> None:
    clock = Clock()
    bucket = TokenBucket(Throttle(burst=1), clock)
    assert [bucket.take(), bucket.take()] == [True, False]
    clock.now_s = 0.001
    assert bucket.take()


def test_a_routes_own_throttle_goes_before_the_stages() -> None:
    routes = (Route("GET", "/a", "F"), Route("GET", "/b", "F"))
    api = Api("Api", "http", "api", routes=routes, throttle=Throttle(9, 9), route_throttles={"GET /a": Throttle(0, 0)})
    found = buckets(api, Clock())
    assert [found["GET /a"].take(), found["GET /b"].take()] == [False, True]
    assert buckets(Api("Api", "http", "api", routes=routes), Clock()) == {}
