"""Usage plans: the rate and quota of each key, and keys that a Lambda authorizer names."""

import asyncio
import json
from collections.abc import Callable
from random import Random

import pytest
from warmfront.emulator.gateway import GatewayOptions, create_apps
from warmfront.emulator.gateway.exchange import Stamps
from warmfront.emulator.lambda_service.types import InvocationResult
from warmfront.emulator.template import Template

from tests.emulator.gateway.asgi import ask
from tests.emulator.gateway.conftest import Recorder

Load = Callable[[str], Template]
TEMPLATE = """
  Api: {Type: AWS::Serverless::Api, Properties: {StageName: v1, Auth: {ApiKeyRequired: true}}}
  One: {Type: AWS::ApiGateway::ApiKey, Properties: {Enabled: true, Value: first-key-0123456789}}
  Two: {Type: AWS::ApiGateway::ApiKey, Properties: {Enabled: true, Value: second-key-0123456789}}
  Plan:
    Type: AWS::ApiGateway::UsagePlan
    Properties: {ApiStages: [{ApiId: !Ref Api, Stage: v1}], Quota: {Limit: 3, Period: DAY}, Throttle: {RateLimit: 1, BurstLimit: 2}}
  LinkOne: {Type: AWS::ApiGateway::UsagePlanKey, Properties: {KeyId: !Ref One, KeyType: API_KEY, UsagePlanId: !Ref Plan}}
  LinkTwo: {Type: AWS::ApiGateway::UsagePlanKey, Properties: {KeyId: !Ref Two, KeyType: API_KEY, UsagePlanId: !Ref Plan}}
  A:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        Get: {Type: Api, Properties: {Path: /a, Method: get, RestApiId: !Ref Api}}
        Open: {Type: Api, Properties: {Path: /open, Method: get, RestApiId: !Ref Api, Auth: {ApiKeyRequired: false}}}
"""


class Client:
    def __init__(self, template: Template, *, enforce_plans: bool) -> None:
        self.now_s, self.day_s = 0.0, 1_584_039_838.0
        options = GatewayOptions(
            enforce_throttles=enforce_plans,
            monotonic=lambda: self.now_s,
            stamps=Stamps(clock=lambda: self.day_s, random=Random(1)),
            note=lambda _: None,
        )
        (self._app,) = create_apps(template, Recorder(), options)

    def get(self, key: str, path: str = "/v1/a") -> tuple[int, str]:
        status, _, body = asyncio.run(ask(self._app, "GET", path, [("x-api-key", key)] if key else []))
        return status, json.loads(body)["message"] if status != 200 else ""


ONE, TWO = "first-key-0123456789", "second-key-0123456789"


def test_each_key_has_its_own_rate(template: Load) -> None:
    client = Client(template(TEMPLATE), enforce_plans=True)
    assert [client.get(ONE)[0] for _ in range(3)] == [200, 200, 429]
    assert client.get(ONE)[1] == "Too Many Requests"
    assert client.get(TWO)[0] == 200
    client.now_s = 1.0
    assert client.get(ONE)[0] == 200


def test_a_quota_is_counted_for_each_key_and_begins_anew_with_its_period(template: Load) -> None:
    client = Client(template(TEMPLATE), enforce_plans=True)
    found = []
    for _ in range(4):
        client.now_s += 5
        found.append(client.get(ONE))
    assert found == [(200, ""), (200, ""), (200, ""), (429, "Limit Exceeded")]
    assert client.get(TWO)[0] == 200
    client.day_s += 86_400
    assert client.get(ONE)[0] == 200


def test_without_enforce_throttles_a_key_is_required_and_nothing_is_counted(template: Load) -> None:
    client = Client(template(TEMPLATE), enforce_plans=False)
    assert client.get("") == (403, "Forbidden")
    assert [client.get(ONE)[0] for _ in range(10)] == [200] * 10


def test_an_event_may_open_a_method(template: Load) -> None:
    assert Client(template(TEMPLATE), enforce_plans=False).get("", "/v1/open")[0] == 200


AUTHORIZED = """
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: v1
      ApiKeySourceType: AUTHORIZER
      Auth:
        ApiKeyRequired: true
        DefaultAuthorizer: Token
        Authorizers: {Token: {FunctionArn: !GetAtt Check.Arn, Identity: {ReauthorizeEvery: 0}}}
  One: {Type: AWS::ApiGateway::ApiKey, Properties: {Enabled: true, Value: first-key-0123456789}}
  Plan: {Type: AWS::ApiGateway::UsagePlan, Properties: {ApiStages: [{ApiId: !Ref Api, Stage: v1}]}}
  Link: {Type: AWS::ApiGateway::UsagePlanKey, Properties: {KeyId: !Ref One, KeyType: API_KEY, UsagePlanId: !Ref Plan}}
  Check: {Type: AWS::Serverless::Function}
  A:
    Type: AWS::Serverless::Function
    Properties: {Events: {Get: {Type: Api, Properties: {Path: /a, Method: get, RestApiId: !Ref Api}}}}
"""


@pytest.mark.parametrize(("named", "status"), [(ONE, 200), ("other", 403), (None, 403)])
def test_an_authorizer_may_name_the_key(template: Load, named: str | None, status: int) -> None:
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": "*"}
    answer = {"principalId": "p", "policyDocument": {"Statement": [statement]}, "usageIdentifierKey": named}
    events = []

    class Service:
        async def invoke(self, function: str, event: bytes, *, trace_id: str) -> InvocationResult:  # noqa: ARG002
            if function == "A":
                events.append(json.loads(event))
            result = answer if function == "Check" else {"statusCode": 200}
            return InvocationResult("r", json.dumps(result).encode(), "ok")

    (app,) = create_apps(template(AUTHORIZED), Service(), GatewayOptions(note=lambda _: None))
    assert asyncio.run(ask(app, "GET", "/v1/a", [("Authorization", "t"), ("x-api-key", ONE)]))[0] == status
    if status == 200:
        context = events[0]["requestContext"]
        assert context["identity"]["apiKey"] == ONE
        assert "usageIdentifierKey" not in context["authorizer"]
