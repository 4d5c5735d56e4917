"""`warmfront init`: the shop in a folder, the same as the project's own."""

from pathlib import Path

import pytest
from warmfront.cli.main import main

ROOT = Path(__file__).parents[2]


def test_the_folder_holds_the_shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "shop"
    assert main(["init", str(folder)]) == 0
    assert "warmfront serve" in capsys.readouterr().out
    for name in ("template.yaml", "samconfig.toml", "functions/pooled/app.py", "shared/requirements.txt"):
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()
    assert not list(folder.rglob("__pycache__"))


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path)]) == 0
    assert (tmp_path / "template.yaml").is_file()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file" / "shop")]) == 2
    error = capsys.readouterr().err
    assert "file" in error
    assert "Traceback" not in error
