"""OpenAPI documents: $ref in the document and in files, AWS::Include, authorizers, CORS, binary types, MergeDefinitions."""

from pathlib import Path

import pytest
from warmfront.emulator.template import Api, LambdaAuthorizer, Template, load_template

HEAD = """\
Resources:
  F: {Type: AWS::Serverless::Function, Properties: {InlineCode: x, Handler: index.handler, Runtime: python3.13}}
"""
URI = '{"Fn::Sub": "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${F.Arn}/invocations"}'
DOCUMENT = f"""\
openapi: 3.0.1
x-amazon-apigateway-cors: {{allowOrigins: ["https://a.example"], allowMethods: [get], maxAge: 60}}
paths:
  /a:
    get: {{x-amazon-apigateway-integration: {{$ref: "#/components/x-amazon-apigateway-integrations/Shared"}}}}
    post: {{$ref: "operations.yaml#/post"}}
  /b~c: {{$ref: "#/components/pathItems/b"}}
components:
  pathItems:
    b:
      x-amazon-apigateway-any-method: {{x-amazon-apigateway-integration: {{$ref: "#/components/x-amazon-apigateway-integrations/Shared"}}}}
  x-amazon-apigateway-integrations:
    Shared: {{type: aws_proxy, uri: {URI}, payloadFormatVersion: "2.0"}}
  securitySchemes:
    Guard:
      type: apiKey
      name: X-Key
      in: header
      x-amazon-apigateway-authorizer:
        type: request
        authorizerUri: {URI}
        authorizerPayloadFormatVersion: "2.0"
        enableSimpleResponses: true
        identitySource: $request.header.X-Key
"""
OPERATIONS = f"""\
post:
  security: [{{Guard: []}}]
  x-amazon-apigateway-integration: {{$ref: "#/integration"}}
integration: {{type: aws_proxy, uri: {URI}, payloadFormatVersion: "1.0"}}
"""


def read(folder: Path, api: str) -> Template:
    (folder / "template.yaml").write_text(HEAD + api)
    return load_template(folder / "template.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "api.yaml").write_text(DOCUMENT)
    (tmp_path / "docs" / "operations.yaml").write_text(OPERATIONS)
    return tmp_path


@pytest.mark.parametrize(
    "definition",
    [
        "DefinitionUri: docs/api.yaml",
        "DefinitionBody: {Fn::Transform: {Name: AWS::Include, Parameters: {Location: api.yaml}}}",
    ],
)
def test_references_are_followed_in_the_document_and_in_files(folder: Path, definition: str) -> None:
    for path in (folder / "docs").iterdir():  # references of an included document start at the template
        (folder / path.name).write_text(path.read_text())
    template = read(folder, f"  Api: {{Type: AWS::Serverless::HttpApi, Properties: {{{definition}}}}}\n")
    assert template.problems == template.warnings == ()
    api: Api = template.apis[0]
    assert [(route.key, route.function, route.payload_format, route.authorizer) for route in api.routes] == [
        ("GET /a", "F", "2.0", None),
        ("POST /a", "F", "1.0", "Guard"),
        ("ANY /b~c", "F", "2.0", None),
    ]
    assert api.cors is not None
    assert (api.cors.allow_origins, api.cors.allow_methods, api.cors.max_age_s) == (
        ("https://a.example",),
        ("GET",),
        60,
    )
    guard = api.authorizers["Guard"]
    assert isinstance(guard, LambdaAuthorizer)
    assert (guard.function, guard.simple_responses, guard.identity_sources) == ("F", True, ("$request.header.X-Key",))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("#/components/gone", "$ref #/components/gone names nothing in the document"),
        ("gone.yaml#/x", "$ref gone.yaml#/x names a file that does not exist"),
        ("#/paths/~1a/get", "$ref #/paths/~1a/get refers to itself"),
    ],
)
def test_a_reference_to_nothing_is_a_problem_with_its_line(folder: Path, reference: str, message: str) -> None:
    body = f"DefinitionBody: {{paths: {{/a: {{get: {{$ref: '{reference}'}}}}}}}}"
    template = read(folder, f"  Api: {{Type: AWS::Serverless::HttpApi, Properties: {{{body}}}}}\n")
    (problem,) = template.problems
    assert problem == f"{folder / 'template.yaml'}:3: Api: {message}"


def test_a_rest_document_has_binary_types_and_a_key_source(folder: Path) -> None:
    body = (
        "{swagger: '2.0', x-amazon-apigateway-binary-media-types: [image/png], x-amazon-apigateway-api-key-source: AUTHORIZER,"
        f" paths: {{/a: {{get: {{x-amazon-apigateway-integration: {{type: aws_proxy, uri: {URI}}}}}}}}}}}"
    )
    api = read(
        folder, f"  Api: {{Type: AWS::Serverless::Api, Properties: {{StageName: a, DefinitionBody: {body}}}}}\n"
    ).apis[0]
    assert (api.binary_media_types, api.api_key_source) == (("image/png",), "AUTHORIZER")


def test_resources_may_be_included_from_a_file(folder: Path) -> None:
    (folder / "more.yaml").write_text(
        "G: {Type: AWS::Serverless::Function, Properties: {InlineCode: y, Handler: i.h, Runtime: python3.13}}\n"
    )
    template = read(folder, "  Fn::Transform: {Name: AWS::Include, Parameters: {Location: more.yaml}}\n")
    assert list(template.functions) == ["F", "G"]


@pytest.mark.parametrize(("merge", "keys"), [("", []), (", MergeDefinitions: true", ["GET /new"])])
def test_an_event_adds_to_a_rest_document_only_where_it_may(folder: Path, merge: str, keys: list[str]) -> None:
    api = (
        f"  Api: {{Type: AWS::Serverless::Api, Properties: {{StageName: a, DefinitionBody: {{paths: {{}}}}{merge}}}}}\n"
    )
    event = "{E: {Type: Api, Properties: {Path: /new, Method: get, RestApiId: !Ref Api}}}"
    api += f"  G: {{Type: AWS::Serverless::Function, Properties: {{InlineCode: y, Handler: i.h, Runtime: python3.13, Events: {event}}}}}\n"
    template = read(folder, api)
    assert [route.key for route in template.apis[0].routes] == keys
    assert bool(template.warnings) == (not keys)
