"""An order wakes the relay through a queue, and loses nothing if that queue cannot be reached."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from warmfront.backing.aws import Aws
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis

from shared.kit import environment
from shared.kit.circuit import State
from tests.functions.conftest import Context, Function, distributed_environ, load, shop_environ
from tests.functions.test_relay import AWS_ENVIRON, BODY, received

REGION = {"AWS_REGION": "eu-central-1", **AWS_ENVIRON}


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with Aws.start() as aws:
        yield aws


@pytest.fixture
def sqs(aws: Aws) -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=aws.endpoint_url,
        region_name="eu-central-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


@pytest.fixture
def queues(sqs: Any) -> Iterator[dict[str, str]]:
    urls = {
        "nudges": sqs.create_queue(QueueName="nudges")["QueueUrl"],
        "events": sqs.create_queue(QueueName="events.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"],
    }
    yield urls
    for url in urls.values():
        sqs.delete_queue(QueueUrl=url)


def distributed_with(server: Postgres, redis: Redis, **values: str) -> Function:
    patient = {"SHOP_REDIS_TIMEOUT_MS": "5000", "SHOP_REDIS_CONNECT_TIMEOUT_MS": "5000"}
    environ = distributed_environ(server, redis) | REGION | patient | values
    return load("distributed", "functions.distributed.app", environ)


@pytest.fixture(autouse=True)
def fresh(migrate: Function) -> Iterator[None]:
    migrate.invoke({"action": "reset", "databases": ["distributed"]})
    yield
    environment.reset()


def place(function: Function, key: str) -> Any:
    return function.request("POST", "/orders", body=BODY, headers={"idempotency-key": key})


def test_an_order_wakes_the_relay_and_its_event_leaves_with_that_run(
    server: Postgres, redis: Redis, aws: Aws, sqs: Any, queues: dict[str, str]
) -> None:
    here = {"AWS_ENDPOINT_URL": aws.endpoint_url}
    distributed = distributed_with(server, redis, SHOP_NUDGE_QUEUE_URL=queues["nudges"], **here)
    placed = place(distributed, "one")
    assert placed.status == 201
    nudges = sqs.receive_message(QueueUrl=queues["nudges"])["Messages"]
    assert [nudge["Body"] for nudge in nudges] == ["nudge"]
    environ = shop_environ(server, "distributed") | REGION | here | {"SHOP_EVENTS_QUEUE_URL": queues["events"]}
    relay = load("relay", "functions.relay.app", environ | {"SHOP_STATEMENT_TIMEOUT_MS": "20000"})
    report = relay.invoke({"Records": [{"eventSource": "aws:sqs", "body": "nudge"}]}, Context(60_000))
    assert report["published"] == 1
    (event,) = received(sqs, queues["events"])
    assert event["data"] == placed.json


def test_an_answer_that_is_only_repeated_wakes_nobody(
    server: Postgres, redis: Redis, aws: Aws, sqs: Any, queues: dict[str, str]
) -> None:
    distributed = distributed_with(
        server, redis, SHOP_NUDGE_QUEUE_URL=queues["nudges"], AWS_ENDPOINT_URL=aws.endpoint_url
    )
    assert [place(distributed, "same").status for _ in range(2)] == [201, 201]
    assert len(sqs.receive_message(QueueUrl=queues["nudges"], MaxNumberOfMessages=10)["Messages"]) == 1


def test_a_queue_that_cannot_be_reached_costs_no_order_and_is_soon_left_alone(server: Postgres, redis: Redis) -> None:
    nowhere = {"SHOP_NUDGE_QUEUE_URL": "https://sqs.invalid/1/nudges", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    distributed = distributed_with(server, redis, **nowhere)
    assert [place(distributed, f"key {number}").status for number in range(5)] == [201] * 5
    assert distributed.module.nudge().breaker.state is State.OPEN


def test_a_request_that_has_no_time_left_sends_no_nudge(server: Postgres, redis: Redis) -> None:
    nowhere = {"SHOP_NUDGE_QUEUE_URL": "https://sqs.invalid/1/nudges", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    distributed = distributed_with(server, redis, **nowhere)
    place(distributed, "warm")
    calls = distributed.module.nudge().breaker.snapshot().calls
    context = Context(1_900)  # of which the nudge would want two seconds
    headers = {"idempotency-key": "hurried"}
    assert distributed.request("POST", "/orders", body=BODY, headers=headers, context=context).status == 201
    assert distributed.module.nudge().breaker.snapshot().calls == calls
