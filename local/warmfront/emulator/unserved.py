"""Lists the parts of a template that the emulator does not serve, and what to use instead."""

import difflib
from collections.abc import Iterable
from typing import Final

from warmfront.emulator.resources.kinds import ONLY_PERMISSIONS, TRANSLATED, is_made
from warmfront.emulator.template import Template, Unserved

NAMES_SHOWN_MAX = 4
SERVED: Final = (
    "AWS::ApiGateway::",
    "AWS::ApiGatewayV2::",
    "AWS::Lambda::Alias",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Function",
    "AWS::Lambda::LayerVersion",
    "AWS::Lambda::Url",
    "AWS::Lambda::Version",
    "AWS::Serverless::Api",
    "AWS::Serverless::Application",
    "AWS::Serverless::Function",
    "AWS::Serverless::HttpApi",
    "AWS::Serverless::LayerVersion",
)
"""Types that the template reader serves, or says something of its own about."""
NOTHING: Final = (
    "AWS::AmazonMQ::",
    "AWS::AppConfig::",
    "AWS::ApplicationAutoScaling::",
    "AWS::Backup::",
    "AWS::Budgets::",
    "AWS::CDK::Metadata",
    "AWS::CertificateManager::",
    "AWS::CloudFormation::",
    "AWS::CloudFront::",
    "AWS::CloudTrail::",
    "AWS::CloudWatch::",
    "AWS::CodeBuild::",
    "AWS::CodeDeploy::",
    "AWS::CodePipeline::",
    "AWS::DocDB::",
    "AWS::EC2::",
    "AWS::EFS::",
    "AWS::ElastiCache::",
    "AWS::IAM::",
    "AWS::Lambda::CapacityProvider",
    "AWS::Lambda::CodeSigningConfig",
    "AWS::Lambda::LayerVersionPermission",
    "AWS::Lambda::Permission",
    "AWS::Logs::",
    "AWS::MSK::",
    "AWS::RDS::",
    "AWS::ResourceGroups::",
    "AWS::Route53::",
    "AWS::Serverless::CapacityProvider",
    "AWS::Serverless::Connector",
    "AWS::Serverless::NetworkConnector",
    "AWS::Signer::",
    "AWS::Synthetics::",
    "AWS::WAFv2::",
    "AWS::XRay::",
)
"""Network, permissions, monitoring, deployment, and servers that a URL or an environment variable names."""
_INSTEAD: Final = {
    "AWS::Serverless::WebSocketApi": ("WebSocket APIs are not served", "invoke the route's function with an event"),
    "AWS::Serverless::GraphQLApi": ("GraphQL APIs are not served", "invoke the resolver's function with an event"),
    "AWS::AppSync::": ("GraphQL APIs are not served", "invoke the resolver's function with an event"),
    "AWS::Serverless::WebFunction": ("web functions are not served", "run its web server by itself"),
    "AWS::Serverless::MicrovmImage": ("MicroVM images are not run", "test it on AWS"),
}
SAM: Final = "AWS::Serverless::"
KNOWN_TO_SAM: Final = tuple(each for each in (*SERVED, *NOTHING, *_INSTEAD, *TRANSLATED) if each.startswith(SAM))
_ELSE: Final = ("it has no local counterpart, and calls to it fail", "a fake in the handler's tests, or --aws real")


def unserved(template: Template) -> list[Unserved]:
    """Every resource, property and event of the template that is not served."""
    return [*_types(template), *template.unserved]


def grouped(found: Iterable[Unserved]) -> list[str]:
    """One line for everything that is not served for the same reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in found:
        groups.setdefault((each.what, each.instead), []).append(each.where)
    return [f"not served: {_names(names)}: {what}; instead: {instead}" for (what, instead), names in groups.items()]


def _names(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN_MAX
    shown = ", ".join(names[:NAMES_SHOWN_MAX])
    return f"{shown} and {more} more" if more > 0 else shown


def _types(template: Template) -> Iterable[Unserved]:
    for logical_id, kind in template.resource_types.items():
        if is_made(kind) or kind in ONLY_PERMISSIONS or kind.startswith((*SERVED, *NOTHING)) or _is_custom(kind):
            continue
        if kind.startswith(SAM) and not kind.startswith(KNOWN_TO_SAM):
            close = difflib.get_close_matches(kind, KNOWN_TO_SAM, 1)
            instead = f"{close[0]}, if that is meant" if close else "a type that SAM has"
            yield Unserved(f"{logical_id} ({kind})", "unknown type", instead, template.lines.get(logical_id, 0))
            continue
        what, instead = next((each for prefix, each in _INSTEAD.items() if kind.startswith(prefix)), _ELSE)
        yield Unserved(f"{logical_id} ({kind})", what, instead, template.lines.get(logical_id, 0))
    for where, kind in template.nested_types.items():
        if is_made(kind):
            yield Unserved(f"{where} ({kind})", "resources of nested stacks are not made", "declare it in the parent")


def _is_custom(kind: str) -> bool:
    """Custom resources run once, at deployment; the function behind one is served like any other."""
    return kind.startswith("Custom::") or kind == "AWS::CloudFormation::CustomResource"
