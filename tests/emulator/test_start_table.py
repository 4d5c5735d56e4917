"""The start table: short for people, whole with -v, and the same as JSON."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from warmfront.emulator.start_table import start_table

from tests.emulator.serving import ROOT, serve

LINES_MAX = 24


def about(**changed: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "urls": ["http://127.0.0.1:3000"],
        "backing": {},
        "data": None,
        "functions": [],
        "apis": [],
        "sources": [],
        "debug": {},
        "warnings": [],
        "dashboard": None,
        "token": "t",
    }
    return {**base, **changed}


def function(name: str, *keys: str) -> dict[str, Any]:
    routes = [{"api": "Api", "url": "http://127.0.0.1:3000", "key": key} for key in keys]
    return {
        "name": name,
        "runtime": "python3.13",
        "memory_mb": 128,
        "timeout_s": 3,
        "not_runnable": None,
        "routes": routes,
    }


def line_of(name: str, *keys: str, verbose: bool = False) -> str:
    return "\n".join(start_table(about(functions=[function(name, *keys)]), verbose=verbose))


def test_few_routes_are_named_and_many_are_counted_under_their_common_path() -> None:
    assert "GET /a, POST /b" in line_of("F", "GET /a", "POST /b")
    assert "3 routes under /a" in line_of("F", "GET /a/{id}", "POST /a", "PATCH /a/{id}")
    assert "3 routes: GET /a, …" in line_of("F", "GET /a", "POST /ab", "GET /abc")
    assert "3 routes: $default, …" in line_of("F", "$default", "GET /a", "GET /b")


def test_verbose_names_every_route_and_warning() -> None:
    text = line_of("F", "GET /a", "POST /ab", "GET /abc", verbose=True)
    assert all(key in text for key in ("GET /a", "POST /ab", "GET /abc"))
    warnings = [f"warning number {n}" for n in range(30)]
    short, whole = (start_table(about(warnings=warnings), verbose=verbose) for verbose in (False, True))
    assert "23 more; -v lists them all" in "\n".join(short)
    assert sum("warning number" in line for line in whole) == 30


def test_our_template_fits_a_screen_and_json_says_the_same(tmp_path: Path) -> None:
    log = tmp_path / "functions.log"
    with serve(ROOT / "template.yaml", "--aws", "none", "--log-file", str(log)) as served:
        assert len(served.lines) <= LINES_MAX
        assert sum(served.url in line for line in served.lines) <= 4
        token = "".join(served.lines).partition("#token=")[2].split()[0]
        assert token
    assert any("6 routes under /pooled" in line for line in served.lines)


def test_json_is_one_line_for_machines(tmp_path: Path) -> None:
    log = tmp_path / "functions.log"
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return 1\n")
    (tmp_path / "template.yaml").write_text(
        "Resources:\n  F: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.13, Handler: app.handler, "
        "CodeUri: ., Events: {E: {Type: HttpApi, Properties: {Path: /x, Method: GET}}}}}\n"
        "Transform: AWS::Serverless-2016-10-31\n"
    )
    with serve(tmp_path / "template.yaml", "--json", "--log-file", str(log), ready="{") as served:
        (line,) = served.lines
    found = json.loads(line)
    assert [each["name"] for each in found["functions"]] == ["F"]
    assert found["functions"][0]["routes"][0]["key"] == "GET /x"
    assert found["urls"][0].startswith("http://127.0.0.1:")


AUTHORIZED = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {InlineCode: "def handler(event, context): pass", Handler: index.handler, Runtime: python3.13}}
Resources:
  Http:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        Authorizers:
          Jwt: {JwtConfiguration: {issuer: "https://issuer.example", audience: [shop]}}
          Simple: {FunctionArn: !GetAtt Check.Arn, AuthorizerPayloadFormatVersion: "2.0", EnableSimpleResponses: true}
  Rest: {Type: AWS::Serverless::Api, Properties: {StageName: v1, Auth: {ApiKeyRequired: true, UsagePlan: {CreateUsagePlan: PER_API}}}}
  Check: {Type: AWS::Serverless::Function}
  A:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        Jwt: {Type: HttpApi, Properties: {Path: /jwt, Method: get, ApiId: !Ref Http, Auth: {Authorizer: Jwt}}}
        Simple: {Type: HttpApi, Properties: {Path: /simple, Method: get, ApiId: !Ref Http, Auth: {Authorizer: Simple}}}
        Keyed: {Type: Api, Properties: {Path: /keyed, Method: get, RestApiId: !Ref Rest}}
"""


@pytest.mark.parametrize(
    ("options", "said", "unsaid"),
    [
        ([], "Http: Jwt not enforced; --enforce-auth does", "refuses every token"),
        (["--enforce-auth"], "Http: Jwt refuses every token: give the keys of its issuer with --jwks", "not enforced"),
        (["--enforce-auth", "--jwks", "jwks.json"], "", "Jwt"),
    ],
    ids=["open", "without-keys", "with-keys"],
)
def test_the_start_says_which_authorizers_are_open_and_which_api_keys_there_are(
    tmp_path: Path, options: list[str], said: str, unsaid: str
) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(AUTHORIZED)
    with serve(template, *options) as served:
        text = "\n".join(served.lines)
    assert said in text
    assert unsaid not in text
    assert "Simple" not in text, "a Lambda authorizer always runs"
    (key,) = [line for line in served.lines if line.startswith("api key")]
    assert re.fullmatch(r"api key +Rest: x-api-key: [0-9a-f]{40} \(RestApiKey\)", key)
