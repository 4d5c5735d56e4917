"""Counting events in a queue of the local AWS."""

import json
from collections.abc import Iterator

import boto3
import pytest
from warmfront.backing.aws import Aws
from warmfront.lab.outbox_procedures import Events, _drain


@pytest.fixture(scope="module")
def endpoint_url() -> Iterator[str]:
    with Aws.start({}) as server:
        yield server.endpoint_url


def test_every_message_is_counted_once_and_dead_letters_are_not(endpoint_url: str) -> None:
    sqs = boto3.session.Session("local", "local", region_name="us-east-1").client("sqs", endpoint_url=endpoint_url)
    for name in ("shop-orders-dead", "shop-orders", "mail"):
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        for number in range(12):
            sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"subject": number % 11, "of": name}))
    met = _drain(endpoint_url, Events(request={}, queue="orders"))
    assert met == {str(number): 1 + (number == 0) for number in range(11)}
