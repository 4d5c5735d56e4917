"""FIFO queues of the local AWS take duplicates as SQS does."""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from warmfront.backing.aws import Aws
from warmfront.backing.fifo_queues import WINDOW_MS, Sent

from .test_backing_aws import client


@pytest.fixture(scope="module")
def sqs(environ: Mapping[str, str]) -> Iterator[Any]:
    with Aws.start(environ) as server:
        yield client(server, "sqs")


def queue(sqs: Any, name: str, **attributes: str) -> str:
    made = sqs.create_queue(
        QueueName=f"{name}.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true", **attributes}
    )
    url: str = made["QueueUrl"]
    return url


def received(sqs: Any, url: str, **settings: Any) -> list[Any]:
    messages: list[Any] = sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"], **settings
    ).get("Messages", [])
    return messages


@pytest.mark.parametrize(("scope", "groups"), [("messageGroup", ["a", "b", "c"]), ("queue", ["a"])])
@pytest.mark.parametrize("explicit", [{}, {"MessageDeduplicationId": "mine"}])
def test_equal_bodies_are_delivered_once_per_scope(
    sqs: Any, scope: str, groups: list[str], explicit: dict[str, str]
) -> None:
    url = queue(sqs, f"scope-{scope}-{len(explicit)}", DeduplicationScope=scope)
    for group in "aabc":
        sqs.send_message(QueueUrl=url, MessageBody="same", MessageGroupId=group, **explicit)
    assert [each["Attributes"]["MessageGroupId"] for each in received(sqs, url)] == groups


@pytest.mark.parametrize("batch", [False, True])
def test_a_duplicate_is_answered_with_the_first_send(sqs: Any, batch: bool) -> None:
    url = queue(sqs, f"answer-{batch}")

    def send(body: str) -> tuple[str, str]:
        if batch:
            entry = {"Id": "1", "MessageBody": body, "MessageGroupId": "a"}
            (answer,) = sqs.send_message_batch(QueueUrl=url, Entries=[entry])["Successful"]
        else:
            answer = sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="a")
        return answer["MessageId"], answer["SequenceNumber"]

    first, again, other = send("same"), send("same"), send("other")
    assert again == first
    assert other[0] != first[0]
    assert len(first[1]) == 20
    assert other[1] > first[1]
    (message, _) = received(sqs, url)
    assert (message["MessageId"], message["Attributes"]["SequenceNumber"]) == first


def test_a_deleted_message_still_counts(sqs: Any) -> None:
    url = queue(sqs, "deleted")
    sqs.send_message(QueueUrl=url, MessageBody="same", MessageGroupId="a")
    (message,) = received(sqs, url)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    sqs.send_message(QueueUrl=url, MessageBody="same", MessageGroupId="a")
    assert received(sqs, url) == []


def test_equal_messages_of_two_groups_both_reach_the_dead_letter_queue(sqs: Any) -> None:
    dead = queue(sqs, "dead")
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 1}}'
    url = queue(sqs, "failing", DeduplicationScope="messageGroup", RedrivePolicy=policy)
    for group in "ab":
        sqs.send_message(QueueUrl=url, MessageBody="same", MessageGroupId=group)
    assert len(received(sqs, url, VisibilityTimeout=0)) == 2
    assert received(sqs, url) == []
    assert {each["Attributes"]["MessageGroupId"] for each in received(sqs, dead)} == {"a", "b"}


def message(name: str, sent_ms: float) -> Any:
    return SimpleNamespace(id=name, deduplication_id="d", group_id="a", sent_timestamp=sent_ms, sequence_number=None)


def test_the_five_minutes_run_from_the_first_send() -> None:
    sent = Sent()
    assert sent.take(message("first", 1000), "queue")
    assert not sent.take(message("duplicate", 1000 + WINDOW_MS - 1), "queue")
    assert sent.take(message("later", 1000 + WINDOW_MS), "queue")
    assert len(sent.first) == 1, "what is past is forgotten"
