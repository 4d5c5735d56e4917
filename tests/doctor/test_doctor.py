import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from warmfront.cli import doctor
from warmfront.doctor import Finding, Limits, Severity, examine
from warmfront.doctor.waits import read_waits
from warmfront.emulator.template import load_template, read_samconfig

ROOT = Path(__file__).parents[2]


def good() -> dict[str, Any]:
    """A template in which every wait and pool has a limit. Each mistake below is one change to it."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": {
            "Orders": {
                "Type": "AWS::Serverless::Function",
                "Properties": {
                    "InlineCode": "def handler(event, context): pass",
                    "Handler": "index.handler",
                    "Runtime": "python3.13",
                    "MemorySize": 1024,
                    "Timeout": 10,
                    "ReservedConcurrentExecutions": 40,
                    "AutoPublishAlias": "live",
                    "LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "INFO"},
                    "Environment": {
                        "Variables": {
                            "DATABASE_URL": "postgresql://db.internal:5432/orders",
                            "DB_POOL_MIN": "0",
                            "DB_POOL_SIZE": "1",
                            "DB_ACQUIRE_TIMEOUT_MS": "500",
                            "DB_CONNECT_TIMEOUT_MS": "2000",
                            "DB_STATEMENT_TIMEOUT_MS": "1500",
                            "DB_CONNECTION_BUDGET": "90",
                            "DB_IDLE_MAX_S": "300",
                            "REDIS_URL": "rediss://cache.internal:6379",
                            "REDIS_TIMEOUT_MS": "100",
                            "REDIS_RETRIES": "1",
                            "BREAKER_SLOW_MS": "1000",
                            "DEADLINE_RESERVE_MS": "200",
                        }
                    },
                    "Events": {"Get": {"Type": "HttpApi", "Properties": {"Path": "/orders/{id}", "Method": "GET"}}},
                },
            },
            "Queue": {
                "Type": "AWS::SQS::Queue",
                "Properties": {
                    "VisibilityTimeout": 60,
                    "RedrivePolicy": {"deadLetterTargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}, "maxReceiveCount": 5},
                },
            },
            "Dead": {"Type": "AWS::SQS::Queue"},
            "Worker": {
                "Type": "AWS::Serverless::Function",
                "Properties": {
                    "InlineCode": "def handler(event, context): pass",
                    "Handler": "index.handler",
                    "Runtime": "python3.13",
                    "MemorySize": 512,
                    "Timeout": 10,
                    "ReservedConcurrentExecutions": 5,
                    "Environment": {"Variables": {"DATABASE_URL": "postgresql://db.internal:5432/orders"}},
                    "Events": {
                        "Messages": {
                            "Type": "SQS",
                            "Properties": {
                                "Queue": {"Fn::GetAtt": ["Queue", "Arn"]},
                                "BatchSize": 10,
                                "FunctionResponseTypes": ["ReportBatchItemFailures"],
                                "ScalingConfig": {"MaximumConcurrency": 5},
                            },
                        }
                    },
                },
            },
        },
    }


def examined(tmp_path: Path, document: dict[str, Any], **limits: int) -> list[Finding]:
    path = tmp_path / "template.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return examine(load_template(path), Limits(**limits))


def variables(document: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = document["Resources"]["Orders"]["Properties"]["Environment"]["Variables"]
    return found


def test_a_good_template_has_nothing(tmp_path: Path) -> None:
    assert examined(tmp_path, good()) == []


# Changed variables of Orders (None: left out) -> the rule that must report it.
VARIABLE_MISTAKES: list[tuple[dict[str, str | None], str]] = [
    ({"DB_STATEMENT_TIMEOUT_MS": "30000"}, "inner-timeout-over-outer"),
    ({"DB_ACQUIRE_TIMEOUT_MS": None, "DB_POOL_TIMEOUT_SECONDS": "30"}, "inner-timeout-over-outer"),
    ({"DB_CONNECT_TIMEOUT_MS": None, "PGCONNECT_TIMEOUT": "60"}, "inner-timeout-over-outer"),
    ({"REDIS_TIMEOUT_MS": "10000"}, "inner-timeout-over-outer"),
    ({"REDIS_CONNECT_TIMEOUT_MS": "15000"}, "inner-timeout-over-outer"),
    ({"REDIS_URL": "rediss://cache.internal:6379?socket_connect_timeout=20"}, "inner-timeout-over-outer"),
    ({"REDIS_TIMEOUT_MS": "8000", "REDIS_RETRIES": None}, "waits-over-timeout"),
    ({"REDIS_TIMEOUT_MS": None, "REDIS_CONNECT_TIMEOUT_MS": "100"}, "no-redis-timeout"),
    ({"DB_STATEMENT_TIMEOUT_MS": None, "PGOPTIONS": "-c statement_timeout=60s"}, "inner-timeout-over-outer"),
    ({"DB_ACQUIRE_TIMEOUT_MS": "5000", "DB_STATEMENT_TIMEOUT_MS": "5000"}, "waits-over-timeout"),
    ({"DEADLINE_RESERVE_MS": "10000"}, "reserve-over-timeout"),
    ({"HTTP_TIMEOUT_S": "4", "HTTP_MAX_RETRIES": "3", "REDIS_RETRIES": None}, "retries-over-budget"),
    ({"AWS_MAX_ATTEMPTS": "5", "SQS_CLIENT_TIMEOUT_S": "3"}, "retries-over-budget"),
    ({"REDIS_TIMEOUT_MS": "3000", "REDIS_RETRIES": "10"}, "retries-over-budget"),
    ({"AWS_MAX_ATTEMPTS": "2", "SQS_CLIENT_TIMEOUT_S": "5"}, "retries-over-budget"),  # 10 s of 10: one too many
    ({"DB_ACQUIRE_TIMEOUT_MS": None}, "no-acquire-timeout"),
    ({"DB_CONNECT_TIMEOUT_MS": None}, "no-connect-timeout"),
    ({"DB_STATEMENT_TIMEOUT_MS": None}, "no-statement-timeout"),
    ({"DB_POOL_SIZE": "10"}, "pool-too-large"),
    ({"DB_POOL_SIZE": "10"}, "connections-over-limit"),
    ({"DB_POOL_MIN": "2"}, "pool-min-over-max"),
    ({"DB_POOL_SIZE": "0"}, "pool-of-none"),
    ({"DB_CONNECTION_BUDGET": "20"}, "budget-below-use"),
    ({"DB_IDLE_MAX_S": "600"}, "idle-over-350-s"),
    ({"BREAKER_SLOW_MS": "2000"}, "breaker-never-slow"),
    ({"REDIS_TIMEOUT_MS": None}, "no-redis-timeout"),
    ({"DATABASE_URL": "postgresql://app:hunter2@db.internal/orders"}, "secret-in-environment"),
    ({"PAYMENT_API_KEY": "sk-12345"}, "secret-in-environment"),
    ({"DATABASE_URL": "postgresql://db.internal/orders?sslmode=disable"}, "no-tls"),
    ({"DB_SSL": "disable"}, "no-tls"),
    ({"PGSSLMODE": "prefer"}, "no-tls"),
    ({"DATABASE_SSLMODE": "require"}, "tls-unverified"),
    ({"REDIS_URL": "redis://cache.internal:6379"}, "no-tls"),
]


@pytest.mark.parametrize(
    ("changes", "rule"), VARIABLE_MISTAKES, ids=[f"{r}-{i}" for i, (_, r) in enumerate(VARIABLE_MISTAKES)]
)
def test_a_mistake_in_the_environment_is_found(tmp_path: Path, changes: dict[str, str | None], rule: str) -> None:
    document = good()
    for name, value in changes.items():
        if value is None:
            del variables(document)[name]
        else:
            variables(document)[name] = value
    found = examined(tmp_path, document)
    assert rule in {finding.rule for finding in found}
    (first, *_) = [finding for finding in found if finding.rule == rule]
    assert first.where == "Orders"
    assert first.message
    assert first.fix


SQS = "Events.Messages.Properties"
# Resource, dotted property, its new value (None: left out) -> the rule that must report it, and the resource.
PROPERTY_MISTAKES: list[tuple[str, str, object, str, str]] = [
    ("Orders", "Timeout", 60, "timeout-over-api", "Orders"),
    ("Orders", "Timeout", 30, "timeout-over-api", "Orders"),
    ("Orders", "Timeout", 1, "inner-timeout-over-outer", "Orders"),
    ("Orders", "MemorySize", None, "memory-default", "Orders"),
    ("Orders", "ReservedConcurrentExecutions", 0, "reserved-zero", "Orders"),
    ("Orders", "ReservedConcurrentExecutions", 100, "connections-over-limit", "Orders"),
    ("Orders", "ReservedConcurrentExecutions", None, "concurrency-unbounded", "Orders"),
    ("Orders", "ProvisionedConcurrencyConfig", {"ProvisionedConcurrentExecutions": 50}, "provisioned-over-reserved", "Orders"),
    ("Worker", "ProvisionedConcurrencyConfig", {"ProvisionedConcurrentExecutions": 2}, "no-alias", "Worker"),
    ("Worker", "SnapStart", {"ApplyOn": "PublishedVersions"}, "no-alias", "Worker"),
    ("Orders", "LoggingConfig.ApplicationLogLevel", "ERROR", "metrics-dropped", "Orders"),
    ("Orders", "Runtime", "python3.9", "runtime-deprecated", "Orders"),
    ("Orders", "FunctionUrlConfig", {"AuthType": "NONE"}, "url-public", "Orders"),
    ("Worker", f"{SQS}.FunctionResponseTypes", None, "whole-batch-retried", "Worker"),
    ("Worker", f"{SQS}.ScalingConfig.MaximumConcurrency", 50, "queue-over-reserved", "Worker"),
    ("Queue", "VisibilityTimeout", 5, "visibility-too-short", "Queue"),
    ("Queue", "VisibilityTimeout", None, "visibility-too-short", "Queue"),
    ("Queue", "RedrivePolicy", None, "no-dead-letter-queue", "Queue"),
    ("Worker", "Events.Nightly", {"Type": "Schedule", "Properties": {"Schedule": "rate(1 day)"}}, "failures-dropped", "Worker"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "where", "value", "rule", "named"),
    PROPERTY_MISTAKES,
    ids=[f"{m[3]}-{i}" for i, m in enumerate(PROPERTY_MISTAKES)],
)
def test_a_mistake_in_a_property_is_found(
    tmp_path: Path, resource: str, where: str, value: object, rule: str, named: str
) -> None:
    document = good()
    *path, last = where.split(".")
    node = document["Resources"][resource]["Properties"]
    for key in path:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    assert (rule, named) in {(finding.rule, finding.where) for finding in examined(tmp_path, document)}


@pytest.mark.parametrize(
    "change",
    [
        {"Runtime": "python3.11"},
        {"EphemeralStorage": {"Size": 1024}},
        {"ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": 2}},
    ],
)
def test_what_snapstart_cannot_have_is_found(tmp_path: Path, change: dict[str, Any]) -> None:
    document = good()
    document["Resources"]["Orders"]["Properties"] |= {"SnapStart": {"ApplyOn": "PublishedVersions"}}
    assert examined(tmp_path, document) == []
    document["Resources"]["Orders"]["Properties"] |= change
    assert "snapstart-clash" in {finding.rule for finding in examined(tmp_path, document)}


def test_cors_for_all_origins_with_credentials_is_found(tmp_path: Path) -> None:
    document = good()
    cors = {"AllowOrigins": ["*"], "AllowCredentials": True}
    document["Resources"]["Api"] = {"Type": "AWS::Serverless::HttpApi", "Properties": {"CorsConfiguration": cors}}
    document["Resources"]["Orders"]["Properties"]["Events"]["Get"]["Properties"]["ApiId"] = {"Ref": "Api"}
    assert [finding.rule for finding in examined(tmp_path, document)] == ["cors-any-with-credentials"]


@pytest.mark.parametrize(
    ("auth", "found"),
    [
        ({"DefaultAuthorizer": "Pool"}, True),
        ({"DefaultAuthorizer": "Pool", "AddDefaultAuthorizerToCorsPreflight": False}, False),
        ({}, False),
    ],
    ids=str,
)
def test_an_authorizer_before_preflights_is_found(tmp_path: Path, auth: dict[str, Any], found: bool) -> None:
    template = good()
    pool = {"UserPoolArn": "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_x"}
    properties = {"StageName": "v1", "Cors": "'*'", "Auth": {"Authorizers": {"Pool": pool}, **auth}}
    template["Resources"]["Api"] = {"Type": "AWS::Serverless::Api", "Properties": properties}
    findings = [each for each in examined(tmp_path, template) if each.rule == "preflight-refused"]
    assert [each.where for each in findings] == (["Api"] if found else [])


def test_functions_of_one_server_share_its_connections(tmp_path: Path) -> None:
    document = good()
    document["Resources"]["Orders"]["Properties"]["ReservedConcurrentExecutions"] = 86
    variables(document)["DB_CONNECTION_BUDGET"] = "86"
    (finding,) = examined(tmp_path, document)
    assert "Orders 86 x 1 + Worker 5 x 1 = 91 connections, but only 90 are available" in finding.message
    assert finding.severity is Severity.ERROR
    assert examined(tmp_path, document, max_connections=101) == []
    variables(document)["DATABASE_URL"] = "postgresql://other.internal:5432/orders"
    assert examined(tmp_path, document) == []


@pytest.mark.parametrize("first", ["SHOP_REDIS_CONNECT_TIMEOUT_MS", "SHOP_REDIS_TIMEOUT_MS"])
def test_a_time_out_to_connect_to_redis_does_not_hide_the_one_for_its_answer(tmp_path: Path, first: str) -> None:
    document = good()
    both = ("SHOP_REDIS_CONNECT_TIMEOUT_MS", "SHOP_REDIS_TIMEOUT_MS")
    values = dict(zip(both, ("100", "15000"), strict=True))
    del variables(document)["REDIS_TIMEOUT_MS"]
    variables(document).update({name: values[name] for name in sorted(both, key=lambda name: name != first)})
    (finding,) = examined(tmp_path, document)
    assert finding.message.startswith("SHOP_REDIS_TIMEOUT_MS (15 s) is not below the function's Timeout (10 s)")


def test_an_unbounded_pool_of_ten_is_worse_than_one_connection_each(tmp_path: Path) -> None:
    document = good()
    del document["Resources"]["Orders"]["Properties"]["ReservedConcurrentExecutions"]
    assert [finding.severity for finding in examined(tmp_path, document)] == [Severity.ADVICE]
    variables(document)["DB_POOL_SIZE"] = "10"
    unbounded = [finding for finding in examined(tmp_path, document) if finding.rule == "concurrency-unbounded"]
    assert [finding.severity for finding in unbounded] == [Severity.WARNING]
    assert "reserve 9 or fewer" in unbounded[0].fix


def test_the_worst_comes_first(tmp_path: Path) -> None:
    document = good()
    variables(document).update({"DB_STATEMENT_TIMEOUT_MS": "30000", "DB_IDLE_MAX_S": "600"})
    del variables(document)["REDIS_TIMEOUT_MS"]
    severities = [finding.severity.rank for finding in examined(tmp_path, document)]
    assert severities == sorted(severities)
    assert len(set(severities)) == 3


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("DB_ACQUIRE_TIMEOUT_MS", "500", 0.5),
        ("ACQUIRE_TIMEOUT_SECONDS", "2", 2.0),
        ("acquire_timeout", "3", 3.0),
        ("ACQUIRE_TIMEOUT", "250", 0.25),
        ("POOL_TIMEOUT", "30", 30.0),
        ("ACQUIRE_TIMEOUT_MS", "soon", None),
    ],
)
def test_units_are_read_from_names(tmp_path: Path, name: str, value: str, seconds: float | None) -> None:
    document = good()
    document["Resources"]["Orders"]["Properties"]["Environment"]["Variables"] = {name: value}
    path = tmp_path / "template.yaml"
    path.write_text(yaml.safe_dump(document))
    acquire = read_waits(load_template(path).functions["Orders"]).acquire
    assert (acquire.value if acquire else None) == seconds


OWN = {
    "CursorKey": "a key of the test's own",
    "JwtIssuer": "https://id.example",
    "JwtAudience": "shop",
    "DatabaseEndpoint": "db.example:5432",
    "RedisUrl": "rediss://cache.example:6379/0",
}
PROXY = {"ReservedConcurrency": "0", "DatabaseProxy": "proxy", "DatabaseProxyId": "prx-1"}


def own_mistakes(environment: str, **parameters: str) -> list[str]:
    given = OWN if environment == "local" else {**OWN, "DatabaseLogin": "arn:secret"}
    from_file = read_samconfig(ROOT, environment=environment).parameter_overrides("deploy")
    template = load_template(ROOT / "template.yaml", parameters={**given, **from_file, **parameters})
    return [each.rule for each in examine(template, Limits()) if each.severity is not Severity.ADVICE]


@pytest.mark.parametrize("environment", ["local", "default", "prod"])
def test_our_own_template_has_no_mistake(environment: str) -> None:
    assert own_mistakes(environment) == []
    assert own_mistakes(environment, **PROXY) == []


@pytest.mark.parametrize(
    ("parameters", "rules"),
    [
        ({"ReservedConcurrency": "0"}, {"concurrency-unbounded"}),
        ({"ReservedConcurrency": "60"}, {"connections-over-limit"}),
        ({"DatabaseTls": "disable"}, {"no-tls"}),
        ({"RedisUrl": "redis://cache.example:6379/0"}, {"no-tls"}),
    ],
)
def test_a_mistake_in_the_parameters_of_prod_is_found(parameters: dict[str, str], rules: set[str]) -> None:
    assert set(own_mistakes("prod", **parameters)) == rules


def test_an_unbounded_function_is_worse_in_production_and_bounded_by_a_proxy(tmp_path: Path) -> None:
    document = good()
    del document["Resources"]["Orders"]["Properties"]["ReservedConcurrentExecutions"]
    variables(document)["APP_ENV"] = "production"
    (finding,) = examined(tmp_path, document)
    assert (finding.rule, finding.severity) == ("concurrency-unbounded", Severity.WARNING)
    proxy = "postgresql://app@shop.proxy-abc123.eu-central-1.rds.amazonaws.com:5432/orders"
    variables(document)["DATABASE_URL"] = proxy
    assert examined(tmp_path, document) == []


def with_api(**properties: Any) -> dict[str, Any]:
    document = good()
    document["Resources"]["Api"] = {"Type": "AWS::Serverless::HttpApi", "Properties": properties}
    document["Resources"]["Orders"]["Properties"]["Events"]["Get"]["Properties"]["ApiId"] = {"Ref": "Api"}
    return document


def test_a_variable_of_rest_apis_in_an_http_apis_access_log_is_found(tmp_path: Path) -> None:
    line = '{"id":"$context.requestId","sub":"$context.authorizer.claims.sub","ip":"$context.identity.sourceIp"'
    settings = {"DestinationArn": "arn:aws:logs:us-east-1:123456789012:log-group:api"}
    document = with_api(AccessLogSettings={**settings, "Format": line + ',"trace":"$context.xrayTraceId"}'})
    (finding,) = examined(tmp_path, document)
    assert finding.rule == "access-log-variable"
    assert "$context.xrayTraceId," in finding.message
    assert examined(tmp_path, with_api(AccessLogSettings={**settings, "Format": line + "}"})) == []


def test_a_change_that_any_token_may_make_is_worth_a_thought(tmp_path: Path) -> None:
    configuration = {"issuer": "https://id.example", "audience": ["shop"]}
    jwt = {"JwtConfiguration": configuration, "IdentitySource": "$request.header.Authorization"}
    document = with_api(Auth={"DefaultAuthorizer": "Jwt", "Authorizers": {"Jwt": jwt}})
    event = document["Resources"]["Orders"]["Properties"]["Events"]["Get"]["Properties"]
    assert examined(tmp_path, document) == []  # a GET
    event["Method"] = "PATCH"
    (finding,) = examined(tmp_path, document)
    assert (finding.rule, finding.severity) == ("no-scope", Severity.ADVICE)
    event["Auth"] = {"AuthorizationScopes": ["orders/write"]}
    assert examined(tmp_path, document) == []


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return doctor.run(parser.parse_args(arguments))


def test_the_command_names_file_line_and_fix_and_its_status_is_a_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = good()
    Path("template.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    assert run() == 0
    assert capsys.readouterr().out == "template.yaml, 2 functions: no mistakes found\n"
    variables(document)["BREAKER_SLOW_MS"] = "2000"
    del variables(document)["REDIS_TIMEOUT_MS"]
    Path("template.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    assert run() == 1
    text = capsys.readouterr().out
    assert "ERROR Orders (template.yaml:4): breaker-never-slow\n" in text
    assert "  fix: BREAKER_SLOW_MS of about half of that" in text
    assert text.endswith("1 error; 1 more to weigh with --all\n")
    assert run("--all", "--json") == 1
    assert [entry["severity"] for entry in json.loads(capsys.readouterr().out)] == ["error", "advice"]


def test_advice_alone_is_no_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = good()
    del variables(document)["REDIS_TIMEOUT_MS"]
    Path("template.yaml").write_text(yaml.safe_dump(document))
    assert run("--all") == 0
    assert "ADVICE Orders" in capsys.readouterr().out


def test_a_template_that_cannot_be_read_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--template", str(tmp_path / "gone.yaml")) == 2
    assert "warmfront doctor: " in capsys.readouterr().err


SERVED_WITH_A_WARNING: dict[str, dict[str, Any]] = {
    "condition A depends on itself": {
        "Conditions": {"A": {"Fn::Not": [{"Condition": "A"}]}},
        "X": {"Type": "AWS::SQS::Queue", "Condition": "A"},
    },
    "X must be a mapping with a Type": {"X": None},
    "CodeUri must be a string": {
        "X": {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": [1], "Handler": "a.b"}}
    },
    "it is a container image": {
        "X": {"Type": "AWS::Serverless::Function", "Properties": {"PackageType": "Image", "ImageUri": "a"}}
    },
    "runtime java21 is not on this machine": {
        "X": {
            "Type": "AWS::Serverless::Function",
            "Properties": {"InlineCode": "x", "Handler": "a", "Runtime": "java21"},
        }
    },
    "unknown type": {"X": {"Type": "AWS::Serverless::Functoin"}},
    "Timeout is 901, but Lambda allows 1 to 900 s": {
        "X": {"Type": "AWS::Serverless::Function", "Properties": {"Handler": "a.b", "Timeout": 901}}
    },
    "MemorySize is 64, but Lambda allows 128 to 10240 MB": {
        "X": {"Type": "AWS::Serverless::Function", "Properties": {"Handler": "a.b", "MemorySize": 64}}
    },
    "SNS subscriptions do not start functions": {
        "X": {"Type": "AWS::SNS::Topic", "Properties": {"Subscription": [{"Protocol": "lambda", "Endpoint": "a"}]}}
    },
}
"""Message of the doctor -> what is added to a template without a mistake: a resource X, and sections."""


@pytest.mark.parametrize("message", SERVED_WITH_A_WARNING)
def test_what_serve_warns_of_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str], message: str) -> None:
    added = dict(SERVED_WITH_A_WARNING[message])
    document = good()
    document["Resources"]["X"] = added.pop("X")
    document |= added
    path = tmp_path / "template.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    assert run("-t", str(path)) == 1
    assert message in capsys.readouterr().out


def test_memory_below_the_least_is_not_called_the_default(tmp_path: Path) -> None:
    document = good()
    document["Resources"]["Orders"]["Properties"]["MemorySize"] = 64
    assert "memory-default" not in {finding.rule for finding in examined(tmp_path, document)}
