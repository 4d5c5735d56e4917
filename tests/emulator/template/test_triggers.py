"""Resources that would start a function on AWS are listed, each with what to use in its place."""

from pathlib import Path

import pytest
from warmfront.emulator.template import load_template
from warmfront.emulator.unserved import grouped, unserved

HEAD = """\
Parameters: {Email: {Type: String}}
Resources:
  F: {Type: AWS::Serverless::Function, Properties: {InlineCode: x, Handler: index.handler, Runtime: python3.13}}
"""
FUNCTION = "!GetAtt F.Arn"
INSTEAD = "; instead: try it with `warmfront invoke FUNCTION --event FILE`"


@pytest.mark.parametrize(
    ("kind", "properties", "said"),
    [
        ("SNS::Topic", f"Subscription: [{{Protocol: lambda, Endpoint: {FUNCTION}}}]", "SNS subscriptions"),
        ("SNS::Subscription", f"TopicArn: a, Protocol: lambda, Endpoint: {FUNCTION}", "SNS subscriptions"),
        (
            "S3::Bucket",
            f"NotificationConfiguration: {{LambdaConfigurations: [{{Event: x, Function: {FUNCTION}}}]}}",
            "S3 notifications",
        ),
        ("Cognito::UserPool", f"LambdaConfig: {{PreSignUp: {FUNCTION}}}", "Cognito does not call"),
        ("Pipes::Pipe", f"Source: a, Target: {FUNCTION}", "pipes"),
        ("Logs::SubscriptionFilter", f"DestinationArn: {FUNCTION}", "log subscriptions"),
        ("Events::Rule", f"EventPattern: {{source: [a]}}, Targets: [{{Id: a, Arn: {FUNCTION}}}]", "EventBridgeRule"),
        (
            "Lambda::EventSourceMapping",
            "FunctionName: !Ref F, EventSourceArn: 'arn:aws:kinesis:a:1:stream/s'",
            "Kinesis",
        ),
        ("Lambda::EventSourceMapping", "FunctionName: !Ref F, EventSourceArn: 'arn:aws:dynamodb:a:1:t/s'", "DynamoDB"),
    ],
)
def test_what_would_start_a_function_is_listed(tmp_path: Path, kind: str, properties: str, said: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(f"{HEAD}  X: {{Type: AWS::{kind}, Properties: {{{properties}}}}}\n")
    (line,) = grouped(unserved(load_template(path)))
    assert said in line
    assert "X: " in line
    assert line.endswith(INSTEAD)


@pytest.mark.parametrize(
    ("kind", "properties"),
    [
        ("SNS::Topic", "Subscription: [{Protocol: sqs, Endpoint: a}]"),
        ("SNS::Subscription", "TopicArn: a, Protocol: sqs, Endpoint: a"),
        ("S3::Bucket", "NotificationConfiguration: {QueueConfigurations: [{Event: x, Queue: a}]}"),
        ("Pipes::Pipe", "Source: a, Target: 'arn:aws:sqs:a:1:q'"),
        ("SNS::Topic", "Subscription: [{Protocol: email, Endpoint: !Ref Email}]"),  # a parameter without a value
    ],
)
def test_what_starts_no_function_is_not_listed(tmp_path: Path, kind: str, properties: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(f"{HEAD}  X: {{Type: AWS::{kind}, Properties: {{{properties}}}}}\n")
    assert grouped(unserved(load_template(path))) == []
