"""Folders as on Lambda: code read-only at /var/task, layers at /opt, a /tmp of each environment's own, of bounded size."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from warmfront.backing.executables import Refusal, version_of
from warmfront.backing.identity import in_namespace
from warmfront.emulator.lambda_service.environments.mount_namespace import MountsInTheMaking, MountsRefused
from warmfront.emulator.template import FunctionConfig, LayerConfig

from tests.emulator.harness import HANDLERS, Harness, function, running

ROOT = Path(__file__).parents[4]


def refusal(tmp_path: Path) -> str | None:
    """Why there can be no private mounts on this machine."""
    try:
        MountsInTheMaking.begin(tmp_path).finish().close()
    except MountsRefused as error:
        return str(error)
    return None


@pytest.fixture(scope="module", autouse=True)
def _possible(tmp_path_factory: pytest.TempPathFactory) -> None:
    if reason := refusal(tmp_path_factory.mktemp("probe")):
        pytest.skip(f"no private mounts here: {reason}")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A task root that holds the handlers of these tests and nothing else."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "folders.py").write_bytes((HANDLERS / "folders.py").read_bytes())
    return folder


@pytest.fixture
def service(tmp_path: Path, code: Path) -> Iterator[Harness]:
    functions = [
        function("plain", "folders.handler", code_path=code, ephemeral_storage_mb=512),
        function("other", "folders.handler", code_path=code),
        function("fails", "folders.fail", code_path=code),
        function(
            "snap", "folders.handler", code_path=code, snap_start=True, auto_publish_alias="live",
            environment={"LEAVE_AT_INIT": "1"},
        ),
    ]  # fmt: skip
    with running(tmp_path, *functions, private_mounts=True) as harness:
        yield harness


def test_the_code_is_at_var_task_and_cannot_be_written(service: Harness, code: Path) -> None:
    seen = service.invoke(
        "plain", {"write": {"/var/task/new": 1, "/opt/new": 1, "/new": 1, "/var/runtime/new": 1}}
    ).payload
    assert (seen["cwd"], seen["task"], seen["file"]) == ("/var/task", ["folders.py"], "/var/task/folders.py")
    assert set(seen["written"].values()) == {"OSError: Read-only file system"}
    assert sorted(path.name for path in code.iterdir() if path.name != "__pycache__") == ["folders.py"]
    if os.geteuid() != 0:
        assert int(seen["capabilities"], 16) == 0
    assert seen["path"][:2] == ["/var/task", "/var/runtime"]
    assert seen["variables"] == {}, "nothing of the emulator's, and no TMPDIR: on Lambda there is none"


def test_tmp_is_each_environments_own_and_is_kept_from_invocation_to_invocation(service: Harness) -> None:
    assert service.invoke("plain", {"write": {"/tmp/mine": 1}}).payload["tmp"] == []
    assert service.invoke("plain", {}).payload["tmp"] == ["mine"]
    assert service.invoke("other", {}).payload["tmp"] == []
    service.settled("plain")
    service.run(service.function("plain").retire())
    assert service.invoke("plain", {}).payload["tmp"] == []


def test_tmp_outlives_a_reset_of_its_environment(service: Harness) -> None:
    service.invoke("plain", {"write": {"/tmp/mine": 1}})
    assert service.invoke("plain", {"exit": True}).payload["errorType"] == "Runtime.ExitError"
    again = service.invoke("plain", {}).payload
    assert (again["tmp"], again["cwd"]) == (["mine"], "/var/task")
    assert service.function("plain").counters.cold_starts == 1


def test_tmp_holds_no_more_than_ephemeral_storage(tmp_path: Path, code: Path) -> None:
    small = function("small", "folders.handler", code_path=code, ephemeral_storage_mb=2)
    with running(tmp_path, small, private_mounts=True) as service:
        seen = service.invoke("small", {"write": {"/tmp/fits": 1 << 20, "/tmp/too_much": 2 << 20}}).payload
    assert seen["written"] == {"/tmp/fits": "written", "/tmp/too_much": "OSError: No space left on device"}


def test_stack_traces_name_var_task(service: Harness) -> None:
    outcome = service.invoke("fails", {})
    assert outcome.payload["stackTrace"][0].startswith('  File "/var/task/folders.py", line ')
    assert 'File "/var/task/folders.py", line ' in outcome.log


def test_a_restore_has_what_init_left_in_tmp_and_nothing_of_other_restores(service: Harness) -> None:
    snap = service.function("snap")
    first = service.run(service.invoke_async("snap", {"write": {"/tmp/mine": 1}}, qualifier="live")).payload
    assert first["tmp"] == ["from_init"]
    assert service.run(service.invoke_async("snap", {}, qualifier="live")).payload["tmp"] == ["from_init", "mine"]
    assert service.run(service.invoke_async("snap", {"exit": True}, qualifier="live")).result.function_error
    assert service.run(service.invoke_async("snap", {}, qualifier="live")).payload["tmp"] == ["from_init", "mine"]
    service.settled("snap")
    service.run(snap.retire())
    assert service.run(service.invoke_async("snap", {}, qualifier="live")).payload["tmp"] == ["from_init"]


def layer(folder: Path, name: str, where: str, *more: str) -> LayerConfig:
    (folder / "python").mkdir(parents=True)
    for module in ("overlap", *more):
        (folder / "python" / f"{module}.py").write_text(f"WHERE = {where!r}\n")
    return LayerConfig(name, folder)


def zipped(content: LayerConfig, path: Path) -> LayerConfig:
    assert content.content_path is not None
    with zipfile.ZipFile(path, "w") as archive:
        for each in content.content_path.rglob("*"):
            archive.write(each, each.relative_to(content.content_path))
    return LayerConfig(content.name, path)


@pytest.mark.parametrize("private", [True, False], ids=["private", "host"])
def test_layers_of_one_name_and_layers_as_zip_files_are_merged_in_order(
    tmp_path: Path, code: Path, private: bool
) -> None:
    first = layer(tmp_path / "one/same", "same", "first", "only_first")
    second = zipped(layer(tmp_path / "two/same", "same", "second", "only_second"), tmp_path / "second.zip")
    (code / "app.py").write_text(
        "import overlap, only_first, only_second\n"
        "def handler(event, context):\n    return [overlap.WHERE, only_first.WHERE, only_second.WHERE, overlap.__file__]\n"
    )
    config = function("layered", "app.handler", code_path=code, layers=(first, second))
    with running(tmp_path, config, private_mounts=private) as service:
        seen = service.invoke("layered").payload
    assert seen[:3] == ["second", "first", "second"]
    assert seen[3].startswith("/opt/python/") is private


def test_code_with_requirements_can_be_written_through_no_link(tmp_path: Path, code: Path) -> None:
    (code / "requirements.txt").write_text("packaging\n")
    (code / "inner").mkdir()
    (code / "app.py").write_text(
        "import packaging, folders\n"
        "def handler(event, context):\n    return [packaging.__file__, folders.attempt('/var/task/inner/new')]\n"
    )
    with running(tmp_path, function("wants", "app.handler", code_path=code), private_mounts=True) as service:
        where, written = service.invoke("wants").payload
    assert where.startswith("/var/task/packaging/")
    assert written == "OSError: Read-only file system"
    assert not list((code / "inner").iterdir())


def test_a_bootstrap_that_is_not_ours_sees_the_same_folders(tmp_path: Path) -> None:
    folder = tmp_path / "provided"
    folder.mkdir()
    (folder / "bootstrap").write_text(
        '#!/bin/sh\nset -e\nApi="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"\n'
        f"exec {os.path.realpath(sys.executable)} - <<'E'\n"  # not a virtual environment's, which may lie below /tmp
        "import json, os, urllib.request\n"
        "api = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/runtime/invocation/'\n"
        "while True:\n"
        "    with urllib.request.urlopen(api + 'next') as answer:\n"
        "        request = answer.headers['Lambda-Runtime-Aws-Request-Id']; answer.read()\n"
        "    body = json.dumps([os.getcwd(), os.listdir('/var/task'), os.listdir('/tmp')]).encode()\n"
        "    urllib.request.urlopen(api + request + '/response', body).read()\n"
        "E\n"
    )
    (folder / "bootstrap").chmod(0o755)
    config = function("own", "none", runtime="provided.al2023", code_path=folder)
    with running(tmp_path, config, private_mounts=True) as service:
        outcome = service.invoke("own")
        assert outcome.payload == ["/var/task", ["bootstrap"], []], outcome.log


def test_an_ordinary_user_has_them_too_without_any_capability(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("every other test here ran as an ordinary user")
    if isinstance(version_of(Path(sys.executable), in_namespace()), Refusal):
        pytest.skip("root cannot become an ordinary user here")
    chosen = "var_task or kept or reset or restore or ephemeral"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", chosen]
    done = subprocess.run(
        in_namespace().command([*command, "--basetemp", str(tmp_path / "inner")]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_where_mounts_are_refused_functions_run_as_they_can_and_one_warning_says_so(
    tmp_path: Path, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(making: MountsInTheMaking) -> None:
        making.abandon()
        raise MountsRefused("unshare 268566528 failed")

    monkeypatch.setattr(MountsInTheMaking, "finish", refuse)
    functions: list[FunctionConfig] = [function(name, "app.handler", code_path=code) for name in ("a", "b")]
    (code / "app.py").write_text("import os\ndef handler(event, context):\n    return os.getcwd()\n")
    with running(tmp_path, *functions, private_mounts=True) as service:
        assert service.invoke("a").payload == str(code)
        said = [line for line in service.service.warnings if "this machine's folders" in line]
        assert len(said) == 1
        assert "unshare 268566528 failed" in said[0]


@pytest.mark.parametrize("private", [True, False], ids=["private", "host"])
@pytest.mark.parametrize("where", ["/opt/wrap", "/var/task/wrap"])
def test_a_wrapper_script_starts_the_runtime(tmp_path: Path, code: Path, private: bool, where: str) -> None:
    folder = layer(tmp_path / "one", "one", "first")
    assert folder.content_path is not None
    script = (folder.content_path if where.startswith("/opt") else code) / "wrap"
    script.write_text('#!/bin/sh\nexport WRAPPED="$(basename "$0") $#"\nexec "$@"\n')
    script.chmod(0o755)
    (code / "app.py").write_text(
        "import os\ndef handler(event, context):\n    return [os.environ['WRAPPED'], os.environ['AWS_LAMBDA_EXEC_WRAPPER']]\n"
    )
    config = function(
        "wrapped", "app.handler", code_path=code, layers=(folder,), environment={"AWS_LAMBDA_EXEC_WRAPPER": where}
    )
    with running(tmp_path, config, private_mounts=private) as service:
        outcome = service.invoke("wrapped")
        assert outcome.payload == ["wrap 4", where], outcome.log
