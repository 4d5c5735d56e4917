"""Parameter overrides are read as SAM CLI reads them."""

from pathlib import Path

import pytest
from warmfront.emulator.template import TemplateError, parse_parameter_overrides, read_parameter_overrides


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
    path = tmp_path / "samconfig.toml"
    path.write_text(f"version = 0.1\n[local.global.parameters]\nparameter_overrides = {value}\n")
    assert read_parameter_overrides(path) == {"Stage": "local", "Key": "a b"}


def test_another_environment_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "samconfig.toml"
    path.write_text('[default.global.parameters]\nparameter_overrides = "Stage=dev"\n')
    assert read_parameter_overrides(path) == {}
    assert read_parameter_overrides(path, "default") == {"Stage": "dev"}


def test_no_samconfig_is_no_error_and_a_broken_one_is(tmp_path: Path) -> None:
    assert read_parameter_overrides(tmp_path / "samconfig.toml") == {}
    (tmp_path / "samconfig.toml").write_text("[")
    with pytest.raises(TemplateError, match="not valid TOML"):
        read_parameter_overrides(tmp_path / "samconfig.toml")
