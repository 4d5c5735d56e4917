"""`warmfront completion`: bash itself completes with the script that is printed."""

import shutil
import subprocess

import pytest
from warmfront.cli import completion
from warmfront.cli.main import COMMANDS


def script(shell: str) -> str:
    commands = {name: completion.options_of(name) for name in COMMANDS}
    return {"bash": completion.bash, "zsh": completion.zsh, "fish": completion.fish}[shell](commands)


def completed(*words: str) -> list[str]:
    """What bash offers for the last of `words`."""
    quoted = " ".join(f"'{word}'" for word in words)
    ask = f'COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _warmfront; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", f"{script('bash')}\n{ask}"], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("warmfront", "se"), ["serve"]),
        (("warmfront", "serve", "--enforce-a"), ["--enforce-auth"]),
        (("warmfront", "serve", "--start", "snap"), ["snap-start"]),
        (("warmfront", "completion", "--x"), []),
    ],
)
def test_bash_completes_commands_options_and_choices(words: tuple[str, ...], expected: list[str]) -> None:
    assert completed(*words) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_is_good_syntax(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([program, "-n", "/dev/stdin"], input=script(shell), text=True, check=True, timeout=20)


def test_fish_gets_a_line_for_every_option() -> None:
    text = script("fish")
    for name in COMMANDS:
        for option in completion.options_of(name):
            assert f"-n '__fish_seen_subcommand_from {name}' -l {option[2:]}" in text
