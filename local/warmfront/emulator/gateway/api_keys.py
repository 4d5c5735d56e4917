"""Checks API keys of REST APIs, and holds each key to its usage plan.

docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-api-usage-plans.html
"""

import time
from collections.abc import Callable
from typing import Final

from warmfront.emulator.gateway.dialects import Failure, RefusedError
from warmfront.emulator.gateway.exchange import Call
from warmfront.emulator.gateway.stage_throttle import TokenBucket
from warmfront.emulator.template import Api, ApiKey, Throttle, UsagePlan

USAGE_KEY: Final = "usageIdentifierKey"
"""Where a Lambda authorizer's answer has the API key, for an API whose ApiKeySource is AUTHORIZER."""


class ApiKeyCheck:
    """The step before methods that require an API key."""

    def __init__(
        self, api: Api, *, enforce_plans: bool, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        """`enforce_plans`: hold keys to their plan's rate and quota too, not only ask for one."""
        self._from_header = api.api_key_source == "HEADER"
        self._clock = clock
        self._keys: dict[str, tuple[ApiKey, UsagePlan]] = {}
        self._buckets: dict[str, TokenBucket] = {}
        self._used: dict[str, tuple[str, int]] = {}
        self._enforce_plans = enforce_plans
        for plan in api.usage_plans:
            for key in plan.keys:
                self._keys.setdefault(key.value, (key, plan))
                if enforce_plans and plan.rate_per_s is not None:
                    throttle = Throttle(rate_per_s=plan.rate_per_s, burst=plan.burst)
                    self._buckets.setdefault(key.value, TokenBucket(throttle, monotonic))

    async def __call__(self, call: Call) -> Call:
        """The call with its key. Raises RefusedError."""
        authorizer = dict(call.authorizer or {})
        named = authorizer.pop(USAGE_KEY, None)
        value = call.request.head.fields.get("x-api-key") if self._from_header else named
        key, plan = self._keys.get(str(value), (None, None))
        if key is None or plan is None or not key.enabled:
            raise RefusedError(Failure.INVALID_API_KEY, self._reason(value))
        if self._enforce_plans:
            self._hold(key, plan)
        return call._replace(authorizer=authorizer if call.authorizer is not None else None, api_key=key)

    def _reason(self, value: object) -> str:
        known = ", ".join(f"{key.value} ({key.name})" for key, _ in self._keys.values() if key.enabled)
        where = "header x-api-key" if self._from_header else f"the authorizer's {USAGE_KEY}"
        what = f"{where} is missing" if not value else f"{where} names no key of a usage plan"
        return f"{what}; this template's keys: {known or 'none, for no usage plan of it has a key'}"

    def _hold(self, key: ApiKey, plan: UsagePlan) -> None:
        bucket = self._buckets.get(key.value)
        if bucket is not None and not bucket.take():
            raise RefusedError(Failure.RATE_LIMITED, f"usage plan {plan.name}, key {key.name}")
        if plan.quota is None:
            return
        period = _period(plan, self._clock())
        began, count = self._used.get(key.value, (period, 0))
        count = count if began == period else 0
        if count >= plan.quota:
            raise RefusedError(Failure.QUOTA_EXCEEDED, f"usage plan {plan.name}: {plan.quota} a {plan.period.lower()}")
        self._used[key.value] = (period, count + 1)


def _period(plan: UsagePlan, now: float) -> str:
    """The period of a quota that a moment belongs to, in UTC."""
    when = time.gmtime(now)
    return time.strftime({"DAY": "%Y-%m-%d", "WEEK": "%G-%V", "MONTH": "%Y-%m"}[plan.period], when)
