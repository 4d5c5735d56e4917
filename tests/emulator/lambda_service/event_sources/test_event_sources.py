"""Queues, schedules, destinations and dead letters against the local AWS, from `warmfront serve` to the last message."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.emulator.harness import PATIENCE_S
from tests.emulator.serving import CREDENTIALS, TEMPLATES, Served, serve


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="module")
def due() -> datetime:
    """When the schedule fires: late enough for everything to have started."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=12)


@pytest.fixture(scope="module")
def served(notes: Path, due: datetime) -> Iterator[Served]:
    variables = {name: {"NOTES": str(notes / name)} for name in ("Worker", "Clock")}
    (notes / "variables.json").write_text(json.dumps(variables))
    options = [
        "--no-private-mounts",  # its handlers write into a folder of this machine
        "--env-vars",
        str(notes / "variables.json"),
        "--parameter-overrides",
        f"When=at({due:%Y-%m-%dT%H:%M:%S})",
    ]
    with serve(TEMPLATES / "sources.yaml", *options) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def aws(served: Served) -> Any:
    """boto3 clients of the local AWS by name."""
    port = served.get("/_warmfront/state")["backing"]["aws"]["port"]
    return lambda name: boto3.client(name, endpoint_url=f"http://127.0.0.1:{port}", **CREDENTIALS)


def take(sqs: Any, queue: str) -> dict[str, Any]:
    """One message of a queue that is expected to get one."""
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5, MessageAttributeNames=["All"])
        for message in answer.get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return dict(message)
    raise AssertionError(f"no message came to {queue}")


def noted(served: Served, path: Path, count: int) -> list[dict[str, Any]]:
    """Lines of a handler's notes, once there are so many: each invocation that adds one ends with a line on the terminal."""
    since = 0
    while not path.exists() or len(path.read_text().splitlines()) < count:
        served.wait_for("REPORT RequestId", since=since)
        since = next(i for i, line in enumerate(served.lines[since:], since) if "REPORT RequestId" in line) + 1
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_local_aws_is_started_and_listed(served: Served) -> None:
    assert served.get("/_warmfront/state")["backing"]["aws"]["origin"] == "moto"
    assert any(line.startswith("aws ") for line in served.lines)
    assert any(line.endswith("queue jobs -> Worker") for line in served.lines)
    assert any(line.startswith("source ") and line.endswith("-> Clock") for line in served.lines)


def test_a_message_reaches_the_function_and_one_that_fails_is_buried(served: Served, notes: Path, aws: Any) -> None:
    answer = served.client().invoke(FunctionName="Sender", Payload=json.dumps("fine"))
    assert answer["Payload"].read() == b'"sent"', "AWS_ENDPOINT_URL leads handlers to the local AWS"
    served.client().invoke(FunctionName="Sender", Payload=json.dumps("fail always"))
    assert take(aws("sqs"), "buried")["Body"] == "fail always"
    seen = noted(served, notes / "Worker", 3)
    assert [note for note in seen if note["body"] == "fine"] == [{"body": "fine", "count": "1"}]
    assert [note["count"] for note in seen if note["body"] == "fail always"] == ["1", "2"]


def test_a_failed_event_goes_to_its_destination_and_to_its_dead_letter_queue(served: Served, aws: Any) -> None:
    answer = served.client().invoke(FunctionName="Fails", Payload=b'{"n": 1}', InvocationType="Event")
    request_id = answer["ResponseMetadata"]["RequestId"]
    record = json.loads(take(aws("sqs"), "records")["Body"])
    assert record["requestContext"]["requestId"] == request_id
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestPayload"] == {"n": 1}
    assert record["responsePayload"]["errorType"] == "ValueError"
    letter = take(aws("sqs"), "letters")
    assert json.loads(letter["Body"]) == {"n": 1}
    attributes = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert attributes == {"RequestID": request_id, "ErrorCode": "200", "ErrorMessage": "boom"}


def test_a_success_is_published_to_a_topic(served: Served, aws: Any) -> None:
    sqs = aws("sqs")
    url = sqs.create_queue(QueueName="listens")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws("sns").subscribe(TopicArn="arn:aws:sns:us-east-1:123456789012:done", Protocol="sqs", Endpoint=arn)
    served.client().invoke(FunctionName="Works", Payload=b'"well done"', InvocationType="Event")
    record = json.loads(json.loads(take(sqs, "listens")["Body"])["Message"])
    assert record["requestContext"]["condition"] == "Success"
    assert record["responsePayload"] == "well done"


def test_a_schedule_fires_when_it_is_due(served: Served, notes: Path, due: datetime) -> None:
    (note,) = noted(served, notes / "Clock", 1)
    assert note["event"] == {"from": "the schedule"}
    assert datetime.now(UTC) >= due
