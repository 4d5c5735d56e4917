"""Which is served: the sources, or what `sam build` left beside them."""

import os
from pathlib import Path

import pytest
from warmfront.emulator.compose import read_template
from warmfront.emulator.options import EmulatorOptions

TEMPLATE = """
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: app.handler, CodeUri: %s}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A template, its code and a build of it, all of the same time."""
    for folder, code in ((tmp_path, "src"), (tmp_path / ".aws-sam/build", "F")):
        (folder / code).mkdir(parents=True)
        (folder / code / "app.py").write_text("def handler(event, context): pass\n")
        (folder / "template.yaml").write_text(TEMPLATE % code)
    for path in tmp_path.rglob("*"):
        os.utime(path, (1_000_000, 1_000_000))
    return tmp_path


def served_from(project: Path, built: bool | None) -> tuple[str, list[str]]:
    template = read_template(EmulatorOptions(template=project / "template.yaml", built=built))
    said = [line for line in template.warnings if ".aws-sam" in line]
    return template.functions["F"].code_path.relative_to(project).as_posix(), said


def test_a_newer_build_is_served_and_a_line_says_so(project: Path) -> None:
    os.utime(project / ".aws-sam/build/template.yaml", (2_000_000, 2_000_000))
    code, said = served_from(project, None)
    assert code == ".aws-sam/build/F"
    assert "is newer than the sources and is served" in said[0]
    assert served_from(project, False) == ("src", [])


@pytest.mark.parametrize("changed", ["template.yaml", "src/app.py"])
def test_an_older_build_is_not_served_and_a_line_names_what_is_newer(project: Path, changed: str) -> None:
    os.utime(project / changed, (3_000_000, 3_000_000))
    code, said = served_from(project, None)
    assert code == "src"
    assert f"is older than {project / changed}: the sources are served" in said[0]
    assert served_from(project, True)[0] == ".aws-sam/build/F"


def test_what_is_no_source_does_not_make_a_build_old(project: Path) -> None:
    (project / "src/__pycache__").mkdir()
    (project / "src/__pycache__/app.pyc").write_text("")
    (project / "src/.hidden").write_text("")
    assert served_from(project, None)[0] == ".aws-sam/build/F"


def test_without_a_build_nothing_is_said(project: Path) -> None:
    (project / ".aws-sam/build/template.yaml").unlink()
    assert served_from(project, None) == ("src", [])
