"""A change in shared/ alone reaches what is served: a new layer, a new version of each function, each alias moved."""

from typing import Any

import pytest

from tests.deploy.account import expanded
from tests.deploy.conftest import Deployment
from tests.deploy.tools import HOST, Built, Project, with_code_in_s3

pytestmark = pytest.mark.deploy

NOT_PUBLISHED = {"Migrate", "Relay"}  # they answer nobody: always the newest code


def changes(project: Project, dev: Deployment, data: Deployment, build: Built) -> set[tuple[str, str]]:
    """(action, type and logical id without its hash) of the change set that a deployment would execute."""
    project.deploy(build, "default", data.outputs, dev.account.url, "--no-execute-changeset")
    client = dev.account.client("cloudformation")
    newest = max(client.list_change_sets(StackName=dev.stack)["Summaries"], key=lambda each: each["CreationTime"])
    described = client.describe_change_set(ChangeSetName=newest["ChangeSetId"], StackName=dev.stack)
    found = (change["ResourceChange"] for change in described["Changes"])
    return {(each["Action"], each["ResourceType"].rpartition("::")[2] + " " + _name(each)) for each in found}


def _name(change: dict[str, str]) -> str:
    """Versions and layers end in a hash of what they hold."""
    name = change["LogicalResourceId"]
    return name[:-10] if change["ResourceType"] in ("AWS::Lambda::Version", "AWS::Lambda::LayerVersion") else name


def test_a_change_in_shared_alone_publishes_every_function(
    project: Project, dev: Deployment, data_dev: Deployment
) -> None:
    with project.changed("shared/kit/telemetry.py", 'LATENCY = "Latency"', 'LATENCY = "Latency"  # changed'):
        build = project.build(HOST, "changed")
    found = changes(project, dev, data_dev, build)
    assert ("Add", "LayerVersion SharedLayer") in found
    for name in dev.functions.keys() - NOT_PUBLISHED:
        assert ("Add", f"Version {name}Version") in found, name
        assert ("Modify", f"Alias {name}Aliaslive") in found, name


def test_a_build_of_the_same_code_publishes_nothing(project: Project, dev: Deployment, data_dev: Deployment) -> None:
    """Else every deployment would start every environment anew."""
    found = changes(project, dev, data_dev, project.build(HOST, "again"))
    assert not [each for _, each in found if each.startswith(("LayerVersion", "Version", "Alias"))]


def versions(template: dict[str, Any], project: Project) -> set[str]:
    resources = expanded(template, project.parameters("default"))["Resources"].items()
    return {name for name, resource in resources if resource["Type"] == "AWS::Lambda::Version"}


@pytest.mark.parametrize("missing", [None, "PublishLambdaVersion", "AutoPublishAliasAllProperties"])
def test_without_either_property_the_same_change_would_publish_nothing(
    project: Project, built: Built, missing: str | None
) -> None:
    """Each alone leaves every alias on the old layer, and says nothing."""
    published = []
    for content in ("s3://bucket/layer-1", "s3://bucket/layer-2"):
        template = with_code_in_s3(built.template, {"SharedLayer": content})
        for resource in template["Resources"].values():
            resource.get("Properties", {}).pop(missing, None)
        published.append(versions(template, project))
    first, second = published
    assert first
    assert (first & second == set()) if missing is None else (first == second)
