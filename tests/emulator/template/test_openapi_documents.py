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


BROKEN = [
    ("#/components/gone", "$ref #/components/gone names nothing in the document: it has no gone"),
    ("gone.yaml#/x", "$ref gone.yaml#/x names a file that does not exist"),
    ("operations.yaml#/gone", "$ref operations.yaml#/gone names nothing in operations.yaml: it has no gone"),
    ("#/paths/~1bad/get", "$ref #/paths/~1bad/get refers to itself"),
    ("https://a.example/x.yaml", "$ref https://a.example/x.yaml is on the web, which is not read; name a local file"),
]


@pytest.mark.parametrize(("reference", "message"), BROKEN)
def test_a_broken_reference_removes_only_its_operation(folder: Path, reference: str, message: str) -> None:
    bad = f"  /bad:\n    get:\n      $ref: '{reference}'\n    put: {{x-amazon-apigateway-integration: {{type: aws_proxy, uri: {URI}}}}}\n"
    document = folder / "docs" / "api.yaml"
    document.write_text(DOCUMENT.replace("paths:\n", f"paths:\n{bad}"))
    template = read(folder, "  Api: {Type: AWS::Serverless::HttpApi, Properties: {DefinitionUri: docs/api.yaml}}\n")
    assert [route.key for route in template.apis[0].routes] == ["PUT /bad", "GET /a", "POST /a", "ANY /b~c"]
    assert template.problems == (f"{document}:6: Api: {message}; left out: paths /bad get",)


def test_a_broken_reference_in_the_template_names_the_template(folder: Path) -> None:
    body = "DefinitionBody: {paths: {/a: {$ref: 'gone.yaml'}}}"
    template = read(folder, f"  Api: {{Type: AWS::Serverless::HttpApi, Properties: {{{body}}}}}\n")
    message = "Api: $ref gone.yaml names a file that does not exist; left out: paths /a"
    assert template.problems == (f"{folder / 'template.yaml'}:3: {message}",)


@pytest.mark.parametrize("swagger", [False, True])
def test_an_operation_is_not_open_because_its_authorizer_is_a_broken_reference(folder: Path, swagger: bool) -> None:
    schemes = "{Guard: {type: apiKey, name: X, in: header, x-amazon-apigateway-authorizer: {$ref: '#/gone'}}}"
    schemes = f"securityDefinitions: {schemes}" if swagger else f"components: {{securitySchemes: {schemes}}}"
    operation = f"{{security: [{{Guard: []}}], x-amazon-apigateway-integration: {{type: aws_proxy, uri: {URI}}}}}"
    body = f"{{{schemes}, paths: {{/a: {{get: {operation}}}}}}}"
    template = read(
        folder, f"  Api: {{Type: AWS::Serverless::Api, Properties: {{StageName: a, DefinitionBody: {body}}}}}\n"
    )
    (route,) = template.apis[0].routes
    assert route.authorizer == "Guard"
    assert "left out: " in template.problems[0]


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
