"""Options of `sam local start-api`: understood, or named with what to use in their place."""

import argparse
import re
from pathlib import Path

import pytest
from warmfront.cli import serve
from warmfront.cli.main import main, parser_of
from warmfront.cli.sam_options import INSTEAD
from warmfront.emulator.options import StartError

TEMPLATES = Path(__file__).parents[1] / "emulator" / "templates"


@pytest.mark.parametrize("option", INSTEAD)
def test_an_option_without_meaning_here_is_named_with_what_to_use(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", f"{option}=x"]) == 2
    error = capsys.readouterr().err
    assert option in error
    assert INSTEAD[option] in error


@pytest.mark.parametrize("option", INSTEAD)
def test_no_option_of_ours_is_refused(option: str) -> None:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    assert not re.search(rf"{option}\b", parser.format_help())


def parsed(*arguments: str) -> argparse.Namespace:
    return parser_of("serve").parse_args(["serve", *arguments])


def test_common_options_are_taken_as_sam_cli_takes_them() -> None:
    args = parsed(
        *("--host", "127.0.0.1", "-p", "3001", "-t", "t.yaml", "-n", "env.json", "-l", "log.txt"),
        *("--parameter-overrides", "A=1", "B=2", "-d", "5890", "--debug-function", "F"),
    )
    assert (args.port, args.template, args.env_vars, args.log_file) == (
        3001,
        Path("t.yaml"),
        Path("env.json"),
        Path("log.txt"),
    )
    assert serve.debug_choices(args) == ["F=5890"]


def test_debug_port_finds_the_only_function_or_asks_which(tmp_path: Path) -> None:
    one = "Resources:\n  A: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.13, Handler: a.b, CodeUri: .}}\n"
    path = tmp_path / "template.yaml"
    path.write_text(one)
    assert serve.debug_choices(parsed("-t", str(path), "-d", "5890")) == ["A=5890"]
    path.write_text(one + one.split("\n")[1].replace("  A:", "  B:") + "\n")
    with pytest.raises(StartError, match="--debug-function: A, B"):
        serve.debug_choices(parsed("-t", str(path), "-d", "5890"))
