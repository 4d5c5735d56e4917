"""What an operator expects of the deployed stack: who may do what, where it logs, what it costs when it goes wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import tools
from tests.deploy.conftest import Deployment
from tests.deploy.events import ALONE
from tests.deploy.tools import Built

pytestmark = pytest.mark.deploy

# Each is what SAM attaches for a property of the function: logs, VpcConfig, Tracing.
MANAGED = {"AWSLambdaBasicExecutionRole", "AWSLambdaVPCAccessExecutionRole", "AWSXrayWriteOnlyAccess"}
DATA_TIER = (
    "AWS::EC2::VPC",
    "AWS::RDS::DBCluster",
    "AWS::RDS::DBInstance",
    "AWS::RDS::DBProxy",
    "AWS::ElastiCache::ServerlessCache",
)


def too_wide(document: dict[str, Any]) -> list[str]:
    """Actions and resources of a policy that stand for more than one."""
    found: list[str] = []
    for statement in document["Statement"]:
        for key in ("Action", "Resource"):
            values = statement[key] if isinstance(statement[key], list) else [statement[key]]
            found += [value for value in values if "*" in value]
    return found


def operations(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """Route key -> its operation in the API's OpenAPI document."""
    (api,) = deployment.of_type("AWS::ApiGatewayV2::Api").values()
    return {
        f"{method.upper()} {path}": body for path, item in api["Body"]["paths"].items() for method, body in item.items()
    }


def test_the_baseline_is_deployed_in_dev_and_left_out_in_prod(dev: Deployment, prod: Deployment) -> None:
    assert "Naive" in dev.functions
    assert "Naive" not in prod.functions
    assert not [key for key in operations(prod) if "/naive/" in key]


def test_each_function_has_a_role_of_its_own_with_no_wildcard(deployment: Deployment) -> None:
    roles = deployment.of_type("AWS::IAM::Role")
    assert len({function["Role"] for function in deployment.functions.values()}) == len(deployment.functions)
    for name in deployment.functions:
        role = roles[f"{name}Role"]
        assert {arn.rpartition("/")[2] for arn in role["ManagedPolicyArns"]} <= MANAGED
        for policy in role.get("Policies", []):
            assert too_wide(policy["PolicyDocument"]) == [], name


def test_a_wildcard_in_a_policy_is_found() -> None:
    statement = {"Effect": "Allow", "Action": ["sqs:*"], "Resource": "*"}
    assert too_wide({"Statement": [statement]}) == ["sqs:*", "*"]


def test_each_function_logs_json_to_a_group_of_its_own_that_forgets(deployment: Deployment) -> None:
    groups = deployment.of_type("AWS::Logs::LogGroup")
    assert all(group["RetentionInDays"] for group in groups.values())
    used = [function["LoggingConfig"] for function in deployment.functions.values()]
    assert len({logging["LogGroup"] for logging in used}) == len(deployment.functions)
    for logging in used:
        assert logging["LogFormat"] == "JSON"
        # Above INFO, Lambda would drop every line of metrics: they carry no level, and count as INFO.
        assert logging["ApplicationLogLevel"] == "INFO"


def test_no_function_is_given_a_secret_in_the_clear(deployment: Deployment) -> None:
    for name, function in deployment.functions.items():
        variables = function["Environment"]["Variables"]
        assert variables["SHOP_CURSOR_KEY"].startswith("{{resolve:secretsmanager:")
        user, _, password = variables["DATABASE_URL"].removeprefix("postgresql://").partition("@")[0].partition(":")
        assert user == "shop"
        if name == "Naive":
            assert password.startswith("{{resolve:secretsmanager:"), "a password"
        else:
            assert not password
            assert variables["SHOP_DB_LOGIN"] == "secret"
            assert variables["SHOP_DB_SECRET"]


def test_whoever_looks_up_the_login_may_and_nobody_else(deployment: Deployment) -> None:
    roles = deployment.of_type("AWS::IAM::Role")
    for name, function in deployment.functions.items():
        statements = [s for p in roles[f"{name}Role"].get("Policies", []) for s in p["PolicyDocument"]["Statement"]]
        granted = [s["Resource"] for s in statements if s["Action"] == "secretsmanager:GetSecretValue"]
        asked = function["Environment"]["Variables"].get("SHOP_DB_SECRET")
        assert granted == ([asked] if asked else []), name


def test_writes_and_orders_want_a_token_and_products_are_open(deployment: Deployment) -> None:
    for key, operation in operations(deployment).items():
        ((scheme, _),) = operation["security"][0].items()
        is_open = key.startswith("GET ") and ("/products" in key or key.endswith("/openapi.json"))
        assert scheme == ("NONE" if is_open else "Jwt"), key


def test_the_api_lets_pages_of_one_origin_in(deployment: Deployment) -> None:
    (api,) = deployment.of_type("AWS::ApiGatewayV2::Api").values()
    cors = api["Body"]["x-amazon-apigateway-cors"]
    assert cors["allowOrigins"] == ["https://shop.example"]
    assert "*" not in cors["allowMethods"] + cors["allowHeaders"]


def test_the_api_is_throttled_and_logs_one_line_of_json_per_request(deployment: Deployment) -> None:
    (stage,) = deployment.of_type("AWS::ApiGatewayV2::Stage").values()
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] > 0
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] > 0
    line = stage["AccessLogSettings"]["Format"]
    assert "\n" not in line
    assert {"requestId", "route", "status", "latencyMs", "trace"} <= json.loads(line).keys()
    assert set(stage["RouteSettings"]) <= set(operations(deployment))


def test_the_api_gives_up_after_its_functions_do(deployment: Deployment) -> None:
    behind_it = deployment.functions.keys() - {"Migrate", "Relay"}
    assert all(deployment.functions[name]["Timeout"] < 30 for name in behind_it)


def test_a_new_version_is_tried_on_some_requests_first_in_prod(dev: Deployment, prod: Deployment) -> None:
    assert prod.of_type("AWS::CodeDeploy::DeploymentGroup")["PooledDeploymentGroup"]["DeploymentConfigName"] == (
        "CodeDeployDefault.LambdaCanary10Percent5Minutes"
    )
    for deployment in (dev, prod):
        groups = deployment.of_type("AWS::CodeDeploy::DeploymentGroup")
        assert groups.keys() == {"PooledDeploymentGroup", "DistributedDeploymentGroup"}
        for group in groups.values():
            assert len(group["AlarmConfiguration"]["Alarms"]) == 2
            assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]


def test_the_three_thresholds_are_the_ones_the_service_is_held_to(deployment: Deployment) -> None:
    alarms = deployment.of_type("AWS::CloudWatch::Alarm")
    assert (alarms["ApiLatency"]["ExtendedStatistic"], alarms["ApiLatency"]["Threshold"]) == ("p99", 500)
    assert alarms["ApiErrors"]["Threshold"] == 1
    assert alarms["PooledConnections"]["Threshold"] == 90
    for name, alarm in alarms.items():
        assert alarm["TreatMissingData"] == "notBreaching", name
        assert alarm["ComparisonOperator"] == "GreaterThanThreshold", name


def test_the_shop_starts_from_snapshots(deployment: Deployment) -> None:
    for name in deployment.functions.keys() & {"Naive", "Pooled", "Distributed"}:
        assert deployment.functions[name]["SnapStart"] == {"ApplyOn": "PublishedVersions"}
        assert "EphemeralStorage" not in deployment.functions[name]  # over 512 MB it could not


def test_the_database_of_prod_outlives_a_mistake(prod: Deployment) -> None:
    (cluster,) = prod.of_type("AWS::RDS::DBCluster").values()
    assert str(cluster["DeletionProtection"]).lower() == "true"
    assert str(cluster["StorageEncrypted"]).lower() == "true"
    assert len(prod.of_type("AWS::RDS::DBInstance")) == 2
    assert prod.template["Resources"]["DbCluster"]["DeletionPolicy"] == "Snapshot"


def test_reserved_concurrency_is_the_connection_budget(deploy: Callable[..., Deployment]) -> None:
    reserving = deploy("reserving", ReservedConcurrency="40")
    pooled = reserving.functions["Pooled"]
    assert str(pooled["ReservedConcurrentExecutions"]) == "40"
    assert pooled["Environment"]["Variables"]["SHOP_POOL_MAX"] == "1"
    assert str(pooled["Environment"]["Variables"]["SHOP_CONNECTION_BUDGET"]) == "40"


def test_who_brings_a_database_gets_none_and_no_network(deploy: Callable[..., Deployment]) -> None:
    address = "postgresql://me:mine@db.example:5432"
    brought = deploy("brought", DatabaseAddress=address, RedisUrl="rediss://cache.example:6379/0")
    for kind in DATA_TIER:
        assert brought.of_type(kind) == {}
    assert brought.functions["Pooled"]["Environment"]["Variables"]["DATABASE_URL"] == f"{address}/pooled"
    assert brought.functions["Pooled"]["Environment"]["Variables"]["REDIS_URL"] == "rediss://cache.example:6379/0"
    assert "VpcConfig" not in brought.functions["Pooled"]


def test_without_a_cache_there_is_no_distributed_variant_and_no_queue(deploy: Callable[..., Deployment]) -> None:
    bare = deploy("bare", Cache="left-out")
    assert bare.functions.keys() == {"Naive", "Pooled", "Migrate"}
    assert bare.of_type("AWS::SQS::Queue") == {}
    assert not [key for key in operations(bare) if "/distributed/" in key]


def test_the_relay_may_send_to_its_queue_and_to_no_other(dev: Deployment) -> None:
    policies = dev.of_type("AWS::IAM::Role")["RelayRole"]["Policies"]
    statements = [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]
    (statement,) = (statement for statement in statements if statement["Action"].startswith("sqs:"))
    assert statement["Resource"].endswith(":warmfront-dev-order-events.fifo")
    assert statement["Action"] == "sqs:SendMessage"


def test_what_a_consumer_gives_up_on_is_kept_and_told(dev: Deployment) -> None:
    queue = dev.of_type("AWS::SQS::Queue")["OrderEvents"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"].endswith(":warmfront-dev-order-events-dead.fifo")
    dead = dev.of_type("AWS::CloudWatch::Alarm")["OrderEventsDeadLetters"]
    assert dead["Dimensions"] == [{"Name": "QueueName", "Value": "warmfront-dev-order-events-dead.fifo"}]


def test_who_brings_a_network_has_the_functions_in_it(deploy: Callable[..., Deployment]) -> None:
    network = {"SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"}
    inside = deploy("inside", DatabaseAddress="postgresql://me:mine@db.example:5432", **network)
    for function in inside.functions.values():
        assert function["VpcConfig"] == {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}


@pytest.fixture(scope="module")
def everything(deploy: Callable[..., Deployment]) -> Deployment:
    return deploy("everything", DatabaseProxy="deployed", AlarmEmail="somebody@shop.example")


def test_a_cache_is_reached_with_tls_only(everything: Deployment) -> None:
    assert everything.functions["Pooled"]["Environment"]["Variables"]["REDIS_URL"].startswith("rediss://")


def test_behind_the_proxy_nobody_has_a_password(everything: Deployment) -> None:
    variables = everything.functions["Pooled"]["Environment"]["Variables"]
    assert variables["DATABASE_URL"].startswith("postgresql://app@endpoint.everything-DbProxy")
    (proxy,) = everything.of_type("AWS::RDS::DBProxy").values()
    assert proxy["DefaultAuthScheme"] == "IAM_AUTH"
    (policy,) = everything.of_type("AWS::IAM::Role")["PooledRole"]["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert variables["SHOP_DB_SECRET"] == ""
    assert statement["Action"] == "rds-db:connect"
    assert statement["Resource"].endswith("/app")
    assert "*" not in statement["Resource"]


def test_the_code_takes_the_settings_of_the_proxy(
    everything: Deployment, built: Built, runtime: Path, tmp_path: Path
) -> None:
    folders = (built.folder / "Pooled", built.layer, runtime)
    environ = everything.alone("Pooled")
    assert (environ["SHOP_DB_MODE"], environ["SHOP_DB_LOGIN"]) == ("proxy", "iam")
    done = tools.call(
        "functions.pooled.app.handler", ALONE["Pooled"], folders=folders, environ=environ, scratch=tmp_path
    )
    # Nobody is there; on a busy machine it may take all the time there is to find out.
    assert {answer["statusCode"] for answer in done.answers} <= {503, 504}


def test_the_proxys_role_is_migrates_to_make(everything: Deployment) -> None:
    variables = everything.functions["Migrate"]["Environment"]["Variables"]
    assert (variables["SHOP_DB_ROLE"], variables["SHOP_DB_LOGIN"]) == ("app", "secret")
