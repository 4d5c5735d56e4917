"""Templates of the shapes that SAM's Python quick starts have run as they are."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.emulator.serving import CREDENTIALS, TEMPLATES, Served, serve


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(TEMPLATES / "quickstarts/template.yaml", "--json", ready='{"urls": ') as emulator:
        emulator.url = start(emulator)["urls"][0]
        yield emulator


def start(served: Served) -> Any:
    """What is said at the start."""
    return next(json.loads(line) for line in served.lines if line.startswith('{"urls"'))


def urls(served: Served) -> dict[str, str]:
    """Route -> the address of its API, from what is said at the start."""
    return {route["key"]: route["url"] for function in start(served)["functions"] for route in function["routes"]}


def get(url: str) -> Any:
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def invoke(served: Served, name: str, event: object) -> Any:
    return json.load(served.client().invoke(FunctionName=name, Payload=json.dumps(event))["Payload"])


def test_the_rest_hello_world(served: Served) -> None:
    base = urls(served)["GET /hello"]
    assert get(f"{base}/Prod/hello") == {"message": "hello world", "path": "/hello", "method": "GET"}


def test_a_nested_handler_behind_an_http_api(served: Served) -> None:
    base = urls(served)["GET /items/{id}"]
    assert get(f"{base}/items/1") == {"id": "1", "item": "one", "route": "GET /items/{id}"}


def test_a_layer_and_a_requirements_file(served: Served) -> None:
    assert invoke(served, "GreetingFunction", {"name": "you"}) == "hello you"


def test_a_queue(served: Served) -> None:
    port = served.get("/_warmfront/state")["backing"]["aws"]["port"]
    sqs = boto3.client("sqs", endpoint_url=f"http://127.0.0.1:{port}", **CREDENTIALS)
    (url,) = sqs.list_queues()["QueueUrls"]
    sqs.send_message(QueueUrl=url, MessageBody="first")
    assert json.loads(served.wait_for('"received"')) == {"received": ["first"]}
    sqs.close()


def test_a_schedule_can_be_tried_by_hand(served: Served) -> None:
    assert invoke(served, "ScheduledLogger", {"detail-type": "Scheduled Event"}) is None
    assert any("cron(0 0 1 1 ? 2199) -> ScheduledLogger" in line for line in served.lines)
