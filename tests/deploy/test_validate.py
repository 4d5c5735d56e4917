"""`sam validate --lint` as a person runs it, and cfn-lint on what the SAM transform makes of the template."""

import json
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.deploy import tools
from tests.deploy.account import expanded
from tests.deploy.conftest import Deployment
from tests.deploy.tools import Built, Failed, Project, with_code_in_s3

pytestmark = pytest.mark.deploy

MISTAKEN = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {AutoPublishAlias: live, AutoPublishAliasAllProperties: true}}
Resources:
  Shop: {Type: AWS::Serverless::Function, Properties: {CodeUri: ., Handler: app.handler, Runtime: python3.13}}
"""


@pytest.mark.parametrize("environment", ["default", "prod", "data", "data-prod"])
def test_sam_finds_nothing_to_say_about_the_template(validations: dict[str, Future[str]], environment: str) -> None:
    printed = validations[environment].result()
    assert "is a valid SAM Template" in printed
    assert "[[W" not in printed
    assert "[[E" not in printed


def test_cfn_lint_finds_nothing_in_the_translated_template(deployment: Deployment, tmp_path: Path) -> None:
    template = tmp_path / "translated.json"
    template.write_text(json.dumps(deployment.template))
    assert tools.lint(template) == ""


def test_cfn_lint_finds_nothing_in_the_data_tier(project: Project) -> None:
    assert tools.lint(project.folder / "data-tier.yaml") == ""


def test_a_property_that_sam_does_not_know_is_found(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(MISTAKEN)
    with pytest.raises(Failed, match="AutoPublishAliasAllProperties"):
        Project(tmp_path).sam("validate", "--lint")


def test_a_circle_that_sam_does_not_see_is_found(
    project: Project, built: Built, data_dev: Deployment, tmp_path: Path
) -> None:
    """A canary that watches the API which routes to it: CloudFormation would refuse it, after minutes."""
    template = with_code_in_s3(built.template)
    template["Resources"]["Circle"] = {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "ComparisonOperator": "GreaterThanThreshold",
            "Dimensions": [{"Name": "ApiId", "Value": {"Ref": "Api"}}],
            "EvaluationPeriods": 1,
            "MetricName": "5xx",
            "Namespace": "AWS/ApiGateway",
        },
    }
    watching = {"Type": "AllAtOnce", "Alarms": [{"Ref": "Circle"}]}
    template["Resources"]["Pooled"]["Properties"]["DeploymentPreference"] = watching
    translated = tmp_path / "translated.json"
    translated.write_text(json.dumps(expanded(template, {**project.parameters("default"), **data_dev.outputs})))
    assert "E3004" in tools.lint(translated)
