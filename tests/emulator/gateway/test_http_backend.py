"""HTTP proxy integrations against a backend on loopback: what it gets, what the client gets, and what fails."""

import asyncio
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from warmfront.emulator.gateway import GatewayOptions, create_apps
from warmfront.emulator.template import Template

from tests.emulator.gateway.asgi import Answer, ask
from tests.emulator.gateway.conftest import Recorder

Load = Callable[[str], Template]
REST = """
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: v1
      Variables: {{Version: two}}
      DefinitionBody:
        swagger: "2.0"
        info: {{title: shop, version: "1"}}
        paths:
          /files/{{proxy+}}:
            x-amazon-apigateway-any-method:
              x-amazon-apigateway-integration:
                type: http_proxy
                httpMethod: ANY
                uri: "{url}/{{proxy}}"
                timeoutInMillis: 500
                requestParameters: {{integration.request.header.X-From: "'gateway'", integration.request.header.X-Stage: context.stage}}
          /versions/{{id}}:
            get: {{x-amazon-apigateway-integration: {{type: http_proxy, httpMethod: GET, uri: "{url}/${{stageVariables.Version}}/{{id}}"}}}}
  A: {{Type: AWS::Serverless::Function}}
"""
HTTP = """
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      DefinitionBody:
        openapi: 3.0.1
        info: {{title: shop, version: "1"}}
        paths:
          /shop/{{proxy+}}:
            x-amazon-apigateway-any-method:
              x-amazon-apigateway-integration:
                type: http_proxy
                httpMethod: ANY
                payloadFormatVersion: "1.0"
                uri: "{url}/{{proxy}}"
                requestParameters: {{"append:header.x-request": "$context.requestId", "overwrite:querystring.page": "1"}}
                responseParameters: {{"200": {{"append:header.x-stage": "$context.stage"}}}}
          /moved:
            get:
              x-amazon-apigateway-integration:
                type: http_proxy
                httpMethod: POST
                payloadFormatVersion: "1.0"
                uri: "{url}/old"
                requestParameters: {{"overwrite:path": "/new/$request.querystring.id"}}
  A: {{Type: AWS::Serverless::Function}}
"""


@pytest.fixture
def backend() -> Iterator[str]:
    """Answers with what it got; /slow waits, /teapot is a 418 with a header of its own."""
    waiting = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/slow"):
                waiting.wait(10)
            length = int(self.headers.get("Content-Length", 0))
            got = {
                "method": self.command,
                "target": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": self.rfile.read(length).decode(),
            }
            body = json.dumps(got).encode()
            self.send_response(418 if "teapot" in self.path else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Own", "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815 - the names that http.server asks for

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    waiting.set()
    server.shutdown()
    server.server_close()
    thread.join()


def answer(template: Template, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
    app = create_apps(template, Recorder(), GatewayOptions(note=lambda _: None))[0]
    sent = [*headers.items(), *([("Content-Length", str(len(body)))] if body else [])]
    return asyncio.run(ask(app, method, target, sent, body))


def got(found: Answer) -> dict[str, Any]:
    assert found[0] == 200, found
    return dict(json.loads(found[2]))


def test_a_rest_proxy_passes_method_encoded_path_query_headers_and_body_on(template: Load, backend: str) -> None:
    found = answer(
        template(REST.format(url=backend)), "PUT", "/v1/files/a%2Fb/c?x=1&y=a%20b", b"hi", Accept="text/plain"
    )
    about = got(found)
    assert (about["method"], about["target"], about["body"]) == ("PUT", "/a%2Fb/c?x=1&y=a+b", "hi")
    assert about["headers"]["accept"] == "text/plain"
    assert (about["headers"]["x-from"], about["headers"]["x-stage"]) == ("gateway", "v1")
    assert dict(found[1])["x-own"] == "1"


def test_stage_variables_and_path_parameters_fill_the_uri(template: Load, backend: str) -> None:
    assert got(answer(template(REST.format(url=backend)), "GET", "/v1/versions/7"))["target"] == "/two/7"


def test_a_backend_s_own_status_reaches_the_client(template: Load, backend: str) -> None:
    status, headers, _ = answer(template(REST.format(url=backend)), "GET", "/v1/files/teapot")
    assert (status, dict(headers)["x-own"]) == (418, "1")


def test_an_http_api_s_mapping_changes_request_and_response(template: Load, backend: str) -> None:
    found = answer(template(HTTP.format(url=backend)), "GET", "/shop/a/b?page=9&q=2")
    about = got(found)
    assert about["target"] == "/a/b?q=2&page=1"
    assert about["headers"]["x-request"]
    assert dict(found[1])["x-stage"] == "$default"


def test_an_integration_s_own_method_and_an_overwritten_path(template: Load, backend: str) -> None:
    about = got(answer(template(HTTP.format(url=backend)), "GET", "/moved?id=5"))
    assert (about["method"], about["target"]) == ("POST", "/new/5?id=5")


def test_the_path_of_a_mapping_is_that_below_the_stage(template: Load, backend: str) -> None:
    api = HTTP.format(url=backend).replace("Properties:\n      Def", "Properties:\n      StageName: dev\n      Def")
    api = api.replace("/new/$request.querystring.id", "$request.path")
    assert got(answer(template(api), "GET", "/dev/moved"))["target"] == "/moved"


@pytest.mark.parametrize(
    ("api", "path", "status"), [(REST, "/v1/files/x", 504), (HTTP, "/shop/x", 503)], ids=["rest", "http"]
)
def test_a_backend_that_is_not_there(template: Load, api: str, path: str, status: int) -> None:
    found = answer(template(api.format(url="http://127.0.0.1:9")), "GET", path)
    assert found[0] == status


def test_a_backend_that_takes_too_long_is_a_504(template: Load, backend: str) -> None:
    status, _, body = answer(template(REST.format(url=backend)), "GET", "/v1/files/slow")
    assert (status, json.loads(body)) == (504, {"message": "Endpoint request timed out"})
