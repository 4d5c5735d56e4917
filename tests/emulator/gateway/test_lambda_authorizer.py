"""How long a Lambda authorizer's answer is remembered, and for whom."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from warmfront.emulator.gateway import GatewayOptions, create_apps
from warmfront.emulator.lambda_service.types import InvocationResult
from warmfront.emulator.template import Template

from tests.emulator.gateway.asgi import ask

TEMPLATE = """
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Key
        Authorizers:
          Key:
            FunctionArn: !GetAtt Check.Arn
            AuthorizerPayloadFormatVersion: "2.0"
            EnableSimpleResponses: %s
            Identity: {Headers: [X-Key], ReauthorizeEvery: %d}
  Check: {Type: AWS::Serverless::Function}
  Shop:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        A: {Type: HttpApi, Properties: {Path: /a, Method: get, ApiId: !Ref Api}}
        B: {Type: HttpApi, Properties: {Path: /b, Method: get, ApiId: !Ref Api}}
"""


class Shop:
    """A service with an authorizer that counts its calls."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.checks = 0

    async def invoke(self, function: str, event: bytes, *, trace_id: str) -> InvocationResult:  # noqa: ARG002
        result: dict[str, Any] = {"statusCode": 200}
        if function == "Check":
            self.checks += 1
            result = self.answer
        return InvocationResult("r", json.dumps(result).encode(), "ok")


class Client:
    def __init__(self, template: Template, answer: dict[str, Any]) -> None:
        self.service = Shop(answer)
        self.now_s = 0.0
        options = GatewayOptions(enforce_auth=True, monotonic=lambda: self.now_s, note=lambda _: None)
        (self.app,) = create_apps(template, self.service, options)

    def get(self, path: str, key: str) -> int:
        return asyncio.run(ask(self.app, "GET", path, [("X-Key", key)]))[0]


@pytest.fixture
def client(template: Callable[[str], Template]) -> Callable[..., Client]:
    def make(answer: dict[str, Any], *, ttl_s: int, simple: bool = True) -> Client:
        return Client(template(TEMPLATE % (str(simple).lower(), ttl_s)), answer)

    return make


def test_an_answer_is_remembered_for_its_ttl_and_its_identity(client: Callable[..., Client]) -> None:
    shop = client({"isAuthorized": True}, ttl_s=60)
    assert [shop.get("/a", "k1"), shop.get("/a", "k1"), shop.get("/b", "k1")] == [200, 200, 200]
    assert shop.service.checks == 1
    shop.get("/a", "k2")
    assert shop.service.checks == 2
    shop.now_s = 59.9
    shop.get("/a", "k1")
    assert shop.service.checks == 2
    shop.now_s = 60.0
    shop.get("/a", "k1")
    assert shop.service.checks == 3


def test_a_refusal_is_remembered_too(client: Callable[..., Client]) -> None:
    shop = client({"isAuthorized": False}, ttl_s=60)
    assert [shop.get("/a", "k1"), shop.get("/a", "k1")] == [403, 403]
    assert shop.service.checks == 1


def test_without_ttl_every_request_asks(client: Callable[..., Client]) -> None:
    shop = client({"isAuthorized": True}, ttl_s=0)
    shop.get("/a", "k1")
    shop.get("/a", "k1")
    assert shop.service.checks == 2


def test_a_remembered_policy_is_held_against_each_route(client: Callable[..., Client]) -> None:
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": "arn:aws:execute-api:*:*:*/*/GET/a"}
    policy = {"principalId": "me", "policyDocument": {"Version": "2012-10-17", "Statement": [statement]}}
    shop = client(policy, ttl_s=60, simple=False)
    assert [shop.get("/a", "k1"), shop.get("/b", "k1")] == [200, 403]
    assert shop.service.checks == 1


def test_an_authorizer_that_takes_too_long_is_a_500(
    client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmfront.emulator.gateway.lambda_authorizer.LIMIT_S", 0.02)
    shop = client({"isAuthorized": True}, ttl_s=60)

    async def never(function: str, event: bytes, *, trace_id: str) -> InvocationResult:  # noqa: ARG001
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(shop.service, "invoke", never)
    assert shop.get("/a", "k1") == 500
