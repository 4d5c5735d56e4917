"""Plain CloudFormation and the CDK's output are read as the SAM template that they amount to."""

import json
from pathlib import Path
from typing import Any

import pytest
from warmfront.emulator.template import JwtAuthorizer, LambdaAuthorizer, ScheduleSource, SqsSource, load_template
from warmfront.emulator.template.config import Template

HANDLER = "def handler(event, context):\n    return {}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(HANDLER)
    return tmp_path


def read(folder: Path, text: str) -> Template:
    (folder / "template.yaml").write_text(text)
    return load_template(folder / "template.yaml")


def routes(template: Template) -> dict[str, list[tuple[str, str, str | None]]]:
    return {
        api.logical_id: [(route.key, route.function, route.authorizer) for route in api.routes] for api in template.apis
    }


FUNCTION = """
  {name}:
    Type: AWS::Lambda::Function
    Properties: {{Runtime: python3.13, Handler: app.handler, Code: .}}
"""

HTTP = (
    "Resources:"
    + FUNCTION.format(name="F")
    + FUNCTION.format(name="Guard")
    + """
  Api:
    Type: AWS::ApiGatewayV2::Api
    Properties: {Name: shop, ProtocolType: HTTP, CorsConfiguration: {AllowOrigins: ["https://a.example"]}}
  ToF:
    Type: AWS::ApiGatewayV2::Integration
    Properties:
      ApiId: !Ref Api
      IntegrationType: AWS_PROXY
      IntegrationUri: !GetAtt F.Arn
      PayloadFormatVersion: "2.0"
      TimeoutInMillis: 5000
  Tokens:
    Type: AWS::ApiGatewayV2::Authorizer
    Properties:
      ApiId: !Ref Api
      AuthorizerType: JWT
      IdentitySource: [$request.header.Authorization]
      JwtConfiguration: {Issuer: "https://issuer.example", Audience: [shop]}
  Read:
    Type: AWS::ApiGatewayV2::Route
    Properties: {ApiId: !Ref Api, RouteKey: "GET /items/{id}", Target: !Join ["/", [integrations, !Ref ToF]]}
  Write:
    Type: AWS::ApiGatewayV2::Route
    Properties:
      ApiId: !Ref Api
      RouteKey: POST /items
      Target: !Sub integrations/${ToF}
      AuthorizationType: JWT
      AuthorizerId: !Ref Tokens
      AuthorizationScopes: [write]
  Rest:
    Type: AWS::ApiGatewayV2::Route
    Properties: {ApiId: !Ref Api, RouteKey: $default, Target: !Sub "integrations/${ToF}"}
  Stage:
    Type: AWS::ApiGatewayV2::Stage
    Properties: {ApiId: !Ref Api, StageName: live, StageVariables: {a: b}}
"""
)


def test_an_http_api_has_its_routes_stage_cors_and_authorizers(folder: Path) -> None:
    template = read(folder, HTTP)
    assert routes(template) == {
        "Api": [("GET /items/{id}", "F", None), ("POST /items", "F", "Tokens"), ("$default", "F", None)]
    }
    (api,) = template.apis
    assert (api.kind, api.stage, dict(api.stage_variables)) == ("http", "live", {"a": "b"})
    assert api.cors is not None
    assert api.cors.allow_origins == ("https://a.example",)
    assert [(route.payload_format, route.timeout_ms, route.scopes) for route in api.routes][1] == (
        "2.0",
        5000,
        ("write",),
    )
    authorizer = api.authorizers["Tokens"]
    assert isinstance(authorizer, JwtAuthorizer)
    assert (authorizer.issuer, authorizer.audience) == ("https://issuer.example", ("shop",))
    assert template.warnings == ()


def test_quick_create_is_one_route_to_one_function(folder: Path) -> None:
    text = "Resources:" + FUNCTION.format(name="F")
    text += "  Api: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: q, ProtocolType: HTTP, Target: !GetAtt F.Arn}}\n"
    assert routes(read(folder, text)) == {"Api": [("$default", "F", None)]}
    text = text.replace("Target:", 'RouteKey: "GET /only", Target:')
    assert routes(read(folder, text)) == {"Api": [("GET /only", "F", None)]}


def test_a_web_socket_api_is_named_and_the_others_are_served(folder: Path) -> None:
    text = HTTP + "  Chat: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: chat, ProtocolType: WEBSOCKET}}\n"
    template = read(folder, text)
    assert list(routes(template)) == ["Api"]
    assert any("Chat: WebSocket APIs are not served" in warning for warning in template.warnings)


URI = "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${%s.Arn}/invocations"
REST = (
    "Resources:"
    + FUNCTION.format(name="F")
    + FUNCTION.format(name="Guard")
    + f"""
  Api: {{Type: AWS::ApiGateway::RestApi, Properties: {{Name: shop}}}}
  Items: {{Type: AWS::ApiGateway::Resource, Properties: {{RestApiId: !Ref Api, ParentId: !GetAtt Api.RootResourceId, PathPart: items}}}}
  Item: {{Type: AWS::ApiGateway::Resource, Properties: {{RestApiId: !Ref Api, ParentId: !Ref Items, PathPart: "{{id}}"}}}}
  Keys:
    Type: AWS::ApiGateway::Authorizer
    Properties:
      RestApiId: !Ref Api
      Type: TOKEN
      IdentitySource: method.request.header.X-Key
      AuthorizerUri: !Sub "{URI % "Guard"}"
      AuthorizerResultTtlInSeconds: 60
  Root:
    Type: AWS::ApiGateway::Method
    Properties:
      RestApiId: !Ref Api
      ResourceId: !GetAtt Api.RootResourceId
      HttpMethod: ANY
      AuthorizationType: NONE
      Integration: {{Type: AWS_PROXY, IntegrationHttpMethod: POST, Uri: !Sub "{URI % "F"}"}}
  Get:
    Type: AWS::ApiGateway::Method
    Properties:
      RestApiId: !Ref Api
      ResourceId: !Ref Item
      HttpMethod: GET
      AuthorizationType: CUSTOM
      AuthorizerId: !Ref Keys
      ApiKeyRequired: true
      Integration: {{Type: AWS_PROXY, IntegrationHttpMethod: POST, Uri: !Sub "{URI % "F"}"}}
  Deployment: {{Type: AWS::ApiGateway::Deployment, DependsOn: Get, Properties: {{RestApiId: !Ref Api}}}}
  Stage:
    Type: AWS::ApiGateway::Stage
    Properties: {{RestApiId: !Ref Api, DeploymentId: !Ref Deployment, StageName: live, Variables: {{a: b}}}}
"""
)


def test_a_rest_api_of_resources_and_methods(folder: Path) -> None:
    template = read(folder, REST)
    assert routes(template) == {"Api": [("ANY /", "F", None), ("GET /items/{id}", "F", "Keys")]}
    (api,) = template.apis
    assert (api.kind, api.stage, dict(api.stage_variables)) == ("rest", "live", {"a": "b"})
    authorizer = api.authorizers["Keys"]
    assert isinstance(authorizer, LambdaAuthorizer)
    assert (authorizer.function, authorizer.kind, authorizer.ttl_s) == ("Guard", "token", 60)
    assert authorizer.identity_sources == ("$request.header.X-Key",)
    assert [route.api_key_required for route in api.routes] == [False, True]


def test_a_rest_api_with_a_body_is_its_document(folder: Path) -> None:
    body: dict[str, Any] = {
        "swagger": "2.0",
        "paths": {
            "/b": {"get": {"x-amazon-apigateway-integration": {"type": "aws_proxy", "uri": {"Fn::Sub": URI % "F"}}}}
        },
    }
    text = "Resources:" + FUNCTION.format(name="F")
    text += f"  Api: {{Type: AWS::ApiGateway::RestApi, Properties: {{Name: b, Body: {json.dumps(body)}}}}}\n"
    assert routes(read(folder, text)) == {"Api": [("GET /b", "F", None)]}


EVENTS = (
    "Resources:"
    + FUNCTION.format(name="F")
    + """
  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref F, AuthType: NONE, Cors: {AllowOrigins: ["*"]}}}
  Work: {Type: AWS::SQS::Queue}
  Feed:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !GetAtt F.Arn
      EventSourceArn: !GetAtt Work.Arn
      BatchSize: 3
      FunctionResponseTypes: [ReportBatchItemFailures]
  Nightly:
    Type: AWS::Events::Rule
    Properties: {ScheduleExpression: rate(5 minutes), State: DISABLED, Targets: [{Id: a, Arn: !GetAtt F.Arn, Input: '{"a":1}'}]}
  Sometimes:
    Type: AWS::Scheduler::Schedule
    Properties:
      ScheduleExpression: cron(0 9 * * ? *)
      ScheduleExpressionTimezone: Europe/Vienna
      FlexibleTimeWindow: {Mode: "OFF"}
      Target: {Arn: !GetAtt F.Arn, RoleArn: "arn:aws:iam::123456789012:role/r"}
  Permission: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref F, Action: a, Principal: p}}
"""
)


def test_urls_mappings_rules_and_schedules_belong_to_their_function(folder: Path) -> None:
    template = read(folder, EVENTS)
    assert routes(template) == {"FUrl": [("$default", "F", None)]}
    queue = next(each for each in template.event_sources if isinstance(each, SqsSource))
    assert (queue.function, queue.queue_name, queue.batch_size, queue.report_batch_item_failures) == (
        "F",
        "Work",
        3,
        True,
    )
    rule, schedule = [each for each in template.event_sources if isinstance(each, ScheduleSource)]
    assert (rule.expression, rule.enabled, rule.input, rule.scheduler) == ("rate(5 minutes)", False, '{"a":1}', False)
    assert (schedule.expression, schedule.timezone, schedule.scheduler) == ("cron(0 9 * * ? *)", "Europe/Vienna", True)


def test_a_mapping_reaches_a_function_through_its_alias(folder: Path) -> None:
    text = EVENTS.replace("FunctionName: !GetAtt F.Arn", "FunctionName: !Ref Live")
    text += "  Live: {Type: AWS::Lambda::Alias, Properties: {FunctionName: !Ref F, FunctionVersion: '1', Name: live}}\n"
    assert any(isinstance(each, SqsSource) for each in read(folder, text).event_sources)


def test_what_points_outside_the_template_is_named(folder: Path) -> None:
    text = EVENTS.replace("EventSourceArn: !GetAtt Work.Arn", "EventSourceArn: !ImportValue Elsewhere")
    warnings = "\n".join(read(folder, text).warnings)
    assert "Feed: it names no queue or stream of this template, so it feeds nothing" in warnings


def test_code_and_layers_of_the_cdk_lie_in_its_assets(folder: Path) -> None:
    (folder / "asset.abc").mkdir()
    (folder / "asset.abc" / "app.py").write_text(HANDLER)
    (folder / "asset.def").mkdir()
    bucket = {"S3Bucket": {"Fn::Sub": "cdk-${AWS::AccountId}"}, "S3Key": "abc.zip"}
    document = {
        "Resources": {
            "L": {
                "Type": "AWS::Lambda::LayerVersion",
                "Properties": {"Content": bucket},
                "Metadata": {"aws:asset:path": "asset.def", "aws:asset:property": "Content"},
            },
            "F": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Runtime": "python3.13",
                    "Handler": "app.handler",
                    "Code": bucket,
                    "Layers": [{"Ref": "L"}],
                },
                "Metadata": {"aws:asset:path": "asset.abc", "aws:asset:property": "Code"},
            },
        }
    }
    (folder / "Stack.template.json").write_text(json.dumps(document))
    function = load_template(folder / "Stack.template.json").functions["F"]
    assert function.code_path == (folder / "asset.abc").resolve()
    assert function.not_runnable is None
    assert [layer.content_path for layer in function.layers] == [(folder / "asset.def").resolve()]
