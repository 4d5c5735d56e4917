"""Limits the requests of each client, counted in Redis for all environments together.

One call of a script with the server's own time (GCRA, in `limiter.lua`): requests are given back evenly over the window,
so that no client can use two windows' worth at the edge between them. Without Redis there is no limit: it protects the
API, and must not be a reason for an outage.

RateLimit and RateLimit-Policy are those of draft-ietf-httpapi-ratelimit-headers-11, which is still a draft.
"""

import hashlib
import math
from pathlib import Path

from shared.kit import telemetry
from shared.kit.deadline import Deadline
from shared.kit.problems import RateLimited
from shared.kit.redis import Measure, Redis, Refused, Script, Unreachable
from shared.kit.settings import LimiterSettings

POLICY = '"client"'


class Limiter:
    """Belongs to one loop, as its connection does."""

    def __init__(
        self, settings: LimiterSettings, redis: Redis, namespace: str, *, measure: Measure = telemetry.measure
    ) -> None:
        self._limit = settings.requests
        self._window_s = settings.window_s
        self._redis = redis
        self._prefix = f"{namespace}:limit:"
        self._script = Script(Path(__file__).with_suffix(".lua").read_text())
        self._measure = measure

    async def admit(self, deadline: Deadline, client: str) -> dict[str, str]:
        """Headers for the response. Raises RateLimited (429) if this client has used its share."""
        # A digest: keys have one length, and Redis holds no address or name of a client.
        key = self._prefix + hashlib.sha256(client.encode()).hexdigest()[:32]
        call = ((key,), (self._limit, self._window_s * 1_000_000))
        try:
            ((may, left, full_us, wait_us),) = await self._redis.run(
                self._script, call, remaining_s=deadline.remaining_s()
            )
        except (Unreachable, Refused):
            return {}
        headers = {
            "ratelimit-policy": f"{POLICY};q={self._limit};w={self._window_s}",
            "ratelimit": f"{POLICY};r={left};t={math.ceil(full_us / 1_000_000)}",
        }
        if may:
            return headers
        self._measure(telemetry.RATE_LIMITED, 1)
        wait_s = max(1, math.ceil(wait_us / 1_000_000))
        raise RateLimited(
            f"{self._limit} requests in {self._window_s} s are this client's share.",
            headers={**headers, "retry-after": str(wait_s)},
            retry_after=wait_s,
        )
