"""One region and one set of credentials for everything, and no call that leaves this machine by accident."""

import asyncio
import configparser
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from warmfront.emulator.aws_access import HostCredentials, choose_region
from warmfront.emulator.no_aws import refusing_aws
from warmfront.emulator.options import StartError

from tests.emulator.serving import serve

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Failing:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: index.handler
      InlineCode: |
        import os
        def handler(event, context):
            return [context.invoked_function_arn, os.environ["AWS_REGION"], os.environ["AWS_DEFAULT_REGION"],
                    os.environ["TOPIC"], os.environ["AWS_ACCESS_KEY_ID"]]
      Environment: {Variables: {TOPIC: !Sub "arn:aws:sns:${AWS::Region}:x:y"}}
      DeadLetterQueue: {Type: SQS, TargetArn: !GetAtt Letters.Arn}
  Letters:
    Type: AWS::SQS::Queue
"""


def write_config(folder: Path, **regions: str) -> Mapping[str, str]:
    file = configparser.ConfigParser()
    for profile, region in regions.items():
        file["default" if profile == "default" else f"profile {profile}"] = {"region": region}
    with (folder / "config").open("w") as stream:
        file.write(stream, space_around_delimiters=True)
    return {"AWS_CONFIG_FILE": str(folder / "config")}


def test_the_region_is_taken_in_the_order_option_variables_profile_default(tmp_path: Path) -> None:
    config = write_config(tmp_path, default="eu-south-1", work="eu-north-1")
    everything = {**config, "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2", "AWS_PROFILE": "work"}
    assert choose_region("eu-west-3", everything) == "eu-west-3"
    assert choose_region(None, everything) == "eu-west-1"
    assert choose_region(None, {**everything, "AWS_REGION": ""}) == "eu-west-2"
    assert choose_region(None, {**config, "AWS_PROFILE": "work"}) == "eu-north-1"
    assert choose_region(None, config) == "eu-south-1"
    assert choose_region(None, config, profile="work") == "eu-north-1"
    assert choose_region(None, {**config, "AWS_PROFILE": "unknown"}) == "us-east-1"
    assert choose_region(None, {}) == "us-east-1"


def test_a_broken_configuration_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("region = eu-west-1\n")
    with pytest.raises(StartError, match=r"config: .*; correct it, or choose with --region"):
        choose_region(None, {"AWS_CONFIG_FILE": str(tmp_path / "config")})


def test_one_region_reaches_arns_handlers_the_template_and_the_local_aws(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    shell = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2", "AWS_ACCESS_KEY_ID": "AKIAREAL"}
    with serve(tmp_path / "template.yaml", environ=shell) as served:
        answer = json.load(served.client().invoke(FunctionName="Failing")["Payload"])
        assert answer == [
            "arn:aws:lambda:eu-west-1:123456789012:function:Failing",
            "eu-west-1",
            "eu-west-1",
            "arn:aws:sns:eu-west-1:x:y",
            "local",
        ]
    with serve(tmp_path / "template.yaml", "--region", "ap-south-1", environ=shell) as served:
        assert "ap-south-1" in json.load(served.client().invoke(FunctionName="Failing")["Payload"])[0]


CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "sqs": ("list_queues", {}),
    "sns": ("list_topics", {}),
    "s3": ("put_object", {"Bucket": "b", "Key": "k", "Body": b"x" * 100_000}),
    "dynamodb": ("list_tables", {}),
    "secretsmanager": ("get_secret_value", {"SecretId": "s"}),
    "lambda": ("list_functions", {}),
    "ec2": ("describe_regions", {}),
    "events": ("put_events", {"Entries": []}),
}


@pytest.mark.parametrize("service", sorted(CALLS))
def test_without_an_aws_every_client_gets_an_error_that_says_what_to_do(service: str) -> None:
    operation, parameters = CALLS[service]

    def call(endpoint: str) -> None:
        session = boto3.Session("local", "local", "local", region_name="eu-west-1")
        client = session.client(service, endpoint_url=endpoint, config=Config(parameter_validation=False))
        try:
            getattr(client, operation)(**parameters)
        finally:
            client.close()

    async def run() -> None:
        async with refusing_aws() as endpoint:
            await asyncio.to_thread(call, endpoint)

    with pytest.raises(ClientError) as caught:
        asyncio.run(run())
    assert caught.value.response["Error"]["Code"] == "NoAwsHere"
    assert "--aws local" in caught.value.response["Error"]["Message"]
    assert f"(service {service})" in caught.value.response["Error"]["Message"]
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 0


def test_a_handler_without_an_aws_reaches_none(tmp_path: Path) -> None:
    code = "import os\ndef handler(event, context):\n    return os.environ['AWS_ENDPOINT_URL']\n"
    (tmp_path / "app.py").write_text(code)
    (tmp_path / "template.yaml").write_text(
        "Resources: {F: {Type: AWS::Serverless::Function, Properties: "
        "{Runtime: python3.13, Handler: app.handler, CodeUri: .}}}"
    )
    with serve(tmp_path / "template.yaml") as served:
        endpoint = json.load(served.client().invoke(FunctionName="F")["Payload"])
        client = boto3.client(
            "sqs", endpoint_url=endpoint, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        with pytest.raises(ClientError, match="NoAwsHere"):
            client.list_queues()
        client.close()


def test_real_credentials_come_from_the_whole_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential process, as an example of what is in no variable."""
    program = tmp_path / "credentials"
    program.write_text(
        '#!/bin/sh\necho \'{"Version": 1, "AccessKeyId": "AKIA1", "SecretAccessKey": "s", "SessionToken": "t"}\'\n'
    )
    program.chmod(0o755)
    (tmp_path / "config").write_text(f"[profile work]\nregion = eu-north-1\ncredential_process = {program}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = HostCredentials("eu-north-1", "work")
    assert found.variables() == {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
    assert found.session().region_name == "eu-north-1"
    with pytest.raises(StartError, match="no AWS credentials found"):
        HostCredentials("eu-north-1", None).variables()
    with pytest.raises(StartError, match=r"--aws real: The config profile \(nobody\) could not be found"):
        HostCredentials("eu-north-1", "nobody").variables()
