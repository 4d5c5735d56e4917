"""Which properties of SAM's resources and events are served, which need nothing locally, and what to use for the others.

Properties of types that only CloudFormation knows are not listed: plain APIs, URLs and event sources are rewritten as
SAM's, and other resources are made whole by the local AWS.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from warmfront.emulator.template.config import Unserved
from warmfront.emulator.template.source import Node

BY_HAND: Final = "try it with `warmfront invoke FUNCTION --event FILE`"
_NO_RETRY: Final = ("a failed delivery is not tried again", "look at the function's log")
_NOT_THROTTLED: Final = ("is not applied", "set DefaultRouteSettings or RouteSettings of the API")


@dataclass(frozen=True, slots=True)
class Support:
    """Properties of one type. Every property of SAM's model is in exactly one of the three."""

    served: frozenset[str]
    nothing: frozenset[str] = frozenset()
    """Deployment and permissions: nothing to do on one machine."""
    unserved: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Property -> what does not happen, and what to use in its place."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


RESOURCES: Final[Mapping[str, Support]] = {
    "AWS::Serverless::Function": Support(
        _words(
            "Architectures AutoPublishAlias CapacityProviderConfig CodeUri DeadLetterQueue Environment EphemeralStorage"
            " EventInvokeConfig Events FunctionName FunctionUrlConfig Handler ImageConfig ImageUri InlineCode Layers"
            " LoggingConfig MemorySize PackageType ProvisionedConcurrencyConfig ReservedConcurrentExecutions Runtime"
            " SnapStart Timeout Tracing"
        ),
        _words(
            "AssumeRolePolicyDocument AutoPublishAliasAllProperties AutoPublishCodeSha256 CodeSigningConfigArn"
            " DeploymentPreference Description FunctionScalingConfig KmsKeyArn PermissionsBoundary Policies PropagateTags"
            " PublishToLatestPublished RecursiveLoop Role RolePath RuntimeManagementConfig SourceKMSKeyArn Tags"
            " VersionDeletionPolicy VersionDescription VpcConfig"
        ),
        {
            "DurableConfig": ("durable executions run as plain invocations", "keep steps idempotent while you test"),
            "FileSystemConfigs": ("no file system is mounted", "name a local folder by an environment variable"),
            "TenancyConfig": ("tenants share execution environments", "test isolation on AWS"),
        },
    ),
    "AWS::Serverless::Api": Support(
        _words(
            "AccessLogSetting ApiKeySourceType Auth BinaryMediaTypes Cors DefinitionBody DefinitionUri GatewayResponses"
            " MergeDefinitions Models Name StageName Variables"
        ),
        _words(
            "AlwaysDeploy CacheClusterSize Description DisableExecuteApiEndpoint EndpointAccessMode EndpointConfiguration"
            " FailOnWarnings Mode OpenApiVersion PropagateTags SecurityPolicy Tags TracingEnabled"
        ),
        {
            "CacheClusterEnabled": ("no response is cached", "every request reaches the function"),
            "CanarySetting": ("no requests go to a canary", "test one deployment at a time"),
            "Domain": ("custom domains and base paths are not served", "use the API's local address"),
            "MethodSettings": ("throttling and caching of methods are not applied", "use a usage plan's Throttle"),
            "MinimumCompressionSize": ("responses are not compressed", "compare sizes on AWS"),
            "Policy": ("resource policies are not checked", "test them on AWS"),
        },
    ),
    "AWS::Serverless::HttpApi": Support(
        _words(
            "AccessLogSettings Auth CorsConfiguration DefaultRouteSettings DefinitionBody DefinitionUri Name RouteSettings"
            " StageName StageVariables"
        ),
        _words("Description DisableExecuteApiEndpoint FailOnWarnings PropagateTags Tags"),
        {"Domain": ("custom domains and base paths are not served", "use the API's local address")},
    ),
    "AWS::Serverless::LayerVersion": Support(
        _words("CompatibleArchitectures CompatibleRuntimes ContentUri LayerName"),
        _words("Description LicenseInfo PublishLambdaVersion RetentionPolicy"),
    ),
    "AWS::Serverless::SimpleTable": Support(
        _words("PrimaryKey TableName"),
        _words("PointInTimeRecoverySpecification ProvisionedThroughput SSESpecification Tags"),
    ),
    "AWS::Serverless::StateMachine": Support(
        _words("Definition DefinitionSubstitutions DefinitionUri Name Type"),
        _words(
            "AutoPublishAlias DeploymentPreference Logging PermissionsBoundary Policies PropagateTags Role RolePath Tags"
            " Tracing UseAliasAsEventTarget"
        ),
        {"Events": ("nothing starts the state machine by itself", "call StartExecution of the local AWS")},
    ),
}
_MAPPING_NOTHING: Final = _words(
    "BisectBatchOnFunctionError ConsumerGroupId DestinationConfig KafkaBootstrapServers KmsKeyArn LoggingConfig"
    " MaximumRecordAgeInSeconds MaximumRetryAttempts MetricsConfig ParallelizationFactor Queues SchemaRegistryConfig"
    " SecretsManagerKmsKeyId SourceAccessConfigurations StartingPosition StartingPositionTimestamp Topics"
    " TumblingWindowInSeconds"
)
"""Of an event source mapping: monitoring, encryption, and what has no meaning for a queue."""
EVENTS: Final[Mapping[str, Support]] = {
    "Api": Support(
        _words("Auth Method Path RequestModel RequestParameters RestApiId TimeoutInMillis"),
        _words("Stage"),
        {"ResponseTransferMode": ("responses are buffered, not streamed", "test streaming on AWS")},
    ),
    "HttpApi": Support(
        _words("ApiId Auth Method Path PayloadFormatVersion TimeoutInMillis"),
        _words("Stage"),
        {"RouteSettings": _NOT_THROTTLED},
    ),
    "Schedule": Support(
        _words("Enabled Input Name Schedule State"),
        _words("Description RuleName"),
        {"DeadLetterConfig": _NO_RETRY, "RetryPolicy": _NO_RETRY},
    ),
    "ScheduleV2": Support(
        _words("Input Name ScheduleExpression ScheduleExpressionTimezone State"),
        _words("Description GroupName KmsKeyArn OmitName PermissionsBoundary RoleArn"),
        {
            "DeadLetterConfig": _NO_RETRY,
            "EndDate": ("the schedule does not end", "disable it by State"),
            "FlexibleTimeWindow": ("the schedule fires at its time", "expect a later start on AWS"),
            "RetryPolicy": _NO_RETRY,
            "StartDate": ("the schedule starts at once", "disable it by State"),
        },
    ),
    "SQS": Support(
        _words(
            "BatchSize Enabled FilterCriteria FunctionResponseTypes MaximumBatchingWindowInSeconds Queue ScalingConfig"
        ),
        _MAPPING_NOTHING,
        {"ProvisionedPollerConfig": ("one poller serves the queue", "measure pollers on AWS")},
    ),
}


def unserved_properties(logical_id: str, kind: str, properties: Node) -> Iterator[Unserved]:
    """What is not served of a resource's properties, and of its events."""
    support = RESOURCES.get(kind)
    if support is not None:
        yield from _unserved(f"{logical_id}.", support, properties)
    events = properties.get("Events") if kind in ("AWS::Serverless::Function", "AWS::Lambda::Function") else None
    if not isinstance(events, Node):
        return
    for name, event in events.items():
        event_kind = str(event.get("Type")) if isinstance(event, Node) else ""
        if event_kind in EVENTS and isinstance(own := event.get("Properties"), Node):
            yield from _unserved(f"{logical_id}.{name}.", EVENTS[event_kind], own)
        elif event_kind and event_kind not in EVENTS:
            line = events.line_of(name) or properties.line
            yield Unserved(f"{logical_id}.{name}", f"{event_kind} events are not sent", BY_HAND, line)


def _unserved(prefix: str, support: Support, properties: Node) -> Iterator[Unserved]:
    for key in properties:
        line = properties.line_of(key)
        if key in support.unserved:
            what, instead = support.unserved[key]
            yield Unserved(f"{prefix}{key}", what, instead, line)
        elif key not in support.served and key not in support.nothing:
            yield Unserved(f"{prefix}{key}", "SAM has no such property, so it is not read", "correct its name", line)
