"""In a CDK project, the template is what `cdk synth` left in cdk.out."""

from pathlib import Path

import pytest
from warmfront.cli.samconfig_arguments import find_template
from warmfront.emulator.template import TemplateError


def project(folder: Path, *names: str) -> Path:
    (folder / "cdk.json").write_text("{}")
    (folder / "cdk.out").mkdir()
    for name in names:
        (folder / "cdk.out" / name).write_text("{}")
    return folder


def test_the_only_stack_is_found(tmp_path: Path) -> None:
    folder = project(tmp_path, "Shop.template.json", "ShopInner1234.nested.template.json", "Shop.assets.json")
    assert find_template(folder) == folder / "cdk.out" / "Shop.template.json"


def test_a_sam_template_comes_first(tmp_path: Path) -> None:
    (project(tmp_path, "Shop.template.json") / "template.yaml").write_text("")
    assert find_template(tmp_path) == tmp_path / "template.yaml"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no \\*.template.json; run `cdk synth` first"),
        (("A.template.json", "B.template.json"), r"several stacks; name one .*\(A.template.json, B.template.json\)"),
    ],
)
def test_none_and_several_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        find_template(project(tmp_path, *names))
