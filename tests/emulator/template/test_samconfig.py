"""Parameter overrides are read as SAM CLI reads them."""

import argparse
from pathlib import Path

import pytest
from warmfront.cli.main import main, parser_of
from warmfront.cli.samconfig_arguments import find_template
from warmfront.emulator.compose import read_template
from warmfront.emulator.options import EmulatorOptions
from warmfront.emulator.template import TemplateError, parse_parameter_overrides, read_samconfig


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("Stage=local", {"Stage": "local"}),
        ('Stage=local Key="a b"', {"Stage": "local", "Key": "a b"}),
        ("Stage=local Key='a b'", {"Stage": "local", "Key": "a b"}),
        ("Empty= Stage=local", {"Empty": "", "Stage": "local"}),
        (r"Key=a\ b", {"Key": "a b"}),
        (r'Key="say \"hi\""', {"Key": 'say "hi"'}),
        ("Url=postgres://u:p@h/db?x=1", {"Url": "postgres://u:p@h/db?x=1"}),
        ("AWS::Region=eu-west-1", {"AWS::Region": "eu-west-1"}),
        ("ParameterKey=Stage,ParameterValue=local ParameterKey=B,ParameterValue=c", {"Stage": "local", "B": "c"}),
        (["Stage=local", "Key=a b", 'Other="c d"'], {"Stage": "local", "Key": "a b", "Other": "c d"}),
    ],
)
def test_both_syntaxes(text: str | list[str], expected: dict[str, str]) -> None:
    assert parse_parameter_overrides(text) == expected


def test_what_is_no_pair_is_refused() -> None:
    with pytest.raises(TemplateError, match="'local' is not Name=value"):
        parse_parameter_overrides("Stage=a local")


@pytest.mark.parametrize(
    "value",
    [
        '"Stage=local Key=\\"a b\\""',
        '["Stage=local", "Key=a b"]',
        '{Stage = "local", Key = "a b"}',
    ],
)
def test_samconfig_has_a_string_a_list_or_a_table(tmp_path: Path, value: str) -> None:
    (tmp_path / "samconfig.toml").write_text(f"[default.global.parameters]\nparameter_overrides = {value}\n")
    assert read_samconfig(tmp_path).parameter_overrides("local_start_api") == {"Stage": "local", "Key": "a b"}


WHOLE = """
version = 0.1
[default.global.parameters]
parameter_overrides = ["Stage=from-global", 'Json={"a": 1, "b": "x=y"}']
region = "eu-west-1"
[default.local_start_api.parameters]
parameter_overrides = ["Stage=from-start-api", 'Json={"a": 1, "b": "x=y"}']
port = 3210
[default.deploy.parameters]
parameter_overrides = "Stage=from-deploy Only=deployed"
[prod.global.parameters]
parameter_overrides = "Stage=from-prod"
"""


def test_the_section_of_the_command_wins_over_global(tmp_path: Path) -> None:
    (tmp_path / "samconfig.toml").write_text(WHOLE)
    config = read_samconfig(tmp_path)
    assert config.parameter_overrides("local_start_api") == {"Stage": "from-start-api", "Json": '{"a": 1, "b": "x=y"}'}
    assert config.parameter_overrides("local_invoke")["Stage"] == "from-global"
    assert config.parameters("local_start_api")["region"] == "eu-west-1"
    assert read_samconfig(tmp_path, environment="prod").parameter_overrides("local_invoke") == {"Stage": "from-prod"}


def test_an_environment_named_local_is_taken_before_default(tmp_path: Path) -> None:
    (tmp_path / "samconfig.toml").write_text(WHOLE + '[local.global.parameters]\nparameter_overrides = "Stage=here"\n')
    assert read_samconfig(tmp_path).environment == "local"
    assert read_samconfig(tmp_path, environment="default").environment == "default"


def test_an_environment_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "samconfig.toml").write_text(WHOLE)
    with pytest.raises(TemplateError, match=r"--config-env dev: .*samconfig.toml has default, prod"):
        read_samconfig(tmp_path, environment="dev")


@pytest.mark.parametrize("name", ["samconfig.yaml", "samconfig.yml"])
def test_yaml_is_read_as_well_and_toml_before_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("default: {global: {parameters: {parameter_overrides: [Stage=yaml, 'Json={}']}}}\n")
    assert read_samconfig(tmp_path).parameter_overrides("local_start_api") == {"Stage": "yaml", "Json": "{}"}
    (tmp_path / "samconfig.toml").write_text(WHOLE)
    assert read_samconfig(tmp_path).parameter_overrides("local_start_api")["Stage"] == "from-start-api"


def test_a_yaml_mapping_gives_plain_values_as_text(tmp_path: Path) -> None:
    text = "default: {global: {parameters: {parameter_overrides: {Flag: true, Count: 3, Zones: [a, b]}}}}\n"
    (tmp_path / "samconfig.yaml").write_text(text)
    found = read_samconfig(tmp_path).parameter_overrides("local_start_api")
    assert found == {"Flag": "true", "Count": "3", "Zones": "a,b"}


def test_no_samconfig_is_no_error_and_a_broken_one_is(tmp_path: Path) -> None:
    assert read_samconfig(tmp_path).parameter_overrides("local_start_api") == {}
    (tmp_path / "samconfig.toml").write_text("[")
    with pytest.raises(TemplateError, match="not valid TOML"):
        read_samconfig(tmp_path)
    (tmp_path / "other.yaml").write_text("a: [")
    with pytest.raises(TemplateError, match=r"other.yaml: not valid YAML"):
        read_samconfig(tmp_path, file=tmp_path / "other.yaml")
    with pytest.raises(TemplateError, match=r"gone.toml: No such file"):
        read_samconfig(tmp_path, file=tmp_path / "gone.toml")


NEEDS = (
    "Parameters: {Only: {Type: String}, Stage: {Type: String}}\nResources:\n  F:\n    Type: AWS::Serverless::Function\n"
)
NEEDS += "    Properties: {Runtime: python3.13, Handler: a.b, CodeUri: ., Environment: {Variables: {S: !Ref Stage, O: !Ref Only}}}\n"


def test_a_parameter_without_any_value_takes_that_of_deploy_and_it_is_said(tmp_path: Path) -> None:
    """SAM CLI would stop here; the value that the stack is deployed with is the best guess there is."""
    (tmp_path / "samconfig.toml").write_text(WHOLE)
    (tmp_path / "template.yaml").write_text(NEEDS)
    template = read_template(EmulatorOptions(template=tmp_path / "template.yaml"))
    assert template.functions["F"].environment == {"S": "from-start-api", "O": "deployed"}
    assert any("parameter Only has no Default" in warning for warning in template.warnings)


def serve_arguments(tmp_path: Path, *arguments: str) -> argparse.Namespace:
    words = ["serve", "-t", str(tmp_path / "template.yaml"), *arguments]
    return parser_of("serve", words).parse_args(words)


def test_other_keys_are_defaults_of_the_command_line(tmp_path: Path) -> None:
    more = WHOLE.replace(
        "port = 3210", 'port = 3210\nhost = "127.0.0.2"\nenv_vars = "env.json"\nwarm_containers = "EAGER"'
    )
    (tmp_path / "samconfig.toml").write_text(more)
    args = serve_arguments(tmp_path)
    assert (args.port, args.host, args.region, args.warm) == (3210, "127.0.0.2", "eu-west-1", 1)
    assert args.env_vars == tmp_path / "env.json"
    assert serve_arguments(tmp_path, "-p", "1", "--region", "us-east-2").port == 1
    assert serve_arguments(tmp_path, "--region", "us-east-2").region == "us-east-2"


def test_a_value_of_the_wrong_kind_is_named_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "samconfig.toml").write_text('[default.local_start_api.parameters]\nport = "many"\n')
    assert main(["serve", "-t", str(tmp_path / "template.yaml")]) == 2
    assert "[default.local_start_api] port 'many' is not a number" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["template.yaml", "template.yml", "template.json"])
def test_the_template_is_found_by_the_names_that_sam_looks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert find_template(None) == Path(name)
    assert find_template(tmp_path) == tmp_path / name
    assert find_template(Path("other.yaml")) == Path("other.yaml")
