"""A queue's messages on their way to a function and out of the queue, with a queue that is a list."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from warmfront.emulator.lambda_service.aws_clients import AwsUnavailable
from warmfront.emulator.lambda_service.event_sources.event_pattern import PatternError
from warmfront.emulator.lambda_service.event_sources.sqs import SqsPoller, failed_items, record
from warmfront.emulator.lambda_service.types import InvocationResult, Throttled
from warmfront.emulator.template import SqsSource

ARN = "arn:aws:sqs:us-east-1:123456789012:jobs"


def message(number: int, body: str = "") -> dict[str, Any]:
    return {
        "MessageId": f"m{number}",
        "ReceiptHandle": f"r{number}",
        "Body": body or f"body {number}",
        "MD5OfBody": "md5",
        "Attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1"},
    }


def source(**settings: Any) -> SqsSource:
    return SqsSource(**{"function": "F", "event": "Jobs", "queue_arn": ARN, "queue_name": "jobs", **settings})


@dataclass
class Queue:
    """Answers of receive_message in turn; then it is empty and the test is over."""

    answers: list[list[dict[str, Any]] | Exception]
    received: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    now_s: float = 0.0

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        assert service == "sqs"
        if operation == "get_queue_url":
            return {"QueueUrl": f"url of {parameters['QueueName']}"}
        assert parameters["QueueUrl"] == "url of jobs"
        if operation == "delete_message_batch":
            self.deleted += [entry["ReceiptHandle"] for entry in parameters["Entries"]]
            assert len(parameters["Entries"]) <= 10
            return {}
        return await self._receive(parameters)

    async def _receive(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.received.append(parameters)
        self.now_s += 1
        if not self.answers:
            self.over.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"Messages": answer} if answer else {}

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def poll(queue: Queue, answer: object = None, *, error: bool = False, **settings: Any) -> list[Any]:
    """Poll until the queue is empty and every batch is done; the events the function got."""
    events: list[Any] = []

    async def invoke(function: str, event: bytes) -> InvocationResult:
        assert function == "F"
        events.append(json.loads(event))
        if isinstance(answer, Exception):
            raise answer
        payload = answer(events[-1]) if callable(answer) else answer
        return InvocationResult(
            "id", json.dumps(payload).encode(), "error" if error else "ok", "Unhandled" if error else None
        )

    async def main() -> None:
        poller = SqsPoller(
            source(**settings), queue, invoke, queue.notes.append, sleep=queue.sleep, clock=lambda: queue.now_s
        )
        task = asyncio.ensure_future(poller.run())
        await asyncio.wait_for(queue.over.wait(), 10)
        while poller._batches:  # noqa: ASYNC110 - turns of the loop, not time
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    return events


def test_a_batch_is_sent_as_it_is_received_and_then_deleted() -> None:
    queue = Queue([[message(1), message(2)]])
    (event,) = poll(queue)
    assert [each["body"] for each in event["Records"]] == ["body 1", "body 2"]
    assert queue.deleted == ["r1", "r2"]
    asked = queue.received[0]
    assert (asked["MaxNumberOfMessages"], asked["WaitTimeSeconds"]) == (10, 20)


def test_a_record_is_as_lambda_has_it() -> None:
    sent = {
        **message(1),
        "MD5OfMessageAttributes": "md5a",
        "MessageAttributes": {
            "kind": {"DataType": "String", "StringValue": "a"},
            "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
    }
    assert record(sent, ARN) == {
        "messageId": "m1",
        "receiptHandle": "r1",
        "body": "body 1",
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1"},
        "messageAttributes": {
            "kind": {"stringListValues": [], "binaryListValues": [], "dataType": "String", "stringValue": "a"},
            "raw": {"stringListValues": [], "binaryListValues": [], "dataType": "Binary", "binaryValue": "AP8="},
        },
        "md5OfBody": "md5",
        "md5OfMessageAttributes": "md5a",
        "eventSource": "aws:sqs",
        "eventSourceARN": ARN,
        "awsRegion": "us-east-1",
    }


def test_a_failed_batch_stays_in_the_queue() -> None:
    queue = Queue([[message(1), message(2)]])
    poll(queue, {"errorMessage": "no"}, error=True)
    assert queue.deleted == []


def test_a_throttled_batch_stays_in_the_queue() -> None:
    queue = Queue([[message(1)]])
    assert len(poll(queue, Throttled())) == 1
    assert queue.deleted == []
    assert queue.notes == []


def test_reported_items_stay_and_the_others_go() -> None:
    queue = Queue([[message(1), message(2), message(3)]])
    poll(queue, {"batchItemFailures": [{"itemIdentifier": "m2"}]}, report_batch_item_failures=True)
    assert queue.deleted == ["r1", "r3"]


def test_a_report_nobody_asked_for_is_not_read() -> None:
    queue = Queue([[message(1)]])
    poll(queue, {"batchItemFailures": [{"itemIdentifier": "m1"}]})
    assert queue.deleted == ["r1"]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"null", set()),
        (b"{}", set()),
        (b'{"batchItemFailures":[]}', set()),
        (b'{"batchItemFailures":null}', set()),
        (b'{"batchItemFailures":[{"itemIdentifier":"a"}]}', {"a"}),
        (b'{"batchItemFailures":[{"itemIdentifier":"c"}]}', None),
        (b'{"batchItemFailures":[{"itemIdentifier":""}]}', None),
        (b'{"batchItemFailures":[{"itemIdentifier":null}]}', None),
        (b'{"batchItemFailures":[{"wrongKey":"a"}]}', None),
        (b'{"batchItemFailures":{"itemIdentifier":"a"}}', None),
        (b'"done"', None),
        (b"not json", None),
    ],
)
def test_reports_well_and_badly_formed(payload: bytes, expected: set[str] | None) -> None:
    assert failed_items(payload, {"a", "b"}) == expected


def test_a_malformed_report_fails_the_whole_batch_and_says_so() -> None:
    queue = Queue([[message(1)]])
    poll(queue, {"batchItemFailures": [{"itemIdentifier": "who"}]}, report_batch_item_failures=True)
    assert queue.deleted == []
    assert "malformed" in queue.notes[0]


def test_messages_that_match_no_filter_are_deleted_unseen() -> None:
    queue = Queue([[message(1, '{"kind": "a"}'), message(2, '{"kind": "b"}'), message(3, "no json")]])
    events = poll(queue, filter_patterns=('{"body": {"kind": ["a"]}}',))
    assert [[each["messageId"] for each in event["Records"]] for event in events] == [["m1"]]
    assert sorted(queue.deleted) == ["r1", "r2", "r3"]


def test_a_batching_window_collects_up_to_the_batch_size() -> None:
    queue = Queue([[message(1)], [], [message(2)], [message(3)], [message(4)], [], [], []])
    events = poll(queue, batch_size=3, batching_window_s=3)
    assert [len(event["Records"]) for event in events] == [3, 1]


def test_a_batching_window_ends() -> None:
    queue = Queue([[message(1)], [], [], [message(2)], [], []])
    events = poll(queue, batch_size=10, batching_window_s=2)
    assert [len(event["Records"]) for event in events] == [1, 1]


def test_a_batch_size_over_ten_is_received_in_parts() -> None:
    queue = Queue([[message(n) for n in range(10)], [message(n) for n in range(10, 15)]])
    (event,) = poll(queue, batch_size=15, batching_window_s=5)
    assert len(event["Records"]) == 15
    assert len(queue.deleted) == 15
    assert [asked["MaxNumberOfMessages"] for asked in queue.received[:2]] == [10, 5]


def test_a_queue_that_does_not_answer_is_asked_again_later() -> None:
    queue = Queue([AwsUnavailable("gone"), AwsUnavailable("gone"), [message(1)], AwsUnavailable("gone")])
    events = poll(queue)
    assert len(events) == 1
    assert queue.slept == [1.0, 2.0, 1.0]
    assert "gone; again in 1 s" in queue.notes[0]


def test_no_more_batches_are_taken_than_may_run_at_once() -> None:
    queue = Queue([[message(1)], [message(2)], [message(3)]])

    async def main() -> list[int]:
        running, most = 0, [0]
        gate = asyncio.Event()

        async def invoke(function: str, event: bytes) -> InvocationResult:  # noqa: ARG001
            nonlocal running
            running += 1
            most.append(running)
            await gate.wait()
            running -= 1
            return InvocationResult("id", b"null", "ok")

        poller = SqsPoller(source(maximum_concurrency=2), queue, invoke, queue.notes.append)
        task = asyncio.ensure_future(poller.run())
        for _ in range(50):
            await asyncio.sleep(0)
        taken = len(queue.received)
        gate.set()
        await asyncio.wait_for(queue.over.wait(), 10)
        while poller._batches:  # noqa: ASYNC110 - turns of the loop, not time
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [max(most), taken]

    assert asyncio.run(main()) == [2, 2]
    assert len(queue.deleted) == 3


def test_a_filter_on_a_field_that_must_be_missing_keeps_messages_without_its_parent() -> None:
    bodies = ['{"kind": "sale"}', '{"kind": "sale", "meta": {}}', '{"kind": "sale", "meta": {"test": {"S": "yes"}}}']
    queue = Queue([[message(number, body) for number, body in enumerate(bodies)]])
    pattern = '{"body": {"kind": ["sale"], "meta": {"test": {"S": [{"exists": false}]}}}}'
    events = poll(queue, filter_patterns=(pattern,))
    assert [[each["messageId"] for each in event["Records"]] for event in events] == [["m0", "m1"]]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ('{"body": ["plain"]}', ["m0"]),
        ('{"body": [{"prefix": "{"}]}', []),
        ('{"body": {"a": [{"exists": false}]}}', ["m2"]),
        ('{"attributes": {"ApproximateReceiveCount": ["1"]}}', ["m0", "m1", "m2"]),
    ],
)
def test_a_body_pattern_wants_a_body_of_its_own_kind(pattern: str, wanted: list[str]) -> None:
    queue = Queue([[message(0, "plain"), message(1, '{"a": 1}'), message(2, '{"b": 1}')]])
    events = poll(queue, filter_patterns=(pattern,))
    assert [each["messageId"] for event in events for each in event["Records"]] == wanted


def test_a_filter_that_is_not_understood_deletes_nothing() -> None:
    queue = Queue([[message(1)]])
    with pytest.raises(PatternError, match="begins-with"):
        poll(queue, filter_patterns=('{"body": {"a": [{"begins-with": "x"}]}}',))
    assert queue.deleted == []
