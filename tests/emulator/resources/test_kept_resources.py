"""Tables, objects, secrets, parameters and records stay between two runs; --ephemeral keeps none."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.serving import Served, serve

TEMPLATE = """Transform: AWS::Serverless-2016-10-31
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      BillingMode: PAY_PER_REQUEST
  Bucket: {Type: AWS::S3::Bucket}
  Stream: {Type: AWS::Kinesis::Stream, Properties: {ShardCount: 1}}
  Secret: {Type: AWS::SecretsManager::Secret, Properties: {GenerateSecretString: {PasswordLength: 12}}}
  Parameter: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: VALUE}}
  Use:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      CodeUri: .
      Handler: app.handler
      Timeout: 30
      Environment:
        Variables: {TABLE: !Ref Table, BUCKET: !Ref Bucket, STREAM: !Ref Stream, SECRET: !Ref Secret, PARAMETER: !Ref Parameter}
"""
CODE = """
import os
import boto3

def handler(event, context):
    table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
    s3, kinesis, ssm = boto3.client("s3"), boto3.client("kinesis"), boto3.client("ssm")
    if event:
        table.put_item(Item={"id": event["id"]})
        s3.put_object(Bucket=os.environ["BUCKET"], Key=event["id"], Body=b"x" * 1000)
        kinesis.put_record(StreamName=os.environ["STREAM"], Data=event["id"].encode(), PartitionKey="k")
        ssm.put_parameter(Name="/own/" + event["id"], Value="own", Type="String")
    shard = kinesis.list_shards(StreamName=os.environ["STREAM"])["Shards"][0]["ShardId"]
    start = kinesis.get_shard_iterator(StreamName=os.environ["STREAM"], ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    return {
        "items": sorted(each["id"] for each in table.scan()["Items"]),
        "objects": [each["Key"] for each in s3.list_objects_v2(Bucket=os.environ["BUCKET"]).get("Contents", [])],
        "records": [each["Data"].decode() for each in kinesis.get_records(ShardIterator=start["ShardIterator"])["Records"]],
        "secret": boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["SECRET"])["SecretString"],
        "parameter": ssm.get_parameter(Name=os.environ["PARAMETER"])["Parameter"]["Value"],
        "own": [each["Name"] for each in ssm.get_parameters_by_path(Path="/own")["Parameters"]],
    }
"""


def write(folder: Path, *, value: str = "first", key: str = "id") -> Path:
    text = TEMPLATE.replace("VALUE", value).replace("AttributeName: id", f"AttributeName: {key}")
    (folder / "template.yaml").write_text(text)
    (folder / "app.py").write_text(CODE)
    return folder / "template.yaml"


def invoke(served: Served, event: object) -> Any:
    answer = served.client().invoke(FunctionName="Use", Payload=json.dumps(event))
    payload = json.load(answer["Payload"])
    assert "FunctionError" not in answer, payload
    return payload


@pytest.mark.slow
def test_data_stay_between_runs_and_the_template_still_counts(tmp_path: Path) -> None:
    template = write(tmp_path)
    with serve(template, kept=True) as served:
        first = invoke(served, {"id": "a"})
    assert (first["items"], first["objects"], first["records"], first["own"]) == (["a"], ["a"], ["a"], ["/own/a"])
    write(tmp_path, value="second")
    with serve(template, kept=True) as served:
        again = invoke(served, {})
        assert not [line for line in served.lines if "not in the local AWS" in line]
    assert again == {**first, "parameter": "second"}
    with serve(template) as served:
        empty = invoke(served, {})
    assert (empty["items"], empty["objects"], empty["records"], empty["own"]) == ([], [], [], [])
    assert empty["secret"] != first["secret"]


@pytest.mark.slow
def test_a_killed_run_keeps_what_it_has_saved_and_a_damaged_file_stops_no_start(tmp_path: Path) -> None:
    template = write(tmp_path)
    file = tmp_path / ".warmfront/data/aws/moto.pickle"
    with serve(template, kept=True) as served:
        invoke(served, {"id": "a"})
        size = file.stat().st_size if file.exists() else 0
        served.until(lambda: file.exists() and file.stat().st_size > max(size, 2000))
        served.stop(signal.SIGKILL)
    with serve(template, kept=True) as served:
        assert invoke(served, {})["items"] == ["a"]
    file.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    with serve(template, kept=True) as served:
        assert invoke(served, {})["items"] == []
    assert not (tmp_path / "owned").exists(), "a file in a project's folder calls nothing"


@pytest.mark.slow
def test_a_table_with_other_keys_begins_empty(tmp_path: Path) -> None:
    with serve(write(tmp_path), kept=True) as served:
        invoke(served, {"id": "a"})
    with serve(write(tmp_path, key="number"), kept=True) as served:
        assert invoke(served, {})["items"] == []
