"""The only part that knows SAM and CloudFormation: template.yaml in, frozen data out. Starts nothing."""

from warmfront.emulator.template.config import (
    Api,
    ApiKind,
    Authorizer,
    CorsConfig,
    Destination,
    EventInvokeConfig,
    EventSource,
    FunctionConfig,
    FunctionUrlConfig,
    JwtAuthorizer,
    LambdaAuthorizer,
    LayerConfig,
    QueueConfig,
    Route,
    ScheduleSource,
    SetUpCall,
    SqsSource,
    Template,
    Throttle,
    UnsupportedAuthorizer,
)
from warmfront.emulator.template.reader import load_template
from warmfront.emulator.template.samconfig import parse_parameter_overrides, read_parameter_overrides
from warmfront.emulator.template.source import TemplateError
from warmfront.emulator.template.values import ACCOUNT_ID, api_id

__all__ = [
    "ACCOUNT_ID",
    "Api",
    "ApiKind",
    "Authorizer",
    "CorsConfig",
    "Destination",
    "EventInvokeConfig",
    "EventSource",
    "FunctionConfig",
    "FunctionUrlConfig",
    "JwtAuthorizer",
    "LambdaAuthorizer",
    "LayerConfig",
    "QueueConfig",
    "Route",
    "ScheduleSource",
    "SetUpCall",
    "SqsSource",
    "Template",
    "TemplateError",
    "Throttle",
    "UnsupportedAuthorizer",
    "api_id",
    "load_template",
    "parse_parameter_overrides",
    "read_parameter_overrides",
]
