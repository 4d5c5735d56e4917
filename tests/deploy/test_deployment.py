"""`sam deploy` of what was built, dev and prod, to an account on loopback: packaging, transform, change set, outputs."""

import pytest
from warmfront.emulator.template import load_template

from tests.deploy.conftest import Deployment
from tests.deploy.tools import HOST, Project

pytestmark = pytest.mark.deploy


def test_sam_deploys_the_stack_and_prints_its_outputs(deployment: Deployment) -> None:
    assert f"Successfully created/updated stack - {deployment.stack}" in deployment.printed
    assert deployment.outputs["ApiUrl"].startswith("https://")
    assert deployment.outputs["ApiUrl"].endswith(".execute-api.us-east-1.amazonaws.com")


def test_the_deployed_routes_are_the_ones_the_emulator_serves(
    deployment: Deployment, project: Project, request: pytest.FixtureRequest
) -> None:
    environment = {"warmfront-dev": "default", "warmfront-prod": "prod"}[deployment.stack]
    parameters = {
        **project.parameters(environment),
        **request.getfixturevalue(f"data_{deployment.stack.rpartition('-')[2]}").outputs,
    }
    (served,) = load_template(project.folder / "template.yaml", parameters=parameters).apis
    (api,) = deployment.of_type("AWS::ApiGatewayV2::Api").values()
    paths = api["Body"]["paths"].items()
    deployed = {f"{method.upper()} {path}" for path, item in paths for method in item if method != "options"}
    assert deployed == {route.key for route in served.routes}


def test_functions_are_deployed_for_the_architecture_and_from_the_layer_just_built(deployment: Deployment) -> None:
    layers = deployment.of_type("AWS::Lambda::LayerVersion")
    assert len(layers) == 1
    for name, function in deployment.functions.items():
        assert function["Architectures"] == [HOST], name
        (layer,) = function["Layers"]
        assert ":layer:" in layer


def test_requests_go_to_the_alias_and_not_to_the_unpublished_code(deployment: Deployment) -> None:
    (api,) = deployment.of_type("AWS::ApiGatewayV2::Api").values()
    for path, item in api["Body"]["paths"].items():
        for method, operation in item.items():
            if "x-amazon-apigateway-integration" in operation:
                uri = operation["x-amazon-apigateway-integration"]["uri"]
                assert uri.endswith(":live/invocations"), (method, path)
