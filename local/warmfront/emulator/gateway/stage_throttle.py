"""Limits the rate of requests to a stage's routes with token buckets.

docs.aws.amazon.com/apigateway/latest/developerguide/http-api-throttling.html
"""

from collections.abc import Callable, Mapping

from warmfront.emulator.template import Api, Throttle


class TokenBucket:
    """Lets `burst` requests through at once and `rate_per_s` in the long run."""

    __slots__ = ("_burst", "_clock", "_rate_per_s", "_tokens", "_when_s")

    def __init__(self, throttle: Throttle, clock: Callable[[], float]) -> None:
        self._rate_per_s = throttle.rate_per_s if throttle.rate_per_s is not None else 1e9
        # Without a burst of its own a second's worth may come at once.
        self._burst = float(throttle.burst) if throttle.burst is not None else max(1.0, self._rate_per_s)
        self._clock = clock
        self._tokens = self._burst
        self._when_s = clock()

    def take(self) -> bool:
        now_s = self._clock()
        self._tokens = min(self._burst, self._tokens + (now_s - self._when_s) * self._rate_per_s)
        self._when_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def buckets(api: Api, clock: Callable[[], float]) -> Mapping[str, TokenBucket]:
    """Route key -> its bucket: of the route's own throttle, or of the stage's, which each route has for itself."""
    found = {}
    for route in api.routes:
        throttle = api.route_throttles.get(route.key) or api.route_throttles.get(route.path) or api.throttle
        if throttle is not None:
            found[route.key] = TokenBucket(throttle, clock)
    return found
