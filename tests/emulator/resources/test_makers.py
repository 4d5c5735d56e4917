"""Generated secrets, the order in which resources are made, and a resource that cannot be made."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
from warmfront.emulator.resources.document import Document
from warmfront.emulator.resources.makers import generated_secret

from tests.emulator.serving import serve


@pytest.mark.parametrize(
    ("wish", "allowed", "length"),
    [
        ({}, string.ascii_letters + string.digits + string.punctuation, 32),
        ({"PasswordLength": 9, "ExcludePunctuation": True}, string.ascii_letters + string.digits, 9),
        (
            {"ExcludePunctuation": "true", "ExcludeNumbers": "true", "ExcludeUppercase": True},
            string.ascii_lowercase,
            32,
        ),
        ({"ExcludeCharacters": string.punctuation + "abc0"}, string.ascii_letters + string.digits, 32),
        ({"ExcludePunctuation": True, "IncludeSpace": True}, string.ascii_letters + string.digits + " ", 32),
    ],
)
def test_a_generated_password(wish: dict[str, Any], allowed: str, length: int) -> None:
    made = generated_secret(wish)
    assert len(made) == length
    assert set(made) <= set(allowed) - set(wish.get("ExcludeCharacters", ""))
    assert made != generated_secret(wish)


def test_each_included_type_occurs_unless_that_is_not_required() -> None:
    for _ in range(50):
        made = generated_secret({"PasswordLength": 4})
        assert all(set(made) & set(each) for each in (string.ascii_lowercase, string.ascii_uppercase, string.digits))
    assert len(generated_secret({"PasswordLength": 2})) == 2


def test_a_template_of_a_secret_gets_the_password_under_its_key() -> None:
    made = json.loads(generated_secret({"SecretStringTemplate": '{"user": "a"}', "GenerateStringKey": "pass"}))
    assert made["user"] == "a"
    assert len(made["pass"]) == 32


def test_nothing_left_to_choose_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="excludes every character"):
        generated_secret({"ExcludeCharacters": string.printable})


def test_resources_come_after_what_they_refer_to(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(
        """Resources:
  Last: {Type: AWS::SSM::Parameter, DependsOn: Middle, Properties: {Type: String, Value: !Sub "${Table}"}}
  Middle: {Type: AWS::SQS::Queue, Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt First.Arn, maxReceiveCount: 1}}}
  First: {Type: AWS::SQS::Queue}
  Table: {Type: AWS::DynamoDB::Table, Properties: {TableName: !Ref Circle}}
  Circle: {Type: AWS::SNS::Topic, Properties: {TopicName: !Ref Table}}
  Never: {Type: AWS::SQS::Queue, Condition: Unmet}
  Role: {Type: AWS::IAM::Role}
Conditions: {Unmet: !Equals [a, b]}
"""
    )
    planned = Document(tmp_path / "template.yaml", {}, "us-east-1", {}).planned()
    assert sorted(planned) == ["Circle", "First", "Last", "Middle", "Table"]
    assert planned.index("First") < planned.index("Middle") < planned.index("Last")
    assert planned.index("Table") < planned.index("Last")


@pytest.mark.slow
def test_a_resource_that_cannot_be_made_is_named_and_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, boto3\n"
        "def handler(event, context):\n"
        "    names = boto3.client('sqs').list_queues().get('QueueUrls', [])\n"
        "    return sorted(name.rpartition('/')[2] for name in names)\n"
    )
    (tmp_path / "template.yaml").write_text(
        """Transform: AWS::Serverless-2016-10-31
Resources:
  BadTable: {Type: AWS::DynamoDB::Table, Properties: {BillingMode: PAY_PER_REQUEST}}
  BadQueue: {Type: AWS::SQS::Queue, Properties: {VisibilityTimeout: 99999999}}
  BadMachine: {Type: AWS::Serverless::StateMachine, Properties: {DefinitionUri: nowhere.json}}
  Good: {Type: AWS::SQS::Queue}
  List:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, CodeUri: ., Handler: app.handler, Timeout: 20}
"""
    )
    with serve(tmp_path / "template.yaml") as served:
        answer = served.client().invoke(FunctionName="List", Payload="{}")
        assert "Good" in json.load(answer["Payload"])
        for name in ("BadTable", "BadMachine"):
            assert served.wait_for(f"Resources/{name} ")
        assert "nowhere.json" in served.wait_for("Resources/BadMachine")
