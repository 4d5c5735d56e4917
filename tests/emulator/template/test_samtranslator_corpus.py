"""Every valid input of aws-sam-translator's own tests: read without a crash, with the routes and authorizers SAM makes.

The inputs are not part of this repository; they are looked for beside it.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from warmfront.emulator.template import Template, TemplateError, load_template

from tests.emulator.template.translated import Translated

BESIDE = Path(__file__).parents[4]
PLACES = [folder / "shared" / "corpus" / "sam-inputs" for folder in (BESIDE, BESIDE.parent)]  # a worktree is one below
INPUTS = next((place for place in PLACES if place.is_dir()), PLACES[0])
pytestmark = pytest.mark.skipif(
    not INPUTS.is_dir(), reason="samtranslator's inputs are absent: ../shared/corpus/sam-inputs beside the repository"
)
NOT_COMPARED = {
    "api_with_any_method_in_swagger.yaml": "HttpApi events that name a REST API, which CloudFormation refuses",
}
Found = dict[tuple[str, str], str | None]


def inputs() -> list[Path]:
    if not INPUTS.is_dir():
        return []
    return sorted(
        path
        for path in INPUTS.iterdir()
        if path.suffix in (".yaml", ".yml", ".json") and not path.name.startswith("error_")
    )


def read(path: Path) -> Template | str:
    try:
        return load_template(path)
    except TemplateError as error:
        return str(error)


@pytest.fixture(scope="module")
def templates() -> dict[Path, Template | str]:
    return {path: read(path) for path in inputs()}


def test_only_a_parameter_without_a_value_is_refused(templates: dict[Path, Template | str]) -> None:
    refused = {path.name: found for path, found in templates.items() if isinstance(found, str)}
    assert len(templates) >= 500
    assert all("has no Default; give it with --parameter-overrides" in message for message in refused.values()), refused


def test_routes_and_authorizers_are_those_of_samtranslator(
    templates: dict[Path, Template | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    different, compared = {}, 0
    for path, ours in templates.items():
        if isinstance(ours, str) or path.name in NOT_COMPARED:
            continue
        try:
            theirs = apis_of(Translated(path, {}))
        except Exception:  # the harness resolves fewer functions than CloudFormation; what it cannot is not compared
            continue
        compared += 1
        found = {api.logical_id: routes_of(ours, api.logical_id) for api in ours.apis if api.kind != "url"}
        for name, routes in theirs.items():
            if routes != found.get(name, {}):
                different[f"{path.name} {name}"] = (routes, found.get(name, {}))
    assert not different
    assert compared >= 500


def routes_of(template: Template, api_id: str) -> Found:
    (api,) = (api for api in template.apis if api.logical_id == api_id)
    return {(route.method, route.path): route.authorizer for route in api.routes if route.function}


def apis_of(translated: Translated) -> dict[str, Found]:
    """Routes of Lambda functions that the template itself holds."""
    functions = translated.of_type("AWS::Lambda::Function")
    names = {*functions, *(properties.get("FunctionName") for properties in functions.values())}
    names |= set(translated.of_type("AWS::Lambda::Alias"))
    apis = {**translated.of_type("AWS::ApiGateway::RestApi"), **translated.of_type("AWS::ApiGatewayV2::Api")}
    return {
        name: document_routes(api["Body"], names) for name, api in apis.items() if isinstance(api.get("Body"), dict)
    }


def document_routes(body: dict[str, Any], names: set[Any]) -> Found:
    found: Found = {}
    for path, item in (body.get("paths") or {}).items():
        for method, operation in item.items() if isinstance(item, dict) else ():
            integration = operation.get("x-amazon-apigateway-integration") if isinstance(operation, dict) else None
            if not integration or str(integration.get("type")).lower() != "aws_proxy":
                continue
            match = re.search(r"functions/(?:.*:function:)?([A-Za-z0-9_-]+)", str(integration.get("uri", "")))
            if match is None or match.group(1) not in names:
                continue
            route = ("ANY" if "any" in method else method.upper(), "$default" if "$default" in path else path)
            found[route] = authorizer_of(operation.get("security"))
    return found


def authorizer_of(security: Any) -> str | None:
    entries = [security] if isinstance(security, dict) else security or []
    names = [name for entry in entries for name in entry if name != "api_key"]
    return names[0] if names and names[0] != "NONE" else None
