"""The `warmfront` command: its subcommands, and what it says where a package is missing."""

import subprocess
import sys

import pytest
from warmfront.cli.main import BROKEN_PIPE, COMMANDS, command_module, main, parser_of

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


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m warmfront completion fish | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (0, BROKEN_PIPE)
    assert done.stderr == ""


@pytest.mark.parametrize("port", ["99999", "-1", "many"])
def test_a_port_that_cannot_be_is_named(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", f"--port={port}"])
    assert f"{port!r} is not a port: a number from 0 to 65535" in capsys.readouterr().err
