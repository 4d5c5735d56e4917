"""What `sam build` made: it holds what it should, for the right machine, and runs with nothing else beside it."""

import json
import struct
from pathlib import Path

import pytest

from tests.deploy import tools
from tests.deploy.conftest import Deployment
from tests.deploy.events import ALONE
from tests.deploy.tools import HOST, OTHER, Built, Call, Failed, Project

pytestmark = pytest.mark.deploy

MACHINES = {62: "x86_64", 183: "arm64"}  # e_machine of an ELF header: EM_X86_64, EM_AARCH64
UNZIPPED_BYTES_MAX = 250 * 1024 * 1024  # docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html


def machines(folder: Path) -> dict[str, str]:
    """Compiled file -> the machine it was compiled for."""
    found = {}
    for path in folder.rglob("*.so*"):
        header = path.read_bytes()[:20]
        assert header[:4] == b"\x7fELF", path
        found[path.name] = MACHINES.get(struct.unpack_from("<H", header, 18)[0], "another machine")
    return found


def test_every_compiled_file_is_for_the_architecture_asked_for(built: Built, built_for_other: Built) -> None:
    for build, architecture in ((built, HOST), (built_for_other, OTHER)):
        found = machines(build.folder)
        assert len(found) > 3  # asyncpg's, hiredis', msgspec's
        assert set(found.values()) == {architecture}, found


def test_the_layer_holds_shared_as_a_package_and_its_dependencies(built: Built) -> None:
    assert (built.layer / "shared" / "shop" / "settings.py").exists()
    assert (built.layer / "asyncpg").is_dir()
    assert not (built.layer / "shop").exists()


def test_a_function_holds_its_own_folder_and_no_other(built: Built, functions: dict[str, str]) -> None:
    for name, handler in functions.items():
        files = {str(path.relative_to(built.folder / name)) for path in (built.folder / name).rglob("*.py")}
        package = handler.rsplit(".", 2)[0].replace(".", "/")
        assert files
        assert all(file.startswith(f"{package}/") for file in files), files


def test_layer_and_function_stay_within_lambdas_limit(built: Built, built_for_other: Built) -> None:
    for build in (built, built_for_other):
        size = sum(path.stat().st_size for path in build.folder.rglob("*") if path.is_file())
        assert size < UNZIPPED_BYTES_MAX


def test_every_handler_runs_from_its_artefact_and_the_layer_alone(
    built: Built, alone: dict[str, Call], functions: dict[str, str]
) -> None:
    assert set(alone) == {"Naive", "Pooled", "Distributed", "Relay", "Migrate"}
    for name, call in alone.items():
        assert _origin(call, built, functions[name].rpartition(".")[0]) == "task"
        for module in ("shared", "shared.kit.telemetry", "asyncpg", "msgspec", "aws_lambda_powertools"):
            assert _origin(call, built, module) == "layer", (name, module)


def test_the_shop_says_how_long_to_wait_when_the_database_is_away(alone: dict[str, Call]) -> None:
    for name in ("Pooled", "Distributed"):
        for answer in alone[name].answers:
            assert answer["statusCode"] == 503
            assert "retry-after" in answer["headers"]
            assert answer["headers"]["content-type"] == "application/problem+json"
    for name in ("Relay", "Migrate"):
        assert all("errorType" in answer for answer in alone[name].answers), name


def test_the_built_functions_work_together(together: dict[str, Call]) -> None:
    """Schema and seed, reads, an order, and its event on the queue: what is deployed is what was tested."""
    assert together["Migrate"].answers[0]["databases"].keys() == {"naive", "pooled", "distributed"}
    for name in ("Naive", "Pooled", "Distributed"):
        assert [answer["statusCode"] for answer in together[name].answers] == [200, 200, 201], name
    assert "; hit" in together["Distributed"].answers[1]["headers"]["cache-status"]
    assert together["Relay"].answers == [{"published": 1, "refused": 0, "pending": 0, "purged": 0}]


def test_the_orders_event_is_on_the_queue_of_the_stack(dev: Deployment, together: dict[str, Call]) -> None:
    assert together["Relay"].answers
    url = dev.functions["Relay"]["Environment"]["Variables"]["SHOP_EVENTS_QUEUE_URL"]
    (message,) = dev.account.client("sqs").receive_message(QueueUrl=url)["Messages"]
    assert json.loads(message["Body"])["source"] == "/shop"


def test_a_snapshot_is_taken_without_a_loop_or_a_connection(
    built: Built, dev: Deployment, runtime: Path, tmp_path: Path
) -> None:
    """SnapStart's init: the hook that ends both is registered, and the module it needs is the runtime's."""
    handler = "functions.pooled.app.handler"
    call = _call(built, dev, "Pooled", handler, runtime, tmp_path, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    assert call.before_snapshot == ["Environment.reset"]


def test_a_layer_without_its_package_is_found(built: Built, dev: Deployment, runtime: Path, tmp_path: Path) -> None:
    """What the build makes of shared/ without ParentPackages: the modules beside the packages."""
    flat = tmp_path / "python"
    flat.mkdir()
    for path in (*built.layer.iterdir(), *(built.layer / "shared").iterdir()):
        if path.name not in ("shared", "__pycache__"):
            (flat / path.name).symlink_to(path)
    with pytest.raises(Failed, match="No module named 'shared'"):
        _call(built, dev, "Pooled", "functions.pooled.app.handler", runtime, tmp_path, layer=flat)


def test_a_setting_that_the_code_does_not_know_is_found(
    built: Built, dev: Deployment, runtime: Path, tmp_path: Path
) -> None:
    with pytest.raises(Failed, match="SHOP_POOL_MAXIMUM is no setting"):
        _call(built, dev, "Pooled", "functions.pooled.app.handler", runtime, tmp_path, SHOP_POOL_MAXIMUM="1")


def test_the_templates_own_mistake_of_a_layer_for_this_machine_is_found(project: Project, tmp_path: Path) -> None:
    mistaken = Project.copy(tmp_path / "project", project.folder)
    mistaken.plant("template.yaml", "      BuildArchitecture: !Ref Architecture\n", "")
    (mistaken.folder / "shared" / "requirements.txt").write_text("msgspec==0.22.0\n")
    build = mistaken.build("arm64")
    assert set(machines(build.folder).values()) == {"x86_64"}  # which the test above refuses


def _call(
    built: Built,
    deployment: Deployment,
    name: str,
    handler: str,
    runtime: Path,
    scratch: Path,
    *,
    layer: Path | None = None,
    **more: str,
) -> Call:
    return tools.call(
        handler,
        ALONE[name],
        folders=(built.folder / name, layer or built.layer, runtime),
        environ={**deployment.alone(name), **more},
        scratch=scratch,
    )


def _origin(call: Call, built: Built, module: str) -> str:
    path = Path(call.origins[module])
    if path.is_relative_to(built.layer):
        return "layer"
    return "task" if path.is_relative_to(built.folder) else str(path)
