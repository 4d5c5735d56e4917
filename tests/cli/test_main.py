"""The `warmfront` command: its subcommands, and what it says where a package is missing."""

import subprocess
import sys

import pytest
from warmfront.cli.main import COMMANDS, command_module, main, parser_of

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numpy", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
sys.meta_path.insert(0, Missing())
from warmfront.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_has_arguments_and_runs(name: str) -> None:
    module = command_module(name)
    assert callable(module.add_arguments)
    assert callable(module.run)
    assert parser_of(name).format_help()


@pytest.mark.parametrize("name", ["bench", "cold", "compare"])
def test_a_command_without_its_extra_names_it(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, name, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "warmfront[bench]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["serve", "invoke", "init", "doctor", "completion"])
def test_the_base_install_runs_without_numpy(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, name, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_platform_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert main(["serve"]) == 2
    assert "runs on Linux (WSL2 included), not on darwin" in capsys.readouterr().err
