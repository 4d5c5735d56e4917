"""Lists the resources outside SAM's events that would start a function on AWS, and do not locally."""

from collections.abc import Iterator
from typing import Any

from warmfront.emulator.template.config import Unserved
from warmfront.emulator.template.parameters import MissingValue
from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.source import Node, text
from warmfront.emulator.template.support import BY_HAND
from warmfront.emulator.template.values import Resolver

_KINDS = {
    "AWS::SNS::Topic": "SNS subscriptions do not start functions",
    "AWS::SNS::Subscription": "SNS subscriptions do not start functions",
    "AWS::S3::Bucket": "S3 notifications do not start functions",
    "AWS::Cognito::UserPool": "Cognito does not call the functions of LambdaConfig",
    "AWS::Pipes::Pipe": "pipes do not start functions",
    "AWS::Logs::SubscriptionFilter": "log subscriptions do not start functions",
}


def unserved_triggers(resolver: Resolver, logical_id: str, kind: str, raw: Node) -> Iterator[Unserved]:
    """The resource, where it names a function to start. A mistake in it is a problem."""
    if kind not in _KINDS:
        return
    try:
        starts = resolver.attempt(_starts_function, kind, Properties(raw, resolver, logical_id))
    except MissingValue:  # no reason to end the start: no function's settings need the value
        return
    if starts:
        yield Unserved(logical_id, _KINDS[kind], BY_HAND, raw.line)


def _starts_function(kind: str, properties: Properties) -> bool:
    match kind:
        case "AWS::SNS::Topic":
            return any(_is_lambda(each) for each in _entries(properties.get("Subscription")))
        case "AWS::SNS::Subscription":
            return properties.text("Protocol") == "lambda"
        case "AWS::S3::Bucket":
            return bool(_entries(properties.section("NotificationConfiguration").get("LambdaConfigurations")))
        case "AWS::Cognito::UserPool":
            return bool(properties.section("LambdaConfig").raw)
        case "AWS::Pipes::Pipe":
            return ":function:" in properties.text("Target")
        case _:
            return ":function:" in properties.text("DestinationArn")


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_lambda(subscription: Any) -> bool:
    return isinstance(subscription, dict) and text(subscription.get("Protocol")) == "lambda"
