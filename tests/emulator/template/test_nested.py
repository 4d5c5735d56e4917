"""Nested applications and stacks with a local template are followed, their outputs are values of the parent."""

from pathlib import Path

import pytest
from warmfront.emulator.template import LambdaAuthorizer, load_template

CHILD = """\
Parameters:
  Stage: {Type: String}
  Tables: {Type: CommaDelimitedList, Default: a}
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src/
      Handler: app.handler
      Runtime: python3.13
      Environment: {Variables: {STAGE: !Ref Stage, TABLES: !Join ["+", !Ref Tables], SELF: !GetAtt F.Arn}}
      Events: {Get: {Type: Api, Properties: {Path: /child, Method: get, RestApiId: !Ref Api, Auth: {Authorizer: Guard}}}}
  Api: {Type: AWS::Serverless::Api, Properties: {StageName: v1, Auth: {Authorizers: {Guard: {FunctionArn: !GetAtt F.Arn}}}}}
  Table: {Type: AWS::Serverless::SimpleTable}
Outputs:
  Arn: {Value: !GetAtt F.Arn}
  Address: {Value: !Sub "https://${Api}.execute-api.${AWS::Region}.amazonaws.com/v1"}
"""
PARENT = """\
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: "def handler(event, context): return 1"
      Handler: index.handler
      Runtime: python3.13
      Environment: {Variables: {OTHER: !GetAtt Child.Outputs.Arn, URL: !Sub "${Child.Outputs.Address}/child"}}
  Child:
    Type: AWS::Serverless::Application
    Properties: {Location: child/template.yaml, Parameters: {Stage: test, Tables: [x, y]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "child" / "src").mkdir(parents=True)
    (tmp_path / "child" / "template.yaml").write_text(CHILD)
    (tmp_path / "template.yaml").write_text(PARENT)
    return tmp_path


def test_functions_and_routes_of_a_nested_application_are_served(folder: Path) -> None:
    template = load_template(folder / "template.yaml")
    assert template.problems == ()
    assert list(template.functions) == ["F", "Child-F"]
    child = template.functions["Child-F"]
    assert (child.function_name, child.code_path) == ("Child-F", folder / "child" / "src")
    arn = "arn:aws:lambda:us-east-1:123456789012:function:Child-F"
    assert child.environment == {"STAGE": "test", "TABLES": "x+y", "SELF": arn}
    (api,) = template.apis
    assert (api.logical_id, api.stage) == ("Child-Api", "v1")
    assert [(route.key, route.function) for route in api.routes] == [("GET /child", "Child-F")]
    authorizer = api.authorizers["Guard"]
    assert isinstance(authorizer, LambdaAuthorizer)
    assert authorizer.function == "Child-F"


def test_outputs_are_values_of_the_parent(folder: Path) -> None:
    variables = load_template(folder / "template.yaml").functions["F"].environment
    assert variables["OTHER"] == "arn:aws:lambda:us-east-1:123456789012:function:Child-F"
    assert variables["URL"].endswith(".execute-api.us-east-1.amazonaws.com/v1/child")


def test_one_template_nested_twice_is_two_sets_of_functions(folder: Path) -> None:
    text = PARENT + PARENT[PARENT.index("  Child:") :].replace("  Child:", "  Second:").replace("test", "two")
    (folder / "template.yaml").write_text(text)
    template = load_template(folder / "template.yaml")
    assert list(template.functions) == ["F", "Child-F", "Second-F"]
    assert template.functions["Second-F"].environment["STAGE"] == "two"


@pytest.mark.parametrize("kind", ["AWS::CloudFormation::Stack", "AWS::Serverless::Application"])
def test_what_is_elsewhere_is_a_warning_and_the_rest_runs(folder: Path, kind: str) -> None:
    key = "TemplateURL" if kind == "AWS::CloudFormation::Stack" else "Location"
    text = PARENT.replace("AWS::Serverless::Application", kind).replace(
        "Location: child/template.yaml", f"{key}: https://a.example/t.yaml"
    )
    (folder / "template.yaml").write_text(text)
    template = load_template(folder / "template.yaml")
    assert list(template.functions) == ["F"]
    assert any("Child: its template is not on this machine" in warning for warning in template.warnings)


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        (PARENT.replace("child/template", "child/gone"), "Child: Location names "),
        (PARENT.replace("child/template.yaml", "template.yaml"), "this template nests itself"),
        (PARENT.replace("Outputs.Arn", "Outputs.Gone"), "Child: its template has no output Gone"),
    ],
)
def test_mistakes_in_nesting_are_problems(folder: Path, parent: str, message: str) -> None:
    (folder / "template.yaml").write_text(parent)
    template = load_template(folder / "template.yaml")
    assert any(message in problem for problem in template.problems)
    assert template.functions["F"].not_runnable is None
