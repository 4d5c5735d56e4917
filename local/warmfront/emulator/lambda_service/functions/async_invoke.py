"""Asynchronous invocations: queued, retried with back-off, given up, and told of where the template says.

docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html: after a function error two more attempts, one and two minutes
later; after a throttle or a service error the event goes back to the queue, one second to five minutes later, until it is too old.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from warmfront.emulator.lambda_service.types import InvocationResult, ServiceError, Throttled
from warmfront.emulator.template import EventInvokeConfig

RETRY_DELAYS_S = (60.0, 120.0)
BACK_OFF_MIN_S = 1.0
BACK_OFF_MAX_S = 300.0
MESSAGE_LIMIT = 1024
"""Characters of the error message that go to a dead-letter queue with the event."""


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """One event on its way; its request id is the same in every attempt."""

    function: str
    """Logical id."""
    function_arn: str
    """With its version or alias."""
    event: bytes
    request_id: str
    settings: EventInvokeConfig
    dead_letter_arn: str | None
    never: bool = False
    """The function reserves no concurrency at all, so nothing of it can ever run."""


class Courier(Protocol):
    """Who carries what became of an event to its destination. Must not raise."""

    async def deliver(self, arn: str, record: dict[str, object]) -> None: ...

    async def bury(self, arn: str, event: bytes, attributes: dict[str, str | int]) -> None: ...


Invoke = Callable[[QueuedEvent], Awaitable[InvocationResult]]
Sleep = Callable[[float], Awaitable[None]]


class AsyncInvoker:
    """The queue of all functions; every event is a task of its own."""

    def __init__(
        self,
        invoke: Invoke,
        courier: Courier,
        *,
        time_scale: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`time_scale`: how many times faster than on AWS delays and ages pass."""
        self._invoke = invoke
        self._courier = courier
        self._time_scale = time_scale
        self._clock = clock
        self._sleep = sleep
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        return len(self._tasks)

    def submit(self, event: QueuedEvent) -> None:
        task = asyncio.get_running_loop().create_task(self._carry_through(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Forget what is queued."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry_through(self, event: QueuedEvent) -> None:
        if event.never:
            await self._give_up(event, "ZeroReservedConcurrency", 0, None)
            return
        born_s = self._clock()
        attempts = refusals = 0
        result: InvocationResult | None = None
        while True:
            if (self._clock() - born_s) * self._time_scale > event.settings.maximum_event_age_s:
                await self._give_up(event, "EventAgeExceeded", attempts, result)
                return
            try:
                result = await self._invoke(event)
            except (Throttled, ServiceError):
                delay_s = min(BACK_OFF_MIN_S * 2**refusals, BACK_OFF_MAX_S)
                refusals += 1
            else:
                attempts += 1
                if result.function_error is None:
                    await self._succeed(event, attempts, result)
                    return
                if attempts > event.settings.maximum_retry_attempts:
                    await self._give_up(event, "RetriesExhausted", attempts, result)
                    return
                delay_s = RETRY_DELAYS_S[min(attempts, len(RETRY_DELAYS_S)) - 1]
            await self._sleep(delay_s / self._time_scale)

    async def _succeed(self, event: QueuedEvent, attempts: int, result: InvocationResult) -> None:
        if event.settings.on_success is not None:
            await self._courier.deliver(event.settings.on_success.arn, _record(event, "Success", attempts, result))

    async def _give_up(
        self, event: QueuedEvent, condition: str, attempts: int, result: InvocationResult | None
    ) -> None:
        if event.settings.on_failure is not None:
            await self._courier.deliver(event.settings.on_failure.arn, _record(event, condition, attempts, result))
        if event.dead_letter_arn is not None:
            await self._courier.bury(event.dead_letter_arn, event.event, _grave_attributes(event, condition, result))


def _record(event: QueuedEvent, condition: str, attempts: int, result: InvocationResult | None) -> dict[str, object]:
    """What a destination gets (docs: lambda/latest/dg/invocation-async-retain-records.html)."""
    record: dict[str, object] = {
        "version": "1.0",
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": event.function_arn,
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "requestPayload": json.loads(event.event),
    }
    if result is not None:
        context: dict[str, object] = {"statusCode": 200, "executedVersion": result.executed_version}
        if result.function_error is not None:
            context["functionError"] = result.function_error
        record["responseContext"] = context
        record["responsePayload"] = _json_or_text(result.payload)
    return record


def _json_or_text(payload: bytes) -> object:
    try:
        value: object = json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")
    return value


def _grave_attributes(event: QueuedEvent, condition: str, result: InvocationResult | None) -> dict[str, str | int]:
    """A dead letter's attributes (docs: lambda/latest/dg/invocation-async-retain-records.html#invocation-dlq)."""
    message = condition
    if result is not None:
        payload = _json_or_text(result.payload)
        message = str(payload.get("errorMessage", condition)) if isinstance(payload, dict) else str(payload)
    return {"RequestID": event.request_id, "ErrorCode": 200 if result else 429, "ErrorMessage": message[:MESSAGE_LIMIT]}
