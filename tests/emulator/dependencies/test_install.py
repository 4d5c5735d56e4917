"""Dependencies of functions and layers come by themselves, once, with their pins, and a failure names what is missing."""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from warmfront.emulator.dependencies.install import Installer
from warmfront.emulator.dependencies.requirements import read_project, unmet
from warmfront.emulator.template import FunctionConfig

from tests.emulator.dependencies.wheels import make_wheel
from tests.emulator.harness import template
from tests.emulator.serving import Served, serve


def function(name: str, folder: Path, **settings: Any) -> FunctionConfig:
    return FunctionConfig(name, name, "app.handler", **{"runtime": "python3.13", "code_path": folder, **settings})


class Bench:
    """A folder of wheels, a cache and functions beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[str] = []
        for version in ("1.0", "2.0"):
            make_wheel(root / "wheels", "wfdemo", version)
        make_wheel(root / "wheels", "wfneeds", "1.0", requires="wfdemo<2")

    def folder(self, name: str, requirements: str, *, file: str = "requirements.txt") -> Path:
        folder = self.root / name
        folder.mkdir()
        (folder / file).write_text(
            requirements.replace("WHEELS", "--no-index --find-links ../wheels".replace(" --f", "\n--f"))
        )
        return folder

    def install(self, *functions: FunctionConfig, install: bool = True) -> tuple[list[Path | None], list[str]]:
        installer = Installer(self.root / ".warmfront/dependencies", self.said.append, install)
        found = installer.of_template(template(*functions))
        return [config.dependencies for config in found.functions.values()], installer.warnings


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def versions(folder: Path | None) -> dict[str, str]:
    assert folder is not None
    pairs = (info.stem.rsplit("-", 1) for info in folder.glob("*.dist-info"))
    return dict(pairs)


def test_pins_hold_for_each_function(bench: Bench) -> None:
    one = function("One", bench.folder("one", "WHEELS\nwfdemo==1.0\n"))
    two = function("Two", bench.folder("two", "WHEELS\nwfdemo>=2\n"))
    (first, second), warnings = bench.install(one, two)
    assert (versions(first), versions(second), warnings) == ({"wfdemo": "1.0"}, {"wfdemo": "2.0"}, [])
    assert bench.said == ["installing requirements.txt of One", "installing requirements.txt of Two"]


def test_what_a_package_needs_comes_with_it(bench: Bench) -> None:
    (folder,), _ = bench.install(function("F", bench.folder("f", "WHEELS\nwfneeds\n")))
    assert versions(folder) == {"wfneeds": "1.0", "wfdemo": "1.0"}


def test_included_files_and_constraints_count(bench: Bench) -> None:
    folder = bench.folder("f", "WHEELS\n-r more/base.txt\n-c limits.txt\n")
    (folder / "more").mkdir()
    (folder / "more/base.txt").write_text("wfdemo  # a comment\n")
    (folder / "limits.txt").write_text("wfdemo<2\n")
    (made,), warnings = bench.install(function("F", folder))
    assert (versions(made), warnings) == ({"wfdemo": "1.0"}, [])


def test_a_change_of_an_included_file_installs_anew_and_nothing_else_does(bench: Bench) -> None:
    folder = bench.folder("f", "WHEELS\n-r base.txt\n")
    (folder / "base.txt").write_text("wfdemo==1.0\n")
    (first,), _ = bench.install(function("F", folder))
    (again,), _ = bench.install(function("F", folder))
    assert again == first
    assert len(bench.said) == 1
    (folder / "base.txt").write_text("wfdemo==2.0\n")
    (other,), _ = bench.install(function("F", folder))
    assert versions(other) == {"wfdemo": "2.0"}


def test_pyproject_is_read_where_there_is_no_requirements_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(bench.root / "wheels"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    folder = bench.folder(
        "f", '[project]\nname = "f"\nversion = "1"\ndependencies = ["wfdemo<2"]\n', file="pyproject.toml"
    )
    (made,), warnings = bench.install(function("F", folder))
    assert (versions(made), warnings) == ({"wfdemo": "1.0"}, [])


def test_packages_of_the_emulators_own_are_taken_where_they_meet_the_requirements(bench: Bench) -> None:
    own = metadata.version("jinja2")
    folders, warnings = bench.install(
        function("F", bench.folder("f", f"jinja2=={own}\nabsent; python_version < '3'\n"))
    )
    assert (folders, warnings, bench.said) == ([None], [], [])


def test_an_own_package_of_another_version_does_not_do(bench: Bench) -> None:
    folder = bench.folder("f", "WHEELS\njinja2==0.0.1\n")
    (made,), (warning,) = bench.install(function("F", folder))
    assert made is None
    assert "missing here: jinja2==0.0.1" in warning


def test_an_own_package_without_its_extra_does_not_do() -> None:
    # schemathesis' "bench" extra is not installed here
    assert unmet(["schemathesis[bench]"], Path("/nowhere")) == ["schemathesis[bench]"]
    assert unmet(["schemathesis"], Path("/nowhere")) == []


@pytest.mark.parametrize("vendored", ["wfdemo-1.0.dist-info", "wfdemo", "wfdemo.py"])
def test_vendored_packages_are_seen(bench: Bench, vendored: str) -> None:
    folder = bench.folder("f", "wfdemo==1.0\n")
    (folder / vendored).write_text("") if vendored.endswith(".py") else (folder / vendored).mkdir()
    assert bench.install(function("F", folder)) == ([None], [])


def test_a_vendored_package_of_another_version_is_none(bench: Bench) -> None:
    folder = bench.folder("f", "WHEELS\nwfdemo==2.0\n")
    (folder / "wfdemo-1.0.dist-info").mkdir()
    (made,), _ = bench.install(function("F", folder))
    assert versions(made) == {"wfdemo": "2.0"}


def test_what_cannot_be_installed_is_named_and_stops_nobody(bench: Bench) -> None:
    bad = function("Bad", bench.folder("bad", "WHEELS\nwfabsent==3\nwfdemo\n"))
    good = function("Good", bench.folder("good", "WHEELS\nwfdemo==1.0\n"))
    (none, made), (warning,) = bench.install(bad, good)
    assert none is None
    assert versions(made) == {"wfdemo": "1.0"}
    assert "Bad: " in warning
    assert "missing here: wfabsent==3, wfdemo; it could not be installed" in warning
    assert not list((bench.root / ".warmfront/dependencies").glob("*-*")), "no half installed folder is left"


def test_no_install_names_what_is_missing(bench: Bench) -> None:
    folders, (warning,) = bench.install(function("F", bench.folder("f", "wfdemo\n")), install=False)
    assert folders == [None]
    assert "wfdemo is not installed; leave --no-install out" in warning
    assert bench.said == []


def test_a_line_that_is_no_requirement_is_left_to_the_installer(bench: Bench) -> None:
    folder = bench.folder("f", "WHEELS\n../wheels/wfdemo-2.0-py3-none-any.whl\n")
    (made,), warnings = bench.install(function("F", folder))
    assert (versions(made), warnings) == ({"wfdemo": "2.0"}, [])
    found = read_project(folder)
    assert found is not None
    assert found.lines == []


def test_a_built_function_and_one_that_cannot_run_install_nothing(bench: Bench) -> None:
    folder = bench.folder("f", "wfdemo==1.0\n")
    assert bench.install(function("F", folder, built=True), function("G", folder, not_runnable="no")) == (
        [None, None],
        [],
    )


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on this machine")
def test_packages_of_node_come_by_npm(bench: Bench) -> None:
    package = bench.root / "greet"
    package.mkdir()
    (package / "package.json").write_text('{"name": "greet", "version": "1.0.0", "main": "index.js"}')
    (package / "index.js").write_text("module.exports = () => 'hello'")
    folder = bench.folder("f", json.dumps({"dependencies": {"greet": f"file:{package}"}}), file="package.json")
    (made,), warnings = bench.install(function("F", folder, runtime="nodejs22.x"))
    assert warnings == []
    assert made is not None
    assert (made / "node_modules/greet/index.js").exists()


TEMPLATE = """Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Runtime: python3.13, Handler: app.handler}}
Resources:
  One:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: one/, Events: {Get: {Type: HttpApi, Properties: {Path: /one, Method: GET}}}}
  Two:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: two/, Layers: [!Ref Shared], Events: {Get: {Type: HttpApi, Properties: {Path: /two, Method: GET}}}}
  Shared:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layer/}
    Metadata: {BuildMethod: python3.13}
"""


@pytest.fixture
def served(bench: Bench) -> Iterator[Served]:
    code = (
        "import json, wfdemo\n\ndef handler(event, context):\n    return {'statusCode': 200, 'body': wfdemo.VERSION}\n"
    )
    (bench.folder("one", "WHEELS\nwfdemo==1.0\n") / "app.py").write_text(code)
    (bench.root / "two").mkdir()
    (bench.root / "two/app.py").write_text(code)
    bench.folder("layer", "WHEELS\nwfdemo==2.0\n")
    (bench.root / "template.yaml").write_text(TEMPLATE)
    with serve(bench.root / "template.yaml") as served:
        yield served


def test_handlers_import_what_their_function_or_layer_asks_for(served: Served) -> None:
    answers = []
    for path in ("/one", "/two"):
        with urllib.request.urlopen(served.url + path, timeout=30) as answer:
            answers.append(answer.read().decode())
    assert answers == ["1.0", "2.0"]
    assert served.wait_for("packages   installing requirements.txt of Shared")
