"""README.md, CONTRIBUTING.md and docs/*.md against the project: commands parse, links lead somewhere, tables are those of saved results."""

import argparse
import contextlib
import importlib.util
import io
import re
import shlex
import string
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from warmfront.cli.main import COMMANDS, parser_of

from tools.blocks import read_block
from tools.examples import BLOCKS

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README_LINES_MAX: Final = 220
# Programs that pages tell readers to run besides make, python and warmfront; only their quoting is checked.
OTHER_PROGRAMS: Final = {"aws", "cd", "curl", "git", "pipx", "sam", "source", "uv", "uvx"}
# Options of other programs that pages mention by themselves.
OTHER_OPTIONS: Final = {"--config-env", "--guided"}

type PageItem = tuple[Path, str]


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def commands_of(text: str) -> list[str]:
    """Commands that a page tells readers to type: `$ ` lines of console blocks, and inline code."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        joined = block.replace("\\\n", " ")
        found += [line[2:].strip() for line in joined.splitlines() if line.startswith("$ ")]
    for code in re.findall(r"`((?:make|warmfront|python -m) [^`]+)`", text):
        named_only = len(code.split()) == 2 and code.startswith("warmfront ")
        found.append(" ".join(code.split()) + (" --help" if named_only else ""))
    return [part for command in found for part in re.split(r" && ", command)]


def prose_of(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def items(of: Callable[[str], Iterable[str]]) -> list[Any]:
    """Parametrized (page, item) pairs, once each, for whatever `of` finds in a page's text."""
    return [
        pytest.param(page, item, id=f"{page.name}-{item}") for page in PAGES for item in sorted(set(of(text_of(page))))
    ]


def check_command(command: str) -> None:
    """Raise AssertionError if a command cannot be run as it is written."""
    words = shlex.split(command, comments=True)
    while "=" in words[0]:
        words.pop(0)
    program, arguments = words[0], words[1:]
    if program == "make":
        check_target(arguments[0])
    elif program == "warmfront":
        check_arguments(arguments)
    elif program in ("python", ".venv/bin/python"):
        assert arguments[0] in ("-m", "-c"), command
        if arguments[0] == "-m":
            assert importlib.util.find_spec(arguments[1]), f"no module {arguments[1]}"
    else:
        assert program in OTHER_PROGRAMS, f"{program} is not expected in a page"


def check_target(target: str) -> None:
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"no target {target}"


def check_arguments(arguments: list[str]) -> None:
    assert arguments[0] in COMMANDS, f"no subcommand {arguments[0]}"
    with contextlib.redirect_stderr(io.StringIO()) as error, contextlib.redirect_stdout(io.StringIO()):
        try:
            parser_of(arguments[0]).parse_args(arguments)
        except SystemExit as exit:
            if exit.code:
                raise AssertionError(error.getvalue()) from None


@pytest.mark.parametrize(("page", "command"), items(commands_of))
def test_every_command_parses(page: Path, command: str) -> None:
    del page
    check_command(command)


@pytest.mark.parametrize(
    "command", ["make nothing", "warmfront serve --no-such-option", "warmfront sevre", "python -m tools.none", "rm x"]
)
def test_a_command_that_cannot_run_is_found(command: str) -> None:
    with pytest.raises(AssertionError):
        check_command(command)


def test_commands_are_found_in_blocks_and_in_prose() -> None:
    page = "`make a`\n```console\n$ warmfront b \\\n    --c  # why\noutput\n$ sam d && sam e\n```\n`python -m f`"
    assert [" ".join(each.split()) for each in commands_of(page)] == [
        "warmfront b --c # why",
        "sam d",
        "sam e",
        "make a",
        "python -m f",
    ]


@cache
def options() -> set[str]:
    """Every option of every subcommand, those of nested subcommands included."""
    found: set[str] = set()
    waiting: list[argparse.ArgumentParser] = [parser_of(name) for name in COMMANDS]
    while waiting:
        for action in waiting.pop()._actions:
            found.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                waiting += action.choices.values()
    return found


@pytest.mark.parametrize(("page", "option"), items(lambda text: re.findall(r"`(--[a-z][a-z-]*)[^`]*`", prose_of(text))))
def test_every_option_in_prose_exists(page: Path, option: str) -> None:
    del page
    assert option in options() | OTHER_OPTIONS


@pytest.mark.parametrize(
    ("page", "path"),
    items(lambda text: re.findall(r"`((?:docs|functions|local|shared|tests|tools)/[\w./-]*)`", prose_of(text))),
)
def test_every_path_in_prose_exists(page: Path, path: str) -> None:
    del page
    assert (ROOT / path).exists()


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    kept = string.ascii_lowercase + string.digits + "-_ "
    headings = re.findall(r"^#+ (.+)$", prose_of(text), re.MULTILINE)
    return {"".join(c for c in heading.lower() if c in kept).replace(" ", "-") for heading in headings}


def links_of(text: str) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", prose_of(text)) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    return [link for link in found if not re.match(r"\w+:", link)]


def broken(page: Path, link: str) -> str | None:
    """What is wrong with a relative link of a page, or None."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return f"{target} does not exist"
    if anchor and (target.suffix != ".md" or anchor not in anchors_of(text_of(target))):
        return f"{target.name} has no heading #{anchor}"
    return None


@pytest.mark.parametrize(("page", "link"), items(links_of))
def test_every_link_leads_somewhere(page: Path, link: str) -> None:
    assert broken(page, link) is None


def test_a_broken_link_is_found() -> None:
    readme = ROOT / "README.md"
    assert broken(readme, "docs/nothing.md") is not None
    assert broken(readme, "docs/benchmarking.md#nothing") is not None
    assert broken(ROOT / "docs/kit.md", "README.md") is not None
    assert broken(readme, "docs/benchmarking.md#how-it-measures") is None


def test_the_readme_links_to_every_page_and_is_short() -> None:
    readme = text_of(ROOT / "README.md")
    assert [page.name for page in PAGES[1:] if f"({page.relative_to(ROOT)}" not in readme] == []
    assert len(readme.splitlines()) <= README_LINES_MAX


def test_every_subcommand_is_named() -> None:
    commands = {tuple(command.split()[:2]) for page in PAGES for command in commands_of(text_of(page))}
    assert [name for name in COMMANDS if ("warmfront", name) not in commands] == []


def test_contributing_names_every_make_target() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [target for target in targets if f"`make {target}`" not in text_of(ROOT / "CONTRIBUTING.md")] == []


@pytest.mark.parametrize(
    ("page", "name"),
    [pytest.param(page, name, id=f"{page.name}-{name}") for page, blocks in BLOCKS.items() for name in blocks],
)
def test_a_pasted_output_is_the_one_of_the_saved_result(page: Path, name: str) -> None:
    assert read_block(text_of(page), name) == BLOCKS[page][name](), "run: python -m tools.examples --write"
