"""Fn::ForEach is expanded as CloudFormation's language extensions do."""

import textwrap
from pathlib import Path

import pytest
from warmfront.emulator.template import Template, TemplateError, load_template

HEAD = """\
Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]
Parameters:
  Names: {Type: CommaDelimitedList, Default: "orders,order-items"}
"""


def template_of(tmp_path: Path, text: str) -> Template:
    path = tmp_path / "template.yaml"
    path.write_text(HEAD + textwrap.dedent(text))
    return load_template(path)


def test_functions_in_a_loop_over_a_parameter(tmp_path: Path) -> None:
    template = template_of(
        tmp_path,
        """\
        Resources:
          Fn::ForEach::Functions:
            - Name
            - !Ref Names
            - "Get&{Name}":
                Type: AWS::Serverless::Function
                Properties:
                  CodeUri: ./
                  Handler: app.handler
                  Runtime: python3.13
                  Environment: {Variables: {TABLE: !Ref Name, URL: !Sub "https://${Name}.${AWS::Region}"}}
                  Events: {Get: {Type: HttpApi, Properties: {Path: !Sub "/${Name}", Method: get}}}
        """,
    )
    assert list(template.functions) == ["Getorders", "Getorderitems"]
    assert template.functions["Getorderitems"].environment == {
        "TABLE": "order-items",
        "URL": "https://order-items.us-east-1",
    }
    assert [route.key for route in template.apis[0].routes] == ["GET /orders", "GET /order-items"]


def test_a_loop_in_a_loop_and_inside_properties(tmp_path: Path) -> None:
    template = template_of(
        tmp_path,
        """\
        Conditions:
          Fn::ForEach::Conditions: [C, [X, Y], {"Is${C}": !Equals ["${C}", X]}]
        Resources:
          Fn::ForEach::Outer:
            - A
            - [X, Y]
            - Fn::ForEach::Inner:
                - B
                - ["1", "2"]
                - "F${A}${B}":
                    Type: AWS::Serverless::Function
                    Condition: "Is${A}"
                    Properties:
                      CodeUri: ./
                      Handler: "app.${A}_${B}"
                      Runtime: python3.13
                      Environment:
                        Variables:
                          Fn::ForEach::Variables: [V, [P, Q], {"${V}": "${A}${B}${V}"}]
        """,
    )
    assert {name: f.handler for name, f in template.functions.items()} == {"FX1": "app.X_1", "FX2": "app.X_2"}
    assert template.functions["FX2"].environment == {"P": "X2P", "Q": "X2Q"}


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        ("[A, [a], 7]", ":5: Fn::ForEach::L must be a list of an identifier, a collection and a mapping"),
        ("[A, word, {}]", ":5: Fn::ForEach::L: its collection must be a list of strings"),
        ("[A, [a, b], {Same: {Type: AWS::SNS::Topic}}]", ":5: Fn::ForEach makes Same twice"),
    ],
)
def test_a_loop_that_is_none(tmp_path: Path, loop: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        template_of(tmp_path, f"Resources:\n  Fn::ForEach::L: {loop}\n")
    assert message in str(caught.value)
