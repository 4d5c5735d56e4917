"""Malformed templates: each mistake is one line with its line number, and never a traceback."""

import copy
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warmfront.emulator.template import Template, TemplateError, load_template
from warmfront.emulator.template.source import parse
from warmfront.emulator.unserved import grouped, unserved

from tests.emulator.template.test_cloudformation import EVENTS, HTTP, REST

FIXTURES = Path(__file__).parent / "fixtures"

INTRINSICS = ["Ref", "Fn::GetAtt", "Fn::Sub", "Fn::If", "Fn::Join", "Fn::Select", "Fn::Split", "Fn::FindInMap", "Fn::Length",
              "Fn::Base64", "Fn::ImportValue", "Fn::ToJsonString", "Fn::Transform", "Fn::ForEach::X", "Fn::Nope"]  # fmt: skip
KEYS = ["Auth", "Authorizers", "DefaultAuthorizer", "paths", "get", "Path", "Type", "Name", "Body", "Cors", "Identity", "Events",
        "ApiId", "RestApiId", "Target", "Condition", "Properties", "security", "x-amazon-apigateway-integration"]  # fmt: skip
FEATURES = """
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: x
      Handler: index.handler
      Runtime: python3.13
      EventInvokeConfig: {MaximumRetryAttempts: 1, DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Q.Arn}}}
      Events:
        Post: {Type: Api, Properties: {Path: /p, Method: post, RestApiId: !Ref A, RequestModel: {Model: M, ValidateBody: true},
               RequestParameters: [method.request.header.X: {Required: true}]}}
        Filtered: {Type: SQS, Properties: {Queue: !GetAtt Q.Arn, FilterCriteria: {Filters: [{Pattern: "{}"}]}}}
  Q: {Type: AWS::SQS::Queue, Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt D.Arn, maxReceiveCount: 3}}}
  D: {Type: AWS::SQS::Queue}
  A:
    Type: AWS::Serverless::Api
    Properties:
      StageName: live
      MergeDefinitions: true
      Models: {M: {type: object, required: [a]}}
      GatewayResponses: {DEFAULT_4XX: {StatusCode: 418, ResponseTemplates: {application/json: "{}"}}}
      Auth: {ApiKeyRequired: true, UsagePlan: {CreateUsagePlan: PER_API, Throttle: {RateLimit: 1}, Quota: {Limit: 5, Period: DAY}}}
      DefinitionBody:
        swagger: "2.0"
        x-amazon-apigateway-request-validators: {v: {validateRequestBody: true, validateRequestParameters: true}}
        x-amazon-apigateway-request-validator: v
        x-amazon-apigateway-gateway-responses: {UNAUTHORIZED: {statusCode: 401, responseTemplates: {a/b: x}}}
        securityDefinitions:
          T: {type: apiKey, name: X, in: header, x-amazon-apigateway-authorizer: {type: token, authorizerUri: !GetAtt F.Arn}}
        paths:
          /m:
            get:
              security: [{T: []}]
              parameters: [{name: a, in: query, required: true}, {name: b, in: body, schema: {$ref: "#/definitions/M"}}]
              x-amazon-apigateway-integration: {type: mock, requestTemplates: {application/json: "{}"},
                responses: {default: {statusCode: 200, responseParameters: {method.response.header.X: "'a'"}}}}
            post: {x-amazon-apigateway-integration: {type: http_proxy, uri: "https://a.example", httpMethod: POST}}
  Plan: {Type: AWS::ApiGateway::UsagePlan, Properties: {ApiStages: [{ApiId: !Ref A, Stage: live}], Quota: {Limit: 1}}}
  Key: {Type: AWS::ApiGateway::ApiKey, Properties: {Value: abc}}
  Link: {Type: AWS::ApiGateway::UsagePlanKey, Properties: {KeyId: !Ref Key, UsagePlanId: !Ref Plan, KeyType: API_KEY}}
  R: {Type: AWS::ApiGateway::GatewayResponse, Properties: {RestApiId: !Ref A, ResponseType: THROTTLED, StatusCode: 429}}
"""
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["", "A", "A.Arn", "/x", "${A}", "${", "x:y", "rate"])
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
        st.tuples(st.sampled_from(INTRINSICS), inner).map(lambda call: {call[0]: call[1]}),
    ),
    max_leaves=6,
)


def whole_templates() -> list[Any]:
    texts = [path.read_text() for path in sorted(FIXTURES.glob("*.yaml"))]
    return [json.loads(json.dumps(parse(text, "")[0])) for text in (*texts, HTTP, REST, EVENTS, FEATURES)]


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value of a document."""
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*above, key)
        yield from places(entry, (*above, key))


WHOLE = whole_templates()


@st.composite
def malformed(draw: st.DrawFn) -> Any:
    """A whole template in which one to three values are replaced, removed or given another name."""
    document = copy.deepcopy(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(list(places(document)) or [("Resources",)]))
        owner = document
        for each in above:
            owner = owner[each]
        change = draw(st.sampled_from(["replace", "replace", "remove", "rename"]))
        if change == "replace" or isinstance(owner, list):
            owner[key] = draw(values)
        elif change == "remove":
            owner.pop(key, None)
        else:
            owner[draw(st.sampled_from(KEYS))] = owner.pop(key, None)
    return document


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(malformed())
def test_a_malformed_template_is_a_clear_message_with_a_line(document: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.json"
        path.write_text(json.dumps(document, indent=1))
        for problem in mistakes(path):
            assert "\n" not in problem
            assert re.match(rf"{re.escape(str(path))}:[1-9][0-9]*: .", problem), problem


def mistakes(path: Path) -> list[str]:
    try:
        template: Template = load_template(path)
    except TemplateError as error:
        return [str(error)]
    assert all("\n" not in line for line in grouped(unserved(template)))
    return list(template.problems)
