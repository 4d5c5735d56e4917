"""The AWS CLI's commands of docs/deploy.md, typed as they stand there, against the deployed stacks."""

import json
import re
from pathlib import Path

import pytest
from warmfront.emulator.template import parse_parameter_overrides

from tests.deploy import tools
from tests.deploy.conftest import Deployment
from tests.deploy.tools import ROOT

pytestmark = pytest.mark.deploy

PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def typed(beginning: str) -> list[str]:
    """The page's command lines that begin so, on one line each."""
    blocks = "".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
    return [line[2:] for line in blocks.splitlines() if line.startswith(f"$ {beginning}")]


def shell(command: str, deployment: Deployment, folder: Path) -> str:
    return tools.run(["bash", "-c", command], cwd=folder, environ={"AWS_ENDPOINT_URL": deployment.account.url})


@pytest.mark.parametrize("number", [0, 1])
def test_the_data_tiers_outputs_become_the_shops_parameters(
    number: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data: Deployment = request.getfixturevalue(("data_dev", "data_prod")[number])
    deploying = [line for line in typed("sam deploy") if "describe-stacks" in line][number]
    printed = shell(f"echo {deploying.removeprefix('sam deploy')}", data, tmp_path)
    given = parse_parameter_overrides(printed.strip().partition("--parameter-overrides ")[2])
    assert given.keys() - data.outputs.keys() == {"JwtIssuer", "JwtAudience"}
    assert {name: given[name] for name in data.outputs} == data.outputs


def test_migrate_is_invoked_by_its_real_name(dev: Deployment, tmp_path: Path) -> None:
    """Without the option that only AWS CLI v2 has, and needs to take the payload as it stands; PyPI has v1."""
    (invoking,) = typed("aws lambda invoke")
    v2 = " --cli-binary-format raw-in-base64-out"
    assert v2 in invoking
    invoking = invoking.replace(v2, "")
    names = {logical: physical for physical, logical in dev.logical_ids().items()}
    printed = shell(f"set -x; {invoking}", dev, tmp_path)
    assert f"--function-name {names['Migrate']} " in printed
    answered = shell(invoking.replace("/dev/stdout", "/dev/null"), dev, tmp_path)
    assert json.loads(answered)["StatusCode"] == 200
