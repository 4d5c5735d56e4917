"""The README against the project: its commands parse, its links lead somewhere, its table is a result's own."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
from warmfront.cli.main import COMMANDS, command_module
from warmfront.report.terminal import render
from warmfront.results import read_result

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "local/warmfront/report/example/bench.json"


def commands() -> list[str]:
    """Every command the README tells to type: console blocks (continuation lines joined) and inline code."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        joined = block.replace("\\\n", " ")
        found += [line[2:].strip() for line in joined.splitlines() if line.startswith("$ ")]
    found += [" ".join(text.split()) for text in re.findall(r"`((?:make|warmfront) [^`]+)`", README)]
    return sorted(set(found))


@pytest.mark.parametrize("command", [each for each in commands() if each.startswith("make ")])
def test_every_make_target_exists(command: str) -> None:
    target = shlex.split(command)[1]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


@pytest.mark.parametrize("command", [each for each in commands() if each.startswith("warmfront ")])
def test_every_warmfront_command_parses(command: str) -> None:
    words = shlex.split(command)[1:]
    assert words[0] in COMMANDS
    parser = argparse.ArgumentParser(exit_on_error=False)
    command_module(words[0]).add_arguments(parser)
    if "--help" in words:
        return
    parser.parse_args(words[1:])


def test_a_command_with_a_wrong_option_would_be_found() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    command_module("serve").add_arguments(parser)
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parser.parse_args(["--no-such-option"])


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).exists()


def test_the_table_is_the_one_the_saved_result_renders() -> None:
    pasted = re.search(r"<!-- bench-table -->\n```\n(.*?)\n```\n<!-- /bench-table -->", README, re.DOTALL)
    assert pasted, "the README has no bench table; paste the one `make bench` printed"
    assert pasted[1].rstrip() == render(read_result(EXAMPLE)).rstrip()


def test_every_subcommand_is_named() -> None:
    assert [name for name in COMMANDS if f"warmfront {name}" not in README and f"make {name}" not in README] == []
