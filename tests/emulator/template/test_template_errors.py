"""A mistake in a template is one line: where it is and what to do. Only what it concerns is not served."""

import textwrap
from pathlib import Path

import pytest
from warmfront.emulator.template import TemplateError, load_template

FUNCTION = "{Type: AWS::Serverless::Function, Properties: {CodeUri: ./, Handler: a.b, Runtime: python3.13%s}}"


def refusal(tmp_path: Path, text: str, **parameters: str) -> str:
    path = tmp_path / "template.yaml"
    path.write_text(textwrap.dedent(text).lstrip())
    try:
        message = load_template(path, parameters=parameters).problems[0]
    except TemplateError as error:
        message = str(error)
    assert "\n" not in message
    return message.replace(str(path), "T")


def function_with(environment: str) -> str:
    return f"""\
Parameters:
  Secret: {{Type: String}}
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: ./
      Handler: a.b
      Runtime: python3.13
      Environment:
        Variables:
          X: {environment}
"""


def test_a_missing_template_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"nowhere\.yaml: no such file; name your template with --template"):
        load_template(tmp_path / "nowhere.yaml")


def test_built_without_a_build_says_so(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="run `sam build` first"):
        load_template(tmp_path / "template.yaml", built=True)


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, "Resources:\n  F: [1, 2\n").startswith("T:3: not valid YAML: ")


def test_no_resources(tmp_path: Path) -> None:
    assert refusal(tmp_path, "Transform: x\n") == "T:1: the template has no Resources"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("!Ref Nothing", "T:12: Ref Nothing names no parameter and no resource of this template"),
        ("!GetAtt Nothing.Arn", "T:12: GetAtt Nothing.Arn names no resource of this template"),
        ('!Sub "a-${Nothing}"', "T:12: Ref Nothing names no parameter and no resource of this template"),
        ("!FindInMap [A, B, C]", "T:12: Fn::FindInMap finds no A / B / C under Mappings"),
        ("!Select [3, [a, b]]", "T:12: Fn::Select wants entry 3 of a list of 2"),
        ("!If [Nope, a, b]", "T:12: condition Nope is not declared under Conditions"),
        ("!Join [a]", "T:12: Fn::Join wants a list of 2 values"),
        ("[a, b]", "T:12: F: Environment: Variables: X must be a string, a number or true/false"),
        (
            "!Ref Secret",
            "T:12: parameter Secret has no Default; give it with --parameter-overrides Secret=VALUE"
            " or as parameter_overrides in samconfig.toml under [default.local_start_api.parameters]",
        ),
    ],
)  # fmt: skip
def test_values_that_cannot_be_had(tmp_path: Path, value: str, message: str) -> None:
    assert refusal(tmp_path, function_with(value)) == message


def test_a_value_that_depends_on_itself(tmp_path: Path) -> None:
    text = """\
        Conditions:
          A: !Condition B
          B: !Condition A
        Resources:
          F: {Type: AWS::SQS::Queue, Condition: A}
        """
    assert refusal(tmp_path, text).startswith("T:3: condition A depends on itself (condition A -> condition B")


def test_a_value_outside_allowed_values(tmp_path: Path) -> None:
    text = "Parameters:\n  Stage: {Type: String, AllowedValues: [local, prod]}\nResources: {}\n"
    assert refusal(tmp_path, text, Stage="test") == (
        "T:2: parameter Stage is 'test', but AllowedValues are local, prod; give one with --parameter-overrides Stage=..."
    )


def test_a_value_that_the_pattern_refuses(tmp_path: Path) -> None:
    text = 'Parameters:\n  Name:\n    Type: String\n    AllowedPattern: "[a-z]+"\nResources: {}\n'
    assert refusal(tmp_path, text, Name="A1").startswith(
        "T:4: parameter Name is 'A1', which AllowedPattern [a-z]+ refuses"
    )


def test_a_number_that_is_none(tmp_path: Path) -> None:
    text = f"Resources:\n  F: {FUNCTION % ', Timeout: soon'}\n"
    assert refusal(tmp_path, text) == "T:2: F: Timeout must be a whole number, not 'soon'"


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ("{Path: hello, Method: get}", "Path hello is no route"),
        ("{Path: '/a/{b+}/c', Method: get}", "is no route"),
        ("{Path: /a}", "Path and Method belong together"),
        ("{Path: /a, Method: get, ApiId: !Ref F}", "must be a !Ref to an AWS::Serverless::HttpApi of this template"),
        ("{Path: /a, Method: get, PayloadFormatVersion: '3.0'}", "PayloadFormatVersion is 3.0"),
        ("{Path: /a, Method: get, Auth: {Authorizer: Nobody}}", "names Nobody, which is not under Auth/Authorizers"),
    ],
)
def test_routes_that_are_none(tmp_path: Path, event: str, message: str) -> None:
    text = f"Resources:\n  F: {FUNCTION % f', Events: {{E: {{Type: HttpApi, Properties: {event}}}}}'}\n"
    refused = refusal(tmp_path, text)
    assert refused.startswith("T:2: ")
    assert message in refused


def test_the_same_route_twice(tmp_path: Path) -> None:
    events = ", Events: {A: {Type: HttpApi, Properties: {Path: /a, Method: get}}, B: {Type: HttpApi, Properties: {Path: /a, Method: GET}}}"
    text = f"Resources:\n  F: {FUNCTION % events}\n"
    assert "gives ServerlessHttpApi the route GET /a a second time" in refusal(tmp_path, text)


def test_a_layer_that_is_not_there(tmp_path: Path) -> None:
    text = f"""\
        Resources:
          L: {{Type: AWS::Serverless::LayerVersion, Properties: {{ContentUri: gone/}}}}
          F: {FUNCTION % ", Layers: [!Ref L]"}
        """
    assert refusal(tmp_path, text).startswith("T:2: L: ContentUri names ")


@pytest.mark.parametrize("value", ["!Cidr [a, 1, 2]", '{"Fn::GetStackOutput": {StackName: a}}', "!ImportValue a"])
def test_a_value_that_only_aws_knows_is_a_placeholder(tmp_path: Path, value: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(function_with(value))
    template = load_template(path)
    assert template.functions["F"].environment == {"X": ""}
    assert any(":12: " in warning and "no local value" in warning for warning in template.warnings)
    assert not template.problems


@pytest.mark.parametrize(
    "broken",
    [
        "B: {Type: AWS::Serverless::Function, Properties: {CodeUri: ./, Handler: a.b, Runtime: python3.13, Timeout: soon}}",
        "B: {Type: AWS::Serverless::Function, Properties: [1]}",
        "B: {Type: AWS::Serverless::Function, Properties: {CodeUri: ./, Handler: a.b, Runtime: python3.13, Layers: [!Ref L]}}\n"
        "  L: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: gone/}}",
        "B: {Type: AWS::SQS::Queue, Properties: {RedrivePolicy: '{'}}",
        "B: {Type: AWS::Serverless::HttpApi, Properties: {DefinitionUri: gone.yaml}}",
        "B: {Type: [a]}",
        "B: 7",
        "B: {Type: AWS::SQS::Queue, Condition: Nope}",
        "B: {Type: AWS::Lambda::EventSourceMapping, Properties: {FunctionName: !If [Nope, a, b], EventSourceArn: a}}",
        "B: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Join [a]}}",
        "B: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP, Target: !Select [a]}}",
        FUNCTION.replace("{Type", "B: {Type", 1) % ", Events: {Q: {Type: SQS, Properties: {}}}",
        FUNCTION.replace("{Type", "B: {Type", 1) % ", Events: {Q: {Type: Schedule, Properties: {}}}",
        FUNCTION.replace("{Type", "B: {Type", 1) % ", Events: [1]",
        FUNCTION.replace("{Type", "B: {Type", 1)
        % ", Events: {E: {Type: HttpApi, Properties: {Path: no, Method: get}}}",
        FUNCTION.replace("{Type", "B: {Type", 1) % ", Events: {E: {Type: HttpApi, Properties: [1]}}",
        FUNCTION.replace("{Type", "B: {Type", 1) % ", Events: {E: {Type: [HttpApi], Properties: {}}}",
        FUNCTION.replace("{Type", "B: {Type", 1) % ", Events: {E: [1]}",
    ],
)
def test_one_mistake_stops_nothing_else(tmp_path: Path, broken: str) -> None:
    event = ", Events: {E: {Type: HttpApi, Properties: {Path: /a, Method: get}}}"
    path = tmp_path / "template.yaml"
    path.write_text(f"Resources:\n  {broken}\n  F: {FUNCTION % event}\n")
    template = load_template(path)
    assert [route.key for api in template.apis for route in api.routes] == ["GET /a"]
    assert template.functions["F"].not_runnable is None
    assert [problem.partition(": ")[0] for problem in template.problems] in ([f"{path}:2"], [f"{path}:3"])


def test_an_api_of_another_stack_leaves_the_other_routes(tmp_path: Path) -> None:
    events = (
        ", Events: {A: {Type: Api, Properties: {Path: /a, Method: get, RestApiId: !ImportValue Shared}},"
        " B: {Type: HttpApi, Properties: {Path: /b, Method: get, ApiId: !Ref Shared}},"
        " C: {Type: Api, Properties: {Path: /c, Method: get}}}"
    )
    path = tmp_path / "template.yaml"
    path.write_text(f"Parameters: {{Shared: {{Type: String, Default: abc}}}}\nResources:\n  F: {FUNCTION % events}\n")
    template = load_template(path)
    assert [route.key for api in template.apis for route in api.routes] == ["GET /c"]
    assert sum("its API is in another stack" in warning for warning in template.warnings) == 2


def test_an_undeclared_override_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(f"Parameters: {{Stage: {{Type: String, Default: a}}}}\nResources:\n  F: {FUNCTION % ''}\n")
    template = load_template(path, parameters={"Stgae": "b"})
    assert any("parameter Stgae is not declared" in warning for warning in template.warnings)


def test_a_key_given_twice_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(f"Resources:\n  F: {FUNCTION % ''}\n  F: {FUNCTION % ', Timeout: 9'}\n")
    template = load_template(path)
    assert template.functions["F"].timeout_s == 9
    assert any(":3: key F is given twice" in warning for warning in template.warnings)


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("!Nope a", "!Nope (Fn::Nope) is no function of CloudFormation"),
        ("!Sbu a", "!Sbu (Fn::Sbu) is no function of CloudFormation; !Sub, if that is meant"),
        (
            "[{a: {Fn::GetAttr: F.Arn}}]",
            "!GetAttr (Fn::GetAttr) is no function of CloudFormation; !GetAtt, if that is meant",
        ),
    ],
)
def test_an_unknown_function_is_named_with_its_line(tmp_path: Path, tag: str, message: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        f"Resources:\n  F: {FUNCTION % ''}\n  X:\n    Type: AWS::SQS::Queue\n    Metadata:\n      A: {tag}\n"
    )
    assert load_template(path).problems == (f"{path}:6: {message}",)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("Functoin: {Timeout: 3}", "Globals: Functoin is no section that SAM has; Function, if that is meant"),
        ("Function: {Tiemout: 3}", "Globals: Function: Tiemout is no property that SAM has; Timeout, if that is meant"),
    ],
)
def test_an_unknown_global_is_one_problem_for_all_functions(tmp_path: Path, section: str, message: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(f"Globals:\n  {section}\nResources:\n  F: {FUNCTION % ''}\n  G: {FUNCTION % ''}\n")
    template = load_template(path)
    assert template.problems == (f"{path}:2: {message}",)
    assert template.unserved == ()
