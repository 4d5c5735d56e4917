"""Every metric that an alarm or the dashboard watches is one that something emits, under that very name."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from shared.kit import telemetry
from tests.deploy.conftest import Deployment
from tests.deploy.tools import Call

pytestmark = pytest.mark.deploy

NAMESPACE = "Warmfront/warmfront-dev"

type Metric = tuple[str, str, frozenset[tuple[str, str]]]

# Names and dimensions as AWS's own services publish them; a pair that is not here never gets a data point.
#   docs.aws.amazon.com/apigateway/latest/developerguide/http-api-metrics.html
#   docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
#   docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-proxy.monitoring.html
#   docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.AuroraMonitoring.Metrics.html
#   docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
# Emitted only after events that take more than an invocation or two to bring about.
RARE = {telemetry.CACHE_STALE, telemetry.CONNECTIONS_LOST}

_LAMBDA = [{"FunctionName"}, {"FunctionName", "Resource"}, {"FunctionName", "Resource", "ExecutedVersion"}]
_API = [{"ApiId"}, {"ApiId", "Stage"}, {"ApiId", "Stage", "Method", "Resource"}]
PUBLISHED: dict[str, tuple[set[str], list[set[str]]]] = {
    "AWS/ApiGateway": ({"4xx", "5xx", "Count", "Latency", "IntegrationLatency", "DataProcessed"}, _API),
    "AWS/Lambda": (
        {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions", "AsyncEventAge", "DeadLetterErrors"},
        _LAMBDA,
    ),
    "AWS/RDS": (
        {"ACUUtilization", "CPUUtilization", "DatabaseConnections", "Deadlocks", "FreeableMemory"},
        [{"DBClusterIdentifier"}, {"DBInstanceIdentifier"}],
    ),
    "AWS/RDS (proxy)": (
        {"ClientConnections", "DatabaseConnections", "DatabaseConnectionsCurrentlySessionPinned", "QueryRequests"},
        [{"ProxyName"}],
    ),
    "AWS/SQS": (
        {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage", "NumberOfMessagesSent"},
        [{"QueueName"}],
    ),
}


def watched_by_alarms(deployment: Deployment) -> Iterable[tuple[str, Metric]]:
    for name, alarm in deployment.of_type("AWS::CloudWatch::Alarm").items():
        if "MetricName" in alarm:
            yield name, _metric(alarm)
        for query in alarm.get("Metrics", []):
            if "MetricStat" in query:
                yield name, _metric(query["MetricStat"]["Metric"])


def watched_by_dashboards(deployment: Deployment) -> Iterable[tuple[str, Metric]]:
    """Rows are [namespace, name, dimension, value, ..., {options}], and "." is as above."""
    for dashboard in deployment.of_type("AWS::CloudWatch::Dashboard").values():
        for widget in json.loads(dashboard["DashboardBody"])["widgets"]:
            for row in widget["properties"].get("metrics", []):
                words = [word for word in row if isinstance(word, str)]
                assert "." not in words, "written out, so that this test can read it"
                if words:
                    namespace, name, *pairs = words
                    dimensions = frozenset(zip(pairs[::2], pairs[1::2], strict=True))
                    yield widget["properties"]["title"], (namespace, name, dimensions)


def _metric(properties: dict[str, Any]) -> Metric:
    dimensions = frozenset((each["Name"], str(each["Value"])) for each in properties.get("Dimensions", []))
    return properties["Namespace"], properties["MetricName"], dimensions


def emitted(lines: Iterable[dict[str, Any]]) -> set[Metric]:
    """What CloudWatch makes of EMF lines: each metric once per set of dimensions."""
    found: set[Metric] = set()
    for line in lines:
        for directive in line["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = frozenset((name, str(line[name])) for name in names)
                found |= {(directive["Namespace"], metric["Name"], dimensions) for metric in directive["Metrics"]}
    return found


def _in_dev(metric: Metric, deployment: Deployment) -> Metric:
    """The same of stage dev: handlers were called with its settings. A stack watches no namespace but its own."""
    namespace, name, dimensions = metric
    own = f"Warmfront/{deployment.stack}"
    assert namespace == own or namespace.startswith("AWS/"), metric
    return (NAMESPACE if namespace == own else namespace), name, dimensions


def is_published(metric: Metric) -> bool:
    namespace, name, dimensions = metric
    names = {dimension for dimension, _ in dimensions}
    kinds = [kind for space, kind in PUBLISHED.items() if space.split(" ")[0] == namespace]
    return any(name in metrics and names in sets for metrics, sets in kinds)


@pytest.fixture(scope="module")
def emitted_by_handlers(alone: dict[str, Call], together: dict[str, Call]) -> set[Metric]:
    """Every built handler, as deployed in dev, without what is behind it and with it."""
    return emitted(line for call in (*alone.values(), *together.values()) for line in call.metrics)


def test_every_variant_emits_its_latency_as_a_service_of_its_own(emitted_by_handlers: set[Metric]) -> None:
    for service in ("naive", "pooled", "distributed"):
        assert (NAMESPACE, "Latency", frozenset({("service", service)})) in emitted_by_handlers


def test_every_metric_of_an_alarm_exists(deployment: Deployment, emitted_by_handlers: set[Metric]) -> None:
    for alarm, metric in watched_by_alarms(deployment):
        assert is_published(metric) or _in_dev(metric, deployment) in emitted_by_handlers, (alarm, metric)


def test_every_metric_of_the_dashboard_exists(deployment: Deployment, emitted_by_handlers: set[Metric]) -> None:
    dimensions = {dimensions for _, _, dimensions in emitted_by_handlers}
    names = deployment.logical_ids()  # by which the handlers were called
    for widget, (namespace, name, pairs) in watched_by_dashboards(deployment):
        pairs = frozenset((key, names.get(value, value)) for key, value in pairs)
        metric = _in_dev((namespace, name, pairs), deployment)
        is_rare = metric[1] in RARE and metric[1] in telemetry.UNITS and metric[2] in dimensions
        assert is_published(metric) or metric in emitted_by_handlers or is_rare, (widget, metric)


def test_rest_apis_names_are_no_metrics_of_an_http_api() -> None:
    """The mistake of public samples: an alarm that can never fire."""
    assert not is_published(("AWS/ApiGateway", "5XXError", frozenset({("ApiName", "shop")})))
    assert is_published(("AWS/ApiGateway", "5xx", frozenset({("ApiId", "abc"), ("Stage", "$default")})))
