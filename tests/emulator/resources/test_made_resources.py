"""Resources of a template exist in the local AWS, and a handler reaches each through its environment variable."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.emulator.serving import TEMPLATES, Served, serve


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(TEMPLATES / "resources/template.yaml") as emulator:
        yield emulator


def ask(served: Served, check: str) -> Any:
    request = urllib.request.Request(f"{served.url}/{check}", data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_tables_have_their_time_to_live_and_their_stream(served: Served) -> None:
    assert ask(served, "table") == {
        "item": {"id": "1", "name": "one"},
        "ttl": ["expires", "ENABLED"],
        "simple": 1,
        "stream": "NEW_AND_OLD_IMAGES",
    }


def test_a_topic_delivers_to_a_queue_what_the_filter_lets_through(served: Served) -> None:
    ask(served, "drain")
    assert ask(served, "topic") == ["sale"]


def test_a_bus_delivers_what_its_rule_matches(served: Served) -> None:
    ask(served, "drain")
    assert ask(served, "bus") == {"failed": 0, "delivered": [{"price": 50}]}


def test_a_bucket_keeps_versions_and_notifies_a_queue(served: Served) -> None:
    ask(served, "drain")
    found = ask(served, "bucket")
    assert (found["text"], found["versions"]) == ("text", "Enabled")
    (record,) = json.loads(found["told"][-1])["Records"]
    assert record["s3"]["object"]["key"] == "a.txt"


def test_a_queue_has_every_attribute_of_the_template(served: Served) -> None:
    found = ask(served, "queue")
    redrive = json.loads(found["attributes"].pop("RedrivePolicy"))
    assert found["attributes"] == {"VisibilityTimeout": "7", "ReceiveMessageWaitTimeSeconds": "1"}
    assert redrive == {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:Dead", "maxReceiveCount": 2}
    assert found["fifo"] == {
        "ContentBasedDeduplication": "true",
        "DeduplicationScope": "messageGroup",
        "FifoThroughputLimit": "perMessageGroupId",
    }
    assert found["waiting"] == 1, "the second message has the body of the first"


def test_a_parameter_is_there_and_resolves_a_template_parameter(served: Served) -> None:
    assert ask(served, "parameter") == {"value": "hello", "resolved": "hello"}


def test_a_secret_has_a_generated_string_and_resolves_a_dynamic_reference(served: Served) -> None:
    assert ask(served, "secret") == {"user": "app", "length": 20, "same": True}


def test_a_stream_takes_and_gives_records(served: Served) -> None:
    assert ask(served, "stream") == ["one"]


def test_a_state_machine_has_its_definition_from_a_file_with_substitutions(served: Served) -> None:
    assert ask(served, "machine") == {
        "result": {"topic": "arn:aws:sns:us-east-1:123456789012:Topic"},
        "started": True,
    }


def test_what_the_local_aws_lacks_is_named_with_its_path_and_nothing_else_is(served: Served) -> None:
    named = [line for line in served.lines if "not in the local AWS" in line]
    assert len(named) == 1
    assert "Resources/Pipe (AWS::Pipes::Pipe) is not in the local AWS" in named[0]


def test_progress_is_shown(served: Served) -> None:
    assert served.wait_for("making the template's resources")
    assert "2 Table" in served.wait_for("resources  3 Queue")
