"""Asynchronous invocations on a clock of the test's own: attempts, back-off, age, records and dead letters."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from warmfront.emulator.lambda_service.functions.async_invoke import AsyncInvoker, QueuedEvent
from warmfront.emulator.lambda_service.types import InvocationResult, ServiceError, Throttled
from warmfront.emulator.template import Destination, EventInvokeConfig

FAILED = InvocationResult("id", b'{"errorMessage":"boom","errorType":"ValueError"}', "error", "Unhandled")
DONE = InvocationResult("id", b'{"fine":true}', "ok")
BOTH = EventInvokeConfig(on_success=Destination("arn:success"), on_failure=Destination("arn:failure"))


@dataclass
class World:
    """A function that answers as it is told, a courier that remembers, and time that passes only in sleep."""

    answers: list[InvocationResult | ServiceError]
    now_s: float = 0.0
    slept: list[float] = field(default_factory=list)
    called_at: list[float] = field(default_factory=list)
    delivered: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    buried: list[tuple[str, bytes, dict[str, str | int]]] = field(default_factory=list)

    async def invoke(self, event: QueuedEvent) -> InvocationResult:  # noqa: ARG002
        self.called_at.append(self.now_s)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, ServiceError):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    async def deliver(self, arn: str, record: dict[str, object]) -> None:
        self.delivered.append((arn, record))

    async def bury(self, arn: str, event: bytes, attributes: dict[str, str | int]) -> None:
        self.buried.append((arn, event, attributes))

    def send(self, settings: EventInvokeConfig = BOTH, *, time_scale: float = 1.0, **more: Any) -> None:
        event = QueuedEvent("F", "arn:f:$LATEST", b'{"n":1}', "id", settings, **{"dead_letter_arn": None, **more})

        async def main() -> None:
            invoker = AsyncInvoker(self.invoke, self, time_scale=time_scale, clock=lambda: self.now_s, sleep=self.sleep)
            invoker.submit(event)
            while invoker.pending:  # noqa: ASYNC110 - turns of the loop, not time
                await asyncio.sleep(0)

        asyncio.run(main())


def test_a_success_is_delivered_once() -> None:
    world = World([DONE])
    world.send()
    assert world.called_at == [0.0]
    ((arn, record),) = world.delivered
    assert arn == "arn:success"
    assert list(record) == [
        "version",
        "timestamp",
        "requestContext",
        "requestPayload",
        "responseContext",
        "responsePayload",
    ]
    assert record["version"] == "1.0"
    assert record["requestContext"] == {
        "requestId": "id", "functionArn": "arn:f:$LATEST", "condition": "Success", "approximateInvokeCount": 1
    }  # fmt: skip
    assert record["requestPayload"] == {"n": 1}
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert record["responsePayload"] == {"fine": True}


def test_a_function_error_is_tried_three_times_a_minute_and_two_apart() -> None:
    world = World([FAILED])
    world.send(dead_letter_arn="arn:grave")
    assert world.called_at == [0.0, 60.0, 180.0]
    ((arn, record),) = world.delivered
    assert arn == "arn:failure"
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert record["responseContext"]["functionError"] == "Unhandled"
    assert record["responsePayload"]["errorMessage"] == "boom"
    assert world.buried == [("arn:grave", b'{"n":1}', {"RequestID": "id", "ErrorCode": 200, "ErrorMessage": "boom"})]


def test_an_attempt_that_succeeds_ends_it() -> None:
    world = World([FAILED, DONE])
    world.send()
    assert world.called_at == [0.0, 60.0]
    assert [arn for arn, _ in world.delivered] == ["arn:success"]
    assert world.delivered[0][1]["requestContext"]["approximateInvokeCount"] == 2


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_the_template_says_how_often(retries: int) -> None:
    world = World([FAILED])
    world.send(EventInvokeConfig(maximum_retry_attempts=retries))
    assert len(world.called_at) == retries + 1
    assert world.delivered == []


@pytest.mark.parametrize("refusal", [Throttled(), ServiceError("no")])
def test_a_refused_event_goes_back_to_the_queue_and_counts_as_no_attempt(refusal: ServiceError) -> None:
    world = World([refusal, refusal, refusal, FAILED, refusal, DONE])
    world.send()
    assert world.slept == [1.0, 2.0, 4.0, 60.0, 8.0]
    assert world.delivered[0][1]["requestContext"]["approximateInvokeCount"] == 2


def test_a_refused_event_is_given_up_when_it_is_too_old() -> None:
    world = World([Throttled()])
    world.send(
        EventInvokeConfig(maximum_event_age_s=60, on_failure=Destination("arn:failure")), dead_letter_arn="arn:grave"
    )
    assert world.called_at[-1] <= 60 < world.now_s
    assert max(world.slept) == 32.0
    record = world.delivered[0][1]
    assert record["requestContext"]["condition"] == "EventAgeExceeded"
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert "responseContext" not in record
    assert world.buried[0][2]["ErrorCode"] == 429


def test_back_off_ends_at_five_minutes() -> None:
    world = World([Throttled()])
    world.send(EventInvokeConfig())
    assert max(world.slept) == 300.0
    assert 21_600 <= world.now_s < 21_600 + 600


def test_a_time_scale_makes_everything_faster() -> None:
    world = World([FAILED])
    world.send(time_scale=60.0)
    assert world.slept == [1.0, 2.0]
    world = World([Throttled()])
    world.send(EventInvokeConfig(maximum_event_age_s=3600), time_scale=60.0)
    assert 60 <= world.now_s < 70


def test_a_function_that_may_never_run_gets_no_attempt() -> None:
    world = World([DONE])
    world.send(never=True, dead_letter_arn="arn:grave")
    assert world.called_at == []
    assert world.delivered[0][1]["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert len(world.buried) == 1


def test_what_is_queued_is_forgotten_at_the_end() -> None:
    async def main() -> int:
        async def never(event: QueuedEvent) -> InvocationResult:  # noqa: ARG001
            await asyncio.Event().wait()
            raise AssertionError

        invoker = AsyncInvoker(never, World([DONE]))
        invoker.submit(QueuedEvent("F", "arn", b"{}", "id", BOTH, None))
        await asyncio.sleep(0)
        await invoker.close()
        return invoker.pending

    assert asyncio.run(main()) == 0
