"""What an operator expects of the deployed stack: who may do what, where it logs, what it costs when it goes wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.deploy import tools
from tests.deploy.account import Account
from tests.deploy.conftest import Deployment
from tests.deploy.events import ALONE
from tests.deploy.rules import broken
from tests.deploy.tools import Built, Project, with_code_in_s3

pytestmark = pytest.mark.deploy

# Each is what SAM attaches for a property of the function: logs, VpcConfig, Tracing, a queue that invokes it.
MANAGED = {
    "AWSLambdaBasicExecutionRole",
    "AWSLambdaVPCAccessExecutionRole",
    "AWSXrayWriteOnlyAccess",
    "AWSLambdaSQSQueueExecutionRole",
}
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
        attached = {arn.rpartition("/")[2] for arn in role["ManagedPolicyArns"]}
        assert {arn for arn in attached if "DatabaseAccess" not in arn} <= MANAGED
        for policy in [*role.get("Policies", []), *deployment.of_type("AWS::IAM::ManagedPolicy").values()]:
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


@pytest.fixture
def data(request: pytest.FixtureRequest, deployment: Deployment) -> Deployment:
    """The data tier beneath the shop."""
    found: Deployment = request.getfixturevalue(f"data_{deployment.stack.rpartition('-')[2]}")
    return found


def test_the_handlers_log_in_as_the_restricted_role_and_migrate_alone_as_the_administrator(
    deployment: Deployment, data: Deployment
) -> None:
    assert data.outputs["DatabaseLogin"] != data.outputs["DatabaseAdminLogin"]
    for name, function in deployment.functions.items():
        variables = function["Environment"]["Variables"]
        assert variables["SHOP_CURSOR_KEY"].startswith("{{resolve:secretsmanager:")
        user, _, password = variables["DATABASE_URL"].removeprefix("postgresql://").partition("@")[0].partition(":")
        if name == "Naive":
            assert user == "app"
            secret = "{{resolve:secretsmanager:" + data.outputs["DatabaseLogin"] + ":SecretString:password}}"
            assert password == secret
            continue
        assert (password, variables["SHOP_DB_LOGIN"]) == ("", "secret")
        admin = name == "Migrate"
        assert variables["SHOP_DB_SECRET"] == data.outputs["DatabaseAdminLogin" if admin else "DatabaseLogin"]
    migrate = deployment.functions["Migrate"]["Environment"]["Variables"]
    assert migrate["SHOP_DB_ROLE_SECRET"] == data.outputs["DatabaseLogin"]
    assert migrate["SHOP_DB_ROLE"] == "app"


def test_the_administrators_password_is_in_no_environment_variable(deployment: Deployment, data: Deployment) -> None:
    for function in deployment.functions.values():
        for value in function["Environment"]["Variables"].values():
            assert "resolve" not in str(value) or data.outputs["DatabaseAdminLogin"] not in str(value)


def granted(deployment: Deployment, name: str, action: str) -> list[str]:
    """Resources on which the function's role, with the policies attached to it, allows the action."""
    role = deployment.of_type("AWS::IAM::Role")[f"{name}Role"]
    documents = [policy["PolicyDocument"] for policy in role.get("Policies", [])]
    if any("DatabaseAccess" in arn for arn in role["ManagedPolicyArns"]):
        documents.append(deployment.of_type("AWS::IAM::ManagedPolicy")["DatabaseAccess"]["PolicyDocument"])
    found: list[str] = []
    for statement in (each for document in documents for each in document["Statement"] if each["Action"] == action):
        found += statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
    return found


def test_each_function_may_read_the_secrets_that_it_asks_for_and_no_other(deployment: Deployment) -> None:
    for name, function in deployment.functions.items():
        variables = function["Environment"]["Variables"]
        asked = {variables.get("SHOP_DB_SECRET"), variables.get("SHOP_DB_ROLE_SECRET")} - {None, ""}
        assert set(granted(deployment, name, "secretsmanager:GetSecretValue")) == asked, name


def test_writes_and_orders_want_a_token_and_products_are_open(deployment: Deployment) -> None:
    for key, operation in operations(deployment).items():
        ((scheme, _),) = operation["security"][0].items()
        is_open = key.startswith("GET ") and ("/products" in key or key.endswith("/openapi.json"))
        assert scheme == ("NONE" if is_open else "Jwt"), key


def test_a_change_of_a_product_wants_a_scope_and_nothing_else_does(deployment: Deployment) -> None:
    for key, operation in operations(deployment).items():
        ((_, scopes),) = operation["security"][0].items()
        assert scopes == (["products/write"] if key.startswith("PATCH ") else []), key


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
    assert {"requestId", "route", "status", "latencyMs", "invocation"} <= json.loads(line).keys()
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


def test_the_database_of_prod_outlives_a_mistake(data_dev: Deployment, data_prod: Deployment) -> None:
    (cluster,) = data_prod.of_type("AWS::RDS::DBCluster").values()
    assert str(cluster["DeletionProtection"]).lower() == "true"
    assert str(cluster["StorageEncrypted"]).lower() == "true"
    assert len(data_prod.of_type("AWS::RDS::DBInstance")) == 2
    assert len(data_dev.of_type("AWS::RDS::DBInstance")) == 1
    assert data_prod.template["Resources"]["DbCluster"]["DeletionPolicy"] == "Snapshot"


def test_what_holds_state_is_in_the_data_tier_alone(deployment: Deployment, data: Deployment) -> None:
    for kind in DATA_TIER:
        assert deployment.of_type(kind) == {}
    assert data.of_type("AWS::Lambda::Function") == {}
    assert data.of_type("AWS::ElastiCache::ServerlessCache")


def test_the_data_tiers_outputs_are_parameters_of_the_shop(project: Project, data: Deployment) -> None:
    document = with_code_in_s3(project.folder / "template.yaml")
    assert data.outputs.keys() <= document["Parameters"].keys()
    assert data.outputs["Stage"] in ("dev", "prod")


def test_the_functions_are_in_the_data_tiers_network(deployment: Deployment, data: Deployment) -> None:
    for function in deployment.functions.values():
        assert function["VpcConfig"]["SubnetIds"] == data.outputs["SubnetIds"].split(",")
        assert function["VpcConfig"]["SecurityGroupIds"] == [data.outputs["SecurityGroupIds"]]


def test_tls_is_verified_unless_a_parameter_says_otherwise(deployment: Deployment) -> None:
    for function in deployment.functions.values():
        assert function["Environment"]["Variables"]["SHOP_DB_SSL"] == "verify-full"
        assert function["Environment"]["Variables"]["SHOP_DB_CA_FILE"] == "/opt/python/shared/database-ca.pem"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"Stage": "local"}, "Stage local is the emulator's"),
        ({"DatabaseEndpoint": ""}, "deploy data-tier.yaml first"),
        ({"DatabaseAdminLogin": ""}, "deploy data-tier.yaml first"),
        ({"DatabaseLogin": ""}, "DatabaseLogin or DatabaseProxy must be given"),
        ({"DatabaseProxy": "proxy", "DatabaseProxyId": "prx-1"}, "and not both"),
        ({"DatabaseLogin": "", "DatabaseProxy": "proxy"}, "DatabaseProxyId must be given"),
        ({"DatabaseLogin": "", "DatabaseProxy": "proxy", "DatabaseProxyId": "prx-1"}, None),
        (
            {"DatabaseLogin": "", "DatabaseProxy": "proxy", "DatabaseProxyId": "prx-1", "NaiveVariant": "deployed"},
            "The naive variant logs in with a password",
        ),
        ({"CursorKeySecret": ""}, "CursorKeySecret or CursorKey"),
        ({"CursorKeySecret": "", "CursorKey": "a key of sixteen or more"}, None),
        ({"Stage": "prod"}, "Nothing bounds connections in prod"),
        ({"Stage": "prod", "ReservedConcurrency": "40"}, None),
        ({"Stage": "prod", "DatabaseLogin": "", "DatabaseProxy": "proxy", "DatabaseProxyId": "prx-1"}, None),
        ({"Stage": "prod", "ReservedConcurrency": "40", "DatabaseTls": "disable"}, "DatabaseTls must not be disable"),
        ({"DatabaseTls": "disable"}, None),
        ({"DatabaseEndpoint": "postgresql://me:mine@db.example:5432"}, "DatabaseEndpoint must match"),
    ],
)
def test_cloudformation_refuses_what_could_not_work(
    project: Project, data_dev: Deployment, changes: dict[str, str], message: str | None
) -> None:
    template = with_code_in_s3(project.folder / "template.yaml")
    given = {**project.parameters("default"), **data_dev.outputs}
    refused = broken(template, {**given, **changes})
    assert refused == [] if message is None else len(refused) == 1 and message in refused[0], refused


def test_a_deployment_that_breaks_a_rule_makes_nothing(deploy: Callable[..., Deployment], aws: Account) -> None:
    with pytest.raises(ClientError, match="Nothing bounds connections in prod"):
        deploy("unbounded", Stage="prod")
    assert "unbounded" not in aws.created


def test_reserved_concurrency_is_the_connection_budget(deploy: Callable[..., Deployment]) -> None:
    reserving = deploy("reserving", ReservedConcurrency="40")
    pooled = reserving.functions["Pooled"]
    assert str(pooled["ReservedConcurrentExecutions"]) == "40"
    assert pooled["Environment"]["Variables"]["SHOP_POOL_MAX"] == "1"
    assert str(pooled["Environment"]["Variables"]["SHOP_CONNECTION_BUDGET"]) == "40"


OWN = {
    "DatabaseEndpoint": "db.example:5432",
    "DatabaseAdminLogin": "arn:aws:secretsmanager:us-east-1:123456789012:secret:admin",
    "DatabaseLogin": "arn:aws:secretsmanager:us-east-1:123456789012:secret:app",
    "CursorKey": "a key of sixteen or more",
}


def test_a_database_of_ones_own_needs_no_data_tier(deploy: Callable[..., Deployment]) -> None:
    brought = deploy("brought", {}, **OWN, RedisUrl="rediss://cache.example:6379/0")
    variables = brought.functions["Pooled"]["Environment"]["Variables"]
    assert variables["DATABASE_URL"] == "postgresql://app@db.example:5432/pooled"
    assert variables["REDIS_URL"] == "rediss://cache.example:6379/0"
    assert (variables["SHOP_DB_CA_FILE"], variables["SHOP_CURSOR_KEY"]) == ("", OWN["CursorKey"])
    migrate = brought.functions["Migrate"]["Environment"]["Variables"]
    assert migrate["DATABASE_URL"] == "postgresql://shop@db.example:5432/postgres"
    assert "VpcConfig" not in brought.functions["Pooled"]


def test_without_a_cache_there_is_no_distributed_variant_and_no_queue(deploy: Callable[..., Deployment]) -> None:
    bare = deploy("bare", RedisUrl="", RedisMode="single")
    assert bare.functions.keys() == {"Naive", "Pooled", "Migrate"}
    assert bare.of_type("AWS::SQS::Queue") == {}
    assert not [key for key in operations(bare) if "/distributed/" in key]


@pytest.mark.parametrize(("name", "queue"), [("Relay", "order-events.fifo"), ("Distributed", "relay-nudges")])
def test_a_function_may_send_to_its_queue_and_to_no_other(dev: Deployment, name: str, queue: str) -> None:
    policies = dev.of_type("AWS::IAM::Role")[f"{name}Role"]["Policies"]
    statements = [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]
    (statement,) = (statement for statement in statements if statement["Action"].startswith("sqs:"))
    assert statement["Resource"].endswith(f":warmfront-dev-{queue}")
    assert statement["Action"] == "sqs:SendMessage"


def test_orders_wake_the_relay_within_seconds_and_those_of_a_second_only_once(dev: Deployment) -> None:
    queue = dev.functions["Distributed"]["Environment"]["Variables"]["SHOP_NUDGE_QUEUE_URL"]
    assert queue.endswith("/warmfront-dev-relay-nudges")
    (source,) = dev.of_type("AWS::Lambda::EventSourceMapping").values()
    assert source["EventSourceArn"].endswith(":warmfront-dev-relay-nudges")
    assert (source["Enabled"], source["MaximumBatchingWindowInSeconds"]) == (True, 1)
    assert source["BatchSize"] >= 100


def test_what_a_consumer_gives_up_on_is_kept_and_told(dev: Deployment) -> None:
    queue = dev.of_type("AWS::SQS::Queue")["OrderEvents"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"].endswith(":warmfront-dev-order-events-dead.fifo")
    dead = dev.of_type("AWS::CloudWatch::Alarm")["OrderEventsDeadLetters"]
    assert dead["Dimensions"] == [{"Name": "QueueName", "Value": "warmfront-dev-order-events-dead.fifo"}]


def test_who_brings_a_network_has_the_functions_in_it(deploy: Callable[..., Deployment]) -> None:
    inside = deploy("inside", {}, **OWN, SubnetIds="subnet-1,subnet-2", SecurityGroupIds="sg-1")
    for function in inside.functions.values():
        assert function["VpcConfig"] == {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}


@pytest.fixture(scope="module")
def proxied_data(project: Project, aws: Account) -> Deployment:
    """A data tier with everything that one can have, beside dev's."""
    stack = "everything-data"
    aws.deploy(stack, with_code_in_s3(project.folder / "data-tier.yaml"), {"Proxy": "deployed", "Cache": "deployed"})
    return Deployment(aws, stack, "")


@pytest.fixture(scope="module")
def everything(deploy: Callable[..., Deployment], proxied_data: Deployment) -> Deployment:
    return deploy("everything", proxied_data.outputs, AlarmEmail="somebody@shop.example")


def test_a_cache_is_reached_with_tls_and_as_the_cluster_that_it_is(everything: Deployment) -> None:
    for name in ("Pooled", "Distributed", "Migrate"):
        variables = everything.functions[name]["Environment"]["Variables"]
        assert variables["REDIS_URL"].startswith("rediss://"), name
        assert variables["SHOP_REDIS_MODE"] == "cluster", name


def test_behind_the_proxy_nobody_has_a_password(everything: Deployment, proxied_data: Deployment) -> None:
    (proxy,) = proxied_data.of_type("AWS::RDS::DBProxy").values()
    assert proxy["DefaultAuthScheme"] == "IAM_AUTH"
    assert "DatabaseLogin" not in proxied_data.outputs
    assert "AppLogin" not in proxied_data.of_type("AWS::SecretsManager::Secret")
    assert "Naive" not in everything.functions
    for name in ("Pooled", "Distributed", "Relay"):
        variables = everything.functions[name]["Environment"]["Variables"]
        assert variables["DATABASE_URL"].startswith("postgresql://app@endpoint.everything-data-DbProxy"), name
        assert variables["SHOP_DB_SECRET"] == ""
        assert granted(everything, name, "secretsmanager:GetSecretValue") == []
        (resource,) = granted(everything, name, "rds-db:connect")
        assert resource.endswith(f":dbuser:{proxied_data.outputs['DatabaseProxyId']}/app")
        # Its certificate is one of the public web's, not of RDS' own authority.
        assert (variables["SHOP_DB_SSL"], variables["SHOP_DB_CA_FILE"]) == ("verify-full", "")


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


def test_the_proxys_role_is_migrates_to_make_past_the_proxy(everything: Deployment, proxied_data: Deployment) -> None:
    variables = everything.functions["Migrate"]["Environment"]["Variables"]
    assert (variables["SHOP_DB_ROLE"], variables["SHOP_DB_ROLE_SECRET"]) == ("app", "")
    assert variables["SHOP_DB_LOGIN"] == "secret"
    assert variables["DATABASE_URL"] == f"postgresql://shop@{proxied_data.outputs['DatabaseAdminEndpoint']}/postgres"
    assert variables["SHOP_DB_CA_FILE"] == "/opt/python/shared/database-ca.pem"
