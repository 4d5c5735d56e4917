"""Feeds a function from an SQS queue, as an event source mapping does: batches, partial failures, filters.

docs.aws.amazon.com/lambda/latest/dg/with-sqs.html. A message that fails is not deleted: the queue shows it again, or moves
it to its dead-letter queue.
"""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from warmfront.emulator.lambda_service.aws_clients import AwsUnavailable
from warmfront.emulator.lambda_service.event_sources import event_pattern
from warmfront.emulator.lambda_service.types import InvocationResult, ServiceError
from warmfront.emulator.template import SqsSource

LONG_POLL_S = 20
RECEIVE_MAX = 10
CONCURRENT_BATCHES = 5
"""Where the template names no MaximumConcurrency: what AWS begins with (docs: lambda/latest/dg/services-sqs-scaling.html)."""
RETRY_MIN_S, RETRY_MAX_S = 1.0, 30.0

Message = Mapping[str, Any]
Invoke = Callable[[str, bytes], Awaitable[InvocationResult]]


class Queues(Protocol):
    """The SQS API as far as a poller goes: AwsClients."""

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]: ...


class SqsPoller:
    """One event source mapping."""

    def __init__(
        self,
        source: SqsSource,
        queues: Queues,
        invoke: Invoke,
        note: Callable[[str], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._queues = queues
        self._invoke = invoke
        self._note = note
        self._sleep = sleep
        self._clock = clock
        self._filters = [MessageFilter(pattern) for pattern in source.filter_patterns]
        self._slots = asyncio.Semaphore(source.maximum_concurrency or CONCURRENT_BATCHES)
        self._batches: set[asyncio.Task[None]] = set()
        self._url = ""

    async def run(self) -> None:
        """Poll until cancelled."""
        retry_s = RETRY_MIN_S
        try:
            while True:
                async with self._slots:  # no message is taken that would have to wait for its function
                    pass
                try:
                    messages = await self._receive()
                except AwsUnavailable as error:
                    self._note(
                        f"queue {self._source.queue_name} of {self._source.function}: {error}; again in {retry_s:g} s"
                    )
                    await self._sleep(retry_s)
                    retry_s = min(retry_s * 2, RETRY_MAX_S)
                    continue
                retry_s = RETRY_MIN_S
                if messages:
                    await self._slots.acquire()
                    task = asyncio.ensure_future(self._process(messages))
                    self._batches.add(task)
                    task.add_done_callback(self._batch_done)
        finally:
            for batch in list(self._batches):
                batch.cancel()
            await asyncio.gather(*self._batches, return_exceptions=True)

    def _batch_done(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._note(f"queue {self._source.queue_name} of {self._source.function}: {error}")

    async def _receive(self) -> list[Message]:
        """One batch: as many as wait, and in the batching window more, up to the batch size."""
        if not self._url:
            answer = await self._queues.call("sqs", "get_queue_url", QueueName=self._source.queue_name)
            self._url = answer["QueueUrl"]
        messages = await self._receive_once(LONG_POLL_S, self._source.batch_size)
        ends_s = self._clock() + self._source.batching_window_s
        while 0 < len(messages) < self._source.batch_size and (left_s := ends_s - self._clock()) > 0:
            messages += await self._receive_once(
                min(int(left_s) + 1, LONG_POLL_S), self._source.batch_size - len(messages)
            )
        return messages

    async def _receive_once(self, wait_s: int, count: int) -> list[Message]:
        answer = await self._queues.call(
            "sqs",
            "receive_message",
            QueueUrl=self._url,
            MaxNumberOfMessages=min(count, RECEIVE_MAX),
            WaitTimeSeconds=wait_s,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return list(answer.get("Messages", []))

    async def _process(self, messages: list[Message]) -> None:
        wanted = [message for message in messages if self._is_wanted(message)]
        done = [message for message in messages if message not in wanted]  # filtered out: deleted, as on AWS
        if wanted:
            event = {"Records": [record(message, self._source.queue_arn) for message in wanted]}
            with contextlib.suppress(ServiceError):  # throttled: the queue shows them again
                result = await self._invoke(self._source.function, json.dumps(event).encode())
                done += self._succeeded(wanted, result)
        await self._delete(done)

    def _is_wanted(self, message: Message) -> bool:
        if not self._filters:
            return True
        seen = record(message, self._source.queue_arn)
        return any(each.matches(seen) for each in self._filters)

    def _succeeded(self, messages: Sequence[Message], result: InvocationResult) -> list[Message]:
        if result.function_error is not None:
            return []
        if not self._source.report_batch_item_failures:
            return list(messages)
        failed = failed_items(result.payload, {message["MessageId"] for message in messages})
        if failed is None:
            self._note(
                f"{self._source.function} answered with malformed batchItemFailures: the whole batch counts as failed"
            )
            return []
        return [message for message in messages if message["MessageId"] not in failed]

    async def _delete(self, messages: Sequence[Message]) -> None:
        for start in range(0, len(messages), RECEIVE_MAX):
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages[start : start + RECEIVE_MAX])
            ]
            await self._queues.call("sqs", "delete_message_batch", QueueUrl=self._url, Entries=entries)


class MessageFilter:
    """One pattern of FilterCriteria. Raises PatternError."""

    def __init__(self, pattern: str) -> None:
        self._matches = event_pattern.compile_pattern(pattern)
        self._wants_json = isinstance(json.loads(pattern).get("body"), dict)

    def matches(self, seen: Mapping[str, Any]) -> bool:
        """Whether a record, its body as text, is wanted.

        A body pattern that is an object wants a JSON object in the body, one that is a list of strings wants plain text
        (docs: lambda/latest/dg/with-sqs-filtering.html, the table "filter pattern for body").
        """
        try:
            body = json.loads(seen["body"])
        except ValueError:
            body = None
        if isinstance(body, dict):
            return self._matches({**seen, "body": body})
        return not self._wants_json and self._matches(seen)


def failed_items(payload: bytes, sent: set[str]) -> set[str] | None:
    """Message ids that a function reports as failed; None when the report is malformed and all of them are.

    docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
    """
    try:
        report = json.loads(payload)
    except ValueError:
        return None
    if not report:
        return set()
    if not isinstance(report, dict):
        return None
    failures = report.get("batchItemFailures")
    if not failures:
        return set()
    if not isinstance(failures, list):
        return None
    ids = {str(failure.get("itemIdentifier")) if isinstance(failure, dict) else "" for failure in failures}
    return ids if ids <= sent else None


def record(message: Message, queue_arn: str) -> dict[str, Any]:
    """A message as a handler sees it."""
    made: dict[str, Any] = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
        "messageAttributes": {name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }
    if "MD5OfMessageAttributes" in message:
        made["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return made


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        made["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        made["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return made
