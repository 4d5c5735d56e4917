"""The reader held to samtranslator, which is what `sam deploy` and CloudFormation run: same functions, same routes."""

import functools
import re
from pathlib import Path
from typing import Any

import pytest
from warmfront.emulator.template import (
    Api,
    FunctionConfig,
    JwtAuthorizer,
    LambdaAuthorizer,
    ScheduleSource,
    SqsSource,
    Template,
    load_template,
)

from tests.emulator.template.translated import Translated

FIXTURES = Path(__file__).parent / "fixtures"
CASES: list[tuple[str, dict[str, str]]] = [
    ("rest_hello_world.yaml", {}),
    ("http_implicit.yaml", {}),
    ("http_implicit.yaml", {"Stage": "prod", "Level": "9"}),
    ("http_explicit.yaml", {}),
    ("conditions.yaml", {}),
    ("conditions.yaml", {"Stage": "prod"}),
    ("conditions.yaml", {"Reserved": "3"}),
    ("events.yaml", {}),
    ("layers.yaml", {}),
    ("layers.yaml", {"Architecture": "x86_64"}),
    ("authorizers.yaml", {}),
    ("openapi.yaml", {}),
    ("urls.yaml", {}),
    ("plain.json", {}),
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join((case[0], *case[1].values())))
def both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Template, Translated]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_REGION", raising=False)
    name, parameters = request.param
    return load_template(FIXTURES / name, parameters=parameters), _translated(name, tuple(parameters.items()))


@functools.cache
def _translated(name: str, parameters: tuple[tuple[str, str], ...]) -> Translated:
    """Once per case: samtranslator takes longer than all that is asked of its answer."""
    return Translated(FIXTURES / name, dict(parameters))


def test_functions_have_the_properties_that_samtranslator_gives_them(both: tuple[Template, Translated]) -> None:
    ours, theirs = both
    aliases = {alias["FunctionName"]: alias for alias in theirs.of_type("AWS::Lambda::Alias").values()}
    found = theirs.of_type("AWS::Lambda::Function")
    assert set(ours.functions) == set(found)
    for name, function in ours.functions.items():
        assert _ours(function) == _theirs(name, found[name], aliases.get(name, {})), name


def _ours(function: FunctionConfig) -> dict[str, Any]:
    return {
        "name": function.function_name,
        "handler": function.handler,
        "runtime": function.runtime,
        "memory": function.memory_mb,
        "timeout": function.timeout_s,
        "reserved": function.reserved_concurrency,
        "architectures": list(function.architectures),
        "tracing": function.tracing,
        "log_format": function.log_format,
        "storage": function.ephemeral_storage_mb,
        "snap_start": function.snap_start,
        "provisioned": function.provisioned_concurrency,
        "alias": function.auto_publish_alias,
        "package": function.package_type,
        "environment": {
            name: value for name, value in function.environment.items() if name not in _VALUES_OF_RESOURCES
        },
        "layers": [layer.arn or layer.name for layer in function.layers],
        "dead_letter": _short_arn(function.dead_letter_arn),
    }


# Values that name another resource are CloudFormation's to know; tests/emulator/template/test_reader.py states ours.
_VALUES_OF_RESOURCES = {"QUEUE_URL", "QUEUE_ARN", "QUEUE_NAME", "SELF", "ARN"}


def _theirs(name: str, found: dict[str, Any], alias: dict[str, Any]) -> dict[str, Any]:
    environment = found.get("Environment", {}).get("Variables", {})
    return {
        "name": found.get("FunctionName", name),
        "handler": found.get("Handler", ""),
        "runtime": found.get("Runtime", ""),
        "memory": int(found.get("MemorySize", 128)),
        "timeout": int(found.get("Timeout", 3)),
        "reserved": None if (value := found.get("ReservedConcurrentExecutions")) is None else int(value),
        "architectures": found.get("Architectures", ["x86_64"]),
        "tracing": found.get("TracingConfig", {}).get("Mode") == "Active",
        "log_format": found.get("LoggingConfig", {}).get("LogFormat", "Text"),
        "storage": found.get("EphemeralStorage", {}).get("Size", 512),
        "snap_start": found.get("SnapStart", {}).get("ApplyOn") == "PublishedVersions",
        "provisioned": alias.get("ProvisionedConcurrencyConfig", {}).get("ProvisionedConcurrentExecutions"),
        "alias": alias.get("Name"),
        "package": found.get("PackageType", "Zip"),
        "environment": {key: _scalar(value) for key, value in environment.items() if key not in _VALUES_OF_RESOURCES},
        "layers": [_layer_name(layer) for layer in found.get("Layers", [])],
        "dead_letter": _short_arn(found.get("DeadLetterConfig", {}).get("TargetArn")),
    }


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _layer_name(value: str) -> str:
    """A translated layer has its content's hash at the end of its id; ours has the layer's own name."""
    return value if value.startswith("arn:") else {"Built": "built-layer"}.get(value[:-10], value[:-10])


def _short_arn(arn: str | None) -> str | None:
    """`Dead.Arn` and arn:aws:sqs:...:Dead are the same queue."""
    return None if not arn else arn.removesuffix(".Arn").rsplit(":", 1)[-1]


def test_apis_have_the_routes_that_samtranslator_gives_them(both: tuple[Template, Translated]) -> None:
    ours, theirs = both
    expected: dict[str, Any] = {}
    for kind, stage_kind, id_key in (
        ("AWS::ApiGatewayV2::Api", "AWS::ApiGatewayV2::Stage", "ApiId"),
        ("AWS::ApiGateway::RestApi", "AWS::ApiGateway::Stage", "RestApiId"),
    ):
        stages = {stage[id_key]: stage for stage in theirs.of_type(stage_kind).values()}
        for name, api in theirs.of_type(kind).items():
            expected[name] = _their_api(api["Body"], stages[name], rest="RestApi" in kind, names=_names(ours))
    assert {api.logical_id: _our_api(api) for api in ours.apis if api.kind != "url"} == expected


def _names(template: Template) -> dict[str, str]:
    return {name: name for name in template.functions} | {
        f.function_name: f.logical_id for f in template.functions.values()
    }


def _our_api(api: Api) -> dict[str, Any]:
    routes = {
        (route.method, route.path): (
            route.function,
            route.payload_format if api.kind == "http" else None,
            route.timeout_ms if route.timeout_ms not in (29_000, 30_000) else None,
            route.authorizer,
            sorted(route.scopes) if api.kind == "http" else [],
        )
        for route in api.routes
        if route.integration is None
    }
    return {"stage": api.stage, "variables": dict(api.stage_variables), "routes": routes}


def _their_api(body: dict[str, Any], stage: dict[str, Any], *, rest: bool, names: dict[str, str]) -> dict[str, Any]:
    routes = {}
    for path, item in body["paths"].items():
        for method, operation in item.items():
            integration = operation.get("x-amazon-apigateway-integration", {})
            if integration.get("type") != "aws_proxy":
                continue
            authorizer, scopes = None, []
            for entry in operation.get("security", []):
                ((authorizer, scopes),) = entry.items()
            function = re.search(r"functions/([A-Za-z0-9-]+)", integration["uri"])
            assert function is not None
            routes["ANY" if "any" in method else method.upper(), path.removeprefix("/") if "$default" in path else path] = (
                names[function.group(1)],
                None if rest else integration.get("payloadFormatVersion", "1.0"),
                integration.get("timeoutInMillis"),
                None if authorizer == "NONE" else authorizer,
                [] if rest else sorted(scopes),
            )  # fmt: skip
    variables = stage.get("Variables" if rest else "StageVariables", {})
    return {
        "stage": stage["StageName"],
        "variables": {key: str(value) for key, value in variables.items()},
        "routes": routes,
    }


def test_authorizers_are_those_of_the_translated_definition(both: tuple[Template, Translated]) -> None:
    ours, theirs = both
    for name, api in theirs.of_type("AWS::ApiGatewayV2::Api").items():
        schemes = api["Body"].get("components", {}).get("securitySchemes", {})
        authorizers = next(found for found in ours.apis if found.logical_id == name).authorizers
        assert set(authorizers) == set(schemes)
        for key, authorizer in authorizers.items():
            scheme = schemes[key]["x-amazon-apigateway-authorizer"]
            if isinstance(authorizer, JwtAuthorizer):
                assert authorizer.identity_source == scheme["identitySource"]
                assert authorizer.issuer == scheme["jwtConfiguration"]["issuer"]
                assert list(authorizer.audience) == scheme["jwtConfiguration"]["audience"]
            else:
                assert isinstance(authorizer, LambdaAuthorizer)
                assert list(authorizer.identity_sources) == scheme["identitySource"]
                assert authorizer.ttl_s == scheme["authorizerResultTtlInSeconds"]
                assert authorizer.payload_format == scheme["authorizerPayloadFormatVersion"]
                assert authorizer.simple_responses == scheme["enableSimpleResponses"]


def test_rest_authorizers_are_those_of_the_translated_definition(both: tuple[Template, Translated]) -> None:
    ours, theirs = both
    for name, api in theirs.of_type("AWS::ApiGateway::RestApi").items():
        schemes = api["Body"].get("securityDefinitions", {})
        authorizers = next(found for found in ours.apis if found.logical_id == name).authorizers
        assert set(authorizers) == set(schemes)
        for key, authorizer in authorizers.items():
            scheme = schemes[key]["x-amazon-apigateway-authorizer"]
            if isinstance(authorizer, LambdaAuthorizer):
                assert authorizer.kind == scheme["type"]
                assert authorizer.ttl_s == scheme.get("authorizerResultTtlInSeconds", 300)
                assert authorizer.validation_expression == scheme.get("identityValidationExpression")
                if authorizer.kind == "token":
                    assert authorizer.identity_sources == (f"$request.header.{schemes[key]['name']}",)
            else:
                assert scheme["type"] == "cognito_user_pools"


def test_cors_of_http_apis_is_that_of_the_translated_definition(both: tuple[Template, Translated]) -> None:
    ours, theirs = both
    for name, api in theirs.of_type("AWS::ApiGatewayV2::Api").items():
        expected = api["Body"].get("x-amazon-apigateway-cors")
        cors = next(found for found in ours.apis if found.logical_id == name).cors
        assert (cors is None) == (expected is None)
        if cors is not None and expected is not None:
            assert list(cors.allow_origins) == _listed(expected["allowOrigins"])
            assert list(cors.allow_methods) == expected.get("allowMethods", [])
            assert list(cors.allow_headers) == expected.get("allowHeaders", [])
            assert cors.max_age_s == expected.get("maxAge")


def _listed(value: Any) -> list[str]:
    """samtranslator leaves a list parameter that it has resolved itself as text; CloudFormation takes it as a list."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def test_event_sources_are_those_that_samtranslator_makes(both: tuple[Template, Translated]) -> None:
    ours, theirs = both
    mappings = sorted(
        (m["FunctionName"], _short_queue(m["EventSourceArn"]), m.get("BatchSize", 10), m.get("FunctionResponseTypes", []) != [])
        for m in theirs.of_type("AWS::Lambda::EventSourceMapping").values()
    )  # fmt: skip
    assert mappings == sorted(
        (s.function, s.queue_name.partition(".")[0].lower(), s.batch_size, s.report_batch_item_failures)
        for s in ours.event_sources if isinstance(s, SqsSource)
    )  # fmt: skip
    schedules = [
        (rule["Targets"][0]["Arn"].removesuffix(".Arn"), rule["ScheduleExpression"], rule.get("State", "ENABLED") != "DISABLED")
        for rule in theirs.of_type("AWS::Events::Rule").values()
    ] + [
        (schedule["Target"]["Arn"].removesuffix(".Arn"), schedule["ScheduleExpression"], schedule.get("State", "ENABLED") != "DISABLED")
        for schedule in theirs.of_type("AWS::Scheduler::Schedule").values()
    ]  # fmt: skip
    assert sorted(schedules) == sorted(
        (s.function, s.expression, s.enabled) for s in ours.event_sources if isinstance(s, ScheduleSource)
    )


def _short_queue(arn: str) -> str:
    return {"Queue.Arn": "orders"}[arn]


def test_function_urls_are_those_that_samtranslator_makes(both: tuple[Template, Translated]) -> None:
    ours, theirs = both
    expected = {
        name: (url["AuthType"], url.get("InvokeMode", "BUFFERED"), url.get("Cors", {}).get("AllowOrigins", []))
        for name, url in theirs.of_type("AWS::Lambda::Url").items()
    }
    assert {
        f"{f.logical_id}Url": (f.function_url.auth_type, f.function_url.invoke_mode, list(f.function_url.cors.allow_origins))
        for f in ours.functions.values() if f.function_url and f.function_url.cors
    } == expected  # fmt: skip
    assert {api.logical_id for api in ours.apis if api.kind == "url"} == set(expected)


def test_retries_and_destinations_are_those_that_samtranslator_makes(both: tuple[Template, Translated]) -> None:
    ours, theirs = both
    found = {config["FunctionName"]: config for config in theirs.of_type("AWS::Lambda::EventInvokeConfig").values()}
    configured = {name: f.event_invoke_config for name, f in ours.functions.items() if f.event_invoke_config}
    assert set(found) == set(configured)
    for name, config in configured.items():
        assert config.maximum_retry_attempts == found[name]["MaximumRetryAttempts"]
        assert config.maximum_event_age_s == found[name]["MaximumEventAgeInSeconds"]
        assert config.on_failure is not None
        destination = found[name]["DestinationConfig"]["OnFailure"]["Destination"]
        assert _short_arn(config.on_failure.arn) == _short_arn(destination)
