"""Parameter mapping of an HTTP API's path, in front of functions: what their events say."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from warmfront.emulator.gateway import create_apps
from warmfront.emulator.template import Template

from tests.emulator.gateway.asgi import ask
from tests.emulator.gateway.conftest import Recorder

Load = Callable[[str], Template]
API = """
  A: {{Type: AWS::Serverless::Function}}
  Api: {{Type: AWS::ApiGatewayV2::Api, Properties: {{Name: shop, ProtocolType: HTTP}}}}
  Stage: {{Type: AWS::ApiGatewayV2::Stage, Properties: {{ApiId: !Ref Api, StageName: {stage}}}}}
  ToA:
    Type: AWS::ApiGatewayV2::Integration
    Properties:
      ApiId: !Ref Api
      IntegrationType: AWS_PROXY
      IntegrationUri: !GetAtt A.Arn
      PayloadFormatVersion: "{payload}"
      RequestParameters: {{"overwrite:path": "{value}"}}
  Old:
    Type: AWS::ApiGatewayV2::Route
    Properties: {{ApiId: !Ref Api, RouteKey: "GET /old/{{id}}", Target: !Sub "integrations/${{ToA}}"}}
"""


def event(template: Template, path: str) -> dict[str, Any]:
    service = Recorder()
    (app,) = create_apps(template, service)
    assert asyncio.run(ask(app, "GET", path, []))[0] == 200
    return service.calls[0][1]


@pytest.mark.parametrize("payload", ["1.0", "2.0"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/new/$request.path.id", "/new/7"),
        ("$request.path", "/old/7"),
        ("/$context.stage$request.path", "/{stage}/old/7"),
    ],
)
@pytest.mark.parametrize(("stage", "path"), [("$default", "/old/7"), ("dev", "/dev/old/7"), ("dev", "/old/7")])
def test_a_function_gets_the_overwritten_path(
    template: Load, stage: str, path: str, value: str, expected: str, payload: str
) -> None:
    """`$request.path` is the path without the stage's name (AWS, http-api-parameter-mapping)."""
    found = event(template(API.format(stage=stage, value=value, payload=payload)), path)
    context = found["requestContext"]
    paths = (found["rawPath"], context["http"]["path"]) if payload == "2.0" else (found["path"], context["path"])
    assert paths == (expected.format(stage=stage),) * 2
    assert found["pathParameters"] == {"id": "7"}
