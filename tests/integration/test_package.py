"""The wheel: what it holds, and a run of what it installs in an environment that has never seen this checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import urllib.request
import zipfile
from pathlib import Path

import pytest
from warmfront.shop import PARTS

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120

FOREIGN = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Hello:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: hello.handler
      CodeUri: .
      Events:
        Get: {Type: HttpApi, Properties: {Method: GET, Path: "/hello/{name}"}}
"""
HANDLER = """
def handler(event, context):
    return {"statusCode": 200, "body": "hello " + event["pathParameters"]["name"]}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel; its dependencies are this environment's, without our checkout."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=PATIENCE_S)
    python = home / "bin" / "python"
    paths = json.loads(
        subprocess.check_output(
            [python, "-c", "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"], text=True
        )
    )
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, timeout=PATIENCE_S)
    # A path file's folder is searched for packages, and its own path files (our editable install) are not read.
    Path(paths["purelib"], "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    found = subprocess.check_output(
        [python, "-P", "-c", "import warmfront; print(warmfront.__file__)"], text=True, cwd="/"
    )
    assert found.startswith(paths["purelib"])
    return python.parent


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_warmfront_is_the_only_package(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in names(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"warmfront"}


def test_the_shop_and_all_data_files_travel(wheel: Path) -> None:
    tracked = subprocess.check_output(["git", "ls-files", "local/warmfront", *PARTS], text=True, cwd=ROOT).split()
    wanted = {
        name.removeprefix("local/") if name.startswith("local/") else f"warmfront/shop/{name}"
        for name in tracked
        if (ROOT / name).is_file()
    }
    assert sorted(wanted - set(names(wheel))) == []
    assert not [name for name in names(wheel) if "__pycache__" in name]


def test_the_layer_s_packages_are_the_package_s_own_dependencies() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "shared/requirements.txt").read_text().splitlines()
    layer = {line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()}
    assert layer <= set(project["dependencies"])


@pytest.mark.slow
def test_a_foreign_template_is_served_from_any_folder(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(FOREIGN)
    (tmp_path / "hello.py").write_text(HANDLER)
    environ = {"PATH": os.defpath, "HOME": str(tmp_path)}
    command = [str(installed / "warmfront"), "serve", "-t", "template.yaml", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(each for each in process.stdout if each.startswith("Warmfront ready on "))
            url = line.removeprefix("Warmfront ready on ").strip()
            with urllib.request.urlopen(f"{url}/hello/stranger", timeout=PATIENCE_S) as answer:
                assert answer.read() == b"hello stranger"
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@pytest.mark.slow
def test_the_shop_that_init_writes_is_measured(installed: Path, tmp_path: Path) -> None:
    environ = {"PATH": os.defpath, "HOME": str(tmp_path), "WARMFRONT_BACKING": "wheel"}
    warmfront = str(installed / "warmfront")
    subprocess.run([warmfront, "init", "shop"], cwd=tmp_path, env=environ, check=True, timeout=PATIENCE_S)
    done = subprocess.run(
        [warmfront, "bench", "--quick", "--only", "product", "-o", "result.json"],
        cwd=tmp_path / "shop",
        env=environ,
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "naive" in done.stdout
    assert (tmp_path / "shop" / "result.json").is_file()
