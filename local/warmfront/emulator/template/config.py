"""The settings of a template as frozen data: functions, layers, APIs, event sources, queues."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from warmfront.emulator.template.integrations import (
    GatewayResponse,
    Integration,
    ParameterMapping,
    RequestValidation,
    UsagePlan,
)

ApiKind = Literal["http", "rest", "url"]
PayloadFormat = Literal["1.0", "2.0"]


@dataclass(frozen=True, slots=True)
class SetUpCall:
    """An invocation that the template asks for before its APIs are served: a logical id and a JSON event."""

    function: str
    event: bytes


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """A layer: a folder of ours, or somebody's ARN that this machine does not have."""

    name: str
    content_path: Path | None
    """None: the layer is an ARN, or its content is in S3."""
    arn: str | None = None
    parent_packages: tuple[str, ...] = ()
    """Packages the content is moved under at build time: ("shared",) puts pool.py at python/shared/pool.py."""
    build_method: str | None = None
    """None: the folder already has Lambda's layout (python/..., bin/...), as `sam build` leaves it too."""
    compatible_runtimes: tuple[str, ...] = ()
    compatible_architectures: tuple[str, ...] = ()
    dependencies: Path | None = None
    """Folder with what its requirements file asks for; None: packages of the emulator's own environment meet it."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an asynchronous invocation's record goes: an SQS queue, an SNS topic, a function or an event bus."""

    arn: str
    type: str | None = None


@dataclass(frozen=True, slots=True)
class EventInvokeConfig:
    """What happens to asynchronous invocations. Defaults are Lambda's."""

    maximum_retry_attempts: int = 2
    maximum_event_age_s: int = 21_600
    on_success: Destination | None = None
    on_failure: Destination | None = None


@dataclass(frozen=True, slots=True)
class CorsConfig:
    """Cross-origin answers of an API; empty tuples: the header is not sent."""

    allow_origins: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    max_age_s: int | None = None


@dataclass(frozen=True, slots=True)
class FunctionUrlConfig:
    auth_type: str = "NONE"
    invoke_mode: str = "BUFFERED"
    cors: CorsConfig | None = None


@dataclass(frozen=True, slots=True)
class FunctionConfig:
    """One function of the template with everything resolved that its execution environments need."""

    logical_id: str
    function_name: str
    handler: str
    runtime: str
    code_path: Path
    """Absolute. A folder, or a zip file that `CodeUri` names."""
    parent_package: tuple[str, ...] = ()
    """The folder's place in the task root: ("functions", "naive") for functions.naive.app.handler built with
    ParentPackageMode. Empty: the folder is the task root."""
    inline_code: str | None = None
    """Text of InlineCode; it becomes index.py (or index.js) in an otherwise empty task root."""
    built: bool = False
    """The code is what `sam build` left: dependencies inside, packages in place."""
    dependencies: Path | None = None
    """Folder with what its requirements file asks for; None: packages of the emulator's own environment meet it."""
    layers: tuple[LayerConfig, ...] = ()
    memory_mb: int = 128
    timeout_s: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)
    reserved_concurrency: int | None = None
    architectures: tuple[str, ...] = ("x86_64",)
    tracing: bool = False
    log_format: str = "Text"
    application_log_level: str | None = None
    system_log_level: str | None = None
    log_group: str | None = None
    ephemeral_storage_mb: int = 512
    snap_start: bool = False
    provisioned_concurrency: int | None = None
    max_concurrency: int | None = None
    """Managed Instances: invocations an environment runs at once (PerExecutionEnvironmentMaxConcurrency); None: it has none."""
    auto_publish_alias: str | None = None
    event_invoke_config: EventInvokeConfig | None = None
    dead_letter_arn: str | None = None
    function_url: FunctionUrlConfig | None = None
    package_type: str = "Zip"
    not_runnable: str | None = None
    """Why no machine can run it from this template (image, code in S3, no code), else None. Whether *this* machine
    has the runtime is for the Lambda service to say."""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """One route of an API, and the function that integrates it."""

    method: str
    """GET, POST ... or ANY."""
    path: str
    """/products/{id}, /files/{proxy+}, or $default."""
    function: str
    """Logical id; empty where `integration` is something else."""
    payload_format: PayloadFormat = "2.0"
    authorizer: str | None = None
    scopes: tuple[str, ...] = ()
    integration: Integration | None = None
    """None: the function."""
    api_key_required: bool = False
    validation: RequestValidation | None = None
    """REST APIs only."""
    mapping: ParameterMapping | None = None
    """HTTP APIs only."""
    timeout_ms: int = 30_000
    line: int = 0
    key: str = field(init=False, repr=False, compare=False)
    """As events and settings name it; written once, because every request asks for it more than once."""

    def __post_init__(self) -> None:
        key = self.path if self.path == "$default" else f"{self.method} {self.path}"
        object.__setattr__(self, "key", key)


@dataclass(frozen=True, slots=True)
class JwtAuthorizer:
    """A JWT authorizer of an HTTP API, or a REST API's Cognito user pool."""

    name: str
    issuer: str
    """Empty: any (a user pool whose ARN has no local value)."""
    audience: tuple[str, ...]
    identity_source: str = "$request.header.Authorization"
    scopes: tuple[str, ...] = ()
    """Scopes every route of this authorizer wants; a route's own win."""


@dataclass(frozen=True, slots=True)
class LambdaAuthorizer:
    name: str
    function: str | None
    """Logical id, or None when the template names a function that is not in it."""
    kind: Literal["request", "token"] = "request"
    identity_sources: tuple[str, ...] = ()
    """$request.header.X, $request.querystring.X, $context.X, $stageVariables.X."""
    payload_format: PayloadFormat = "2.0"
    simple_responses: bool = False
    ttl_s: int = 0
    validation_expression: str | None = None


@dataclass(frozen=True, slots=True)
class UnsupportedAuthorizer:
    """An authorizer that is read but cannot be enforced here: IAM."""

    name: str
    what: str


Authorizer = JwtAuthorizer | LambdaAuthorizer | UnsupportedAuthorizer


@dataclass(frozen=True, slots=True)
class Throttle:
    rate_per_s: float | None = None
    burst: int | None = None


@dataclass(frozen=True, slots=True)
class Api:
    """One HTTP API, REST API or function URL with its routes."""

    logical_id: str
    kind: ApiKind
    name: str
    stage: str = "$default"
    routes: tuple[Route, ...] = ()
    cors: CorsConfig | None = None
    authorizers: Mapping[str, Authorizer] = field(default_factory=dict)
    stage_variables: Mapping[str, str] = field(default_factory=dict)
    throttle: Throttle | None = None
    route_throttles: Mapping[str, Throttle] = field(default_factory=dict)
    binary_media_types: tuple[str, ...] = ()
    access_log_format: str = ""
    """With its $context variables; empty: no access log."""
    """REST only: the media types that travel as base64."""
    preflight_authorizer: str | None = None
    """REST only: the authorizer that SAM puts in front of the OPTIONS methods it adds for Cors."""
    api_key_source: Literal["HEADER", "AUTHORIZER"] = "HEADER"
    usage_plans: tuple[UsagePlan, ...] = ()
    gateway_responses: Mapping[str, GatewayResponse] = field(default_factory=dict)
    """REST only: by response type, such as UNAUTHORIZED or DEFAULT_4XX."""
    line: int = 0


@dataclass(frozen=True, slots=True)
class ScheduleSource:
    """A function started by the clock: `rate(5 minutes)`, `cron(...)` or `at(...)`."""

    function: str
    event: str
    expression: str
    name: str
    enabled: bool = True
    input: str | None = None
    """The event's JSON as text; None: EventBridge's own scheduled event."""
    scheduler: bool = False
    """ScheduleV2 (EventBridge Scheduler) rather than a rule."""
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class SqsSource:
    """A function that a queue feeds."""

    function: str
    event: str
    queue_arn: str
    queue_name: str
    batch_size: int = 10
    batching_window_s: int = 0
    enabled: bool = True
    report_batch_item_failures: bool = False
    maximum_concurrency: int | None = None
    filter_patterns: tuple[str, ...] = ()


EventSource = ScheduleSource | SqsSource


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """An AWS::SQS::Queue of the template, for the local AWS to make."""

    logical_id: str
    name: str
    arn: str
    fifo: bool = False
    visibility_timeout_s: int = 30
    delay_s: int = 0
    retention_s: int = 345_600
    dead_letter_arn: str | None = None
    max_receive_count: int | None = None


@dataclass(frozen=True, slots=True)
class Unserved:
    """Something of a template that the emulator does not do as AWS would."""

    where: str
    """Logical id, with the property or event that it is about."""
    what: str
    instead: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Template:
    """Everything the emulator takes from one template."""

    path: Path
    functions: Mapping[str, FunctionConfig]
    """By logical id, in the template's order."""
    apis: tuple[Api, ...]
    event_sources: tuple[EventSource, ...]
    queues: Mapping[str, QueueConfig]
    parameters: Mapping[str, str]
    resource_types: Mapping[str, str]
    """Logical id -> CloudFormation type, of every resource whose condition holds."""
    warnings: tuple[str, ...]
    problems: tuple[str, ...] = ()
    """Mistakes that CloudFormation would refuse, each with its line. What they concern is not served; the rest is."""
    unserved: tuple[Unserved, ...] = ()
    """Properties and events that are not served; resource types come from `emulator.unserved`."""
    nested_types: Mapping[str, str] = field(default_factory=dict)
    """The same of nested stacks, whose resources are not made."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Logical id -> line."""
    set_up: tuple[SetUpCall, ...] = ()
    """Invocations that prepare the data, in order; they run once for each data directory."""

    def function_named(self, name: str) -> FunctionConfig | None:
        """By logical id or function name, as SAM CLI and the Invoke API address functions."""
        if (function := self.functions.get(name)) is not None:
            return function
        return next((f for f in self.functions.values() if f.function_name == name), None)
