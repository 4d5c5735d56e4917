"""AWS::LanguageExtensions: Ref and Fn::GetAtt whose name is a call itself."""

from pathlib import Path

import pytest
from warmfront.emulator.template import SqsSource, load_template

HEAD = """\
Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]
Parameters: {Name: {Type: String, Default: Orders}, Which: {Type: String, Default: Name}, Missing: {Type: String}}
Resources:
  QOrders: {Type: AWS::SQS::Queue}
  F:
    Type: AWS::Serverless::Function
    Properties: {InlineCode: x, Handler: index.handler, Runtime: python3.13%s}
"""
ARN = "arn:aws:sqs:us-east-1:123456789012:QOrders"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"Fn::GetAtt": [!Sub "Q${Name}", Arn]}', ARN),
        ('{"Fn::GetAtt": [!Join ["", [Q, !Ref Name]], !Sub Arn]}', ARN),
        ('{"Fn::GetAtt": !Sub "Q${Name}.Arn"}', ARN),
        ("{Ref: !Ref Which}", "Orders"),
        ('{Ref: !Sub "Q${Name}"}', "https://sqs.us-east-1.amazonaws.com/123456789012/QOrders"),
    ],
)
def test_a_name_may_be_a_call(tmp_path: Path, value: str, expected: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(HEAD % f", Environment: {{Variables: {{X: {value}}}}}")
    template = load_template(path)
    assert template.functions["F"].environment == {"X": expected}
    assert (template.warnings, template.problems) == ((), ())


def test_an_event_source_mapping_finds_queue_and_function_by_such_names(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        HEAD % ""
        + "  M: {Type: AWS::Lambda::EventSourceMapping, Properties: {FunctionName: {Ref: !Sub F},"
        + ' EventSourceArn: {"Fn::GetAtt": [!Sub "Q${Name}", Arn]}}}\n'
    )
    (source,) = load_template(path).event_sources
    assert isinstance(source, SqsSource)
    assert (source.function, source.queue_arn) == ("F", ARN)


@pytest.mark.parametrize("value", ['{"Fn::GetAtt": [[QOrders], Arn]}', "{Ref: [QOrders]}", '{"Fn::GetAtt": {a: b}}'])
def test_a_name_that_is_none_is_shown_without_python(tmp_path: Path, value: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(HEAD % f", Environment: {{Variables: {{X: {value}}}}}")
    template = load_template(path)
    (problem,) = template.problems
    assert " wants " in problem
    assert not any(mark in "".join((problem, *template.warnings)) for mark in "[{'")
