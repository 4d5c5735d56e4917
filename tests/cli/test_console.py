"""Styled lines on a terminal, in a pipe and with NO_COLOR."""

import io

import pytest
from rich.text import Text
from warmfront.cli.console import print_lines

LINES = [Text.assemble(("WARNING", "yellow"), " Orders [DATABASE_URL] " + 200 * "x"), Text()]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def colour_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def printed(stream: io.StringIO) -> str:
    print_lines(LINES, stream)
    return stream.getvalue()


def test_a_terminal_gets_colours_and_unwrapped_lines() -> None:
    text = printed(Terminal())
    assert text.startswith("\x1b[33mWARNING\x1b[0m Orders [DATABASE_URL] x")
    assert len(text.splitlines()) == len(LINES)


def test_a_pipe_gets_exactly_the_text() -> None:
    assert printed(io.StringIO()) == "".join(f"{line.plain}\n" for line in LINES)


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_without_colours_gets_the_same_text(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert printed(Terminal()) == printed(io.StringIO())
