"""Reads the events of functions: API routes, schedules and queues."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from warmfront.emulator.template.apis import ApiEvent
from warmfront.emulator.template.config import EventSource, QueueConfig, ScheduleSource, SqsSource
from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.source import Node, text
from warmfront.emulator.template.values import Resolver

_API_EVENTS: Final = {"Api": "rest", "HttpApi": "http"}
_SCHEDULES: Final = ("Schedule", "ScheduleV2")


def read_events(
    resolver: Resolver, logical_id: str, raw: Node, queues: Mapping[str, QueueConfig]
) -> tuple[list[ApiEvent], list[EventSource]]:
    """A function's events: those of APIs, and those the emulator's own event sources serve."""
    api_events: list[ApiEvent] = []
    sources: list[EventSource | None] = []
    for name, kind, properties in _events(resolver, logical_id, raw):
        if kind in _API_EVENTS:
            api_events.append(ApiEvent(logical_id, name, "rest" if kind == "Api" else "http", properties))
        elif kind in _SCHEDULES:
            sources.append(resolver.attempt(_schedule, logical_id, name, kind, properties))
        elif kind == "SQS":
            sources.append(resolver.attempt(_sqs, logical_id, name, properties, queues))
    return api_events, [source for source in sources if source is not None]


def _events(resolver: Resolver, logical_id: str, raw: Node) -> Iterator[tuple[str, str, Properties]]:
    section = resolver.attempt(Properties(raw, resolver, logical_id).section, "Events")
    for name in section.raw if section is not None else ():
        event = resolver.attempt(_event, section, name, f"{logical_id}: event {name}") if section is not None else None
        if event is not None:
            yield name, *event


def _event(section: Properties, name: str, owner: str) -> tuple[str, Properties] | None:
    """The event's type and properties; None where Fn::If leaves it out."""
    event = section.section(name)
    if not event.raw:
        return None
    properties = Properties(event.section("Properties").raw, section.resolver, owner)
    if not properties.raw.line:
        properties.raw.line = event.raw.line
    return event.text("Type"), properties


def _schedule(function: str, name: str, kind: str, properties: Properties) -> ScheduleSource:
    v2 = kind == "ScheduleV2"
    expression = properties.text("ScheduleExpression" if v2 else "Schedule")
    if not expression:
        raise properties.error("ScheduleExpression" if v2 else "Schedule", "is missing")
    enabled = properties.boolean("Enabled", True) and properties.text("State", "ENABLED") != "DISABLED"
    return ScheduleSource(
        function=function,
        event=name,
        expression=expression,
        name=properties.text("Name", f"{function}{name}"),
        enabled=enabled,
        input=properties.optional_text("Input"),
        scheduler=v2,
        timezone=properties.optional_text("ScheduleExpressionTimezone"),
    )


def _sqs(function: str, name: str, properties: Properties, queues: Mapping[str, QueueConfig]) -> SqsSource:
    arn = properties.text("Queue")
    if not arn:
        raise properties.error("Queue", "is missing")
    queue = next((queue for queue in queues.values() if queue.arn == arn), None)
    return SqsSource(
        function=function,
        event=name,
        queue_arn=arn,
        queue_name=queue.name if queue else arn.rsplit(":", 1)[-1],
        batch_size=properties.integer("BatchSize", 10),
        batching_window_s=properties.integer("MaximumBatchingWindowInSeconds", 0),
        enabled=properties.boolean("Enabled", True),
        report_batch_item_failures="ReportBatchItemFailures" in properties.texts("FunctionResponseTypes"),
        maximum_concurrency=properties.section("ScalingConfig").optional_integer("MaximumConcurrency"),
        filter_patterns=_filter_patterns(properties),
    )


def _filter_patterns(properties: Properties) -> tuple[str, ...]:
    filters = properties.section("FilterCriteria").get("Filters")
    patterns: list[Any] = [entry.get("Pattern", "") for entry in filters or () if isinstance(entry, dict)]
    return tuple(pattern if isinstance(pattern, str) else json.dumps(pattern) for pattern in patterns)


def read_queue(resolver: Resolver, logical_id: str, resource: Node) -> QueueConfig:
    properties = Properties(resource.get("Properties"), resolver, logical_id)
    redrive = _redrive_policy(properties)
    count = text(redrive.get("maxReceiveCount"))
    if count and not count.isdigit():
        raise properties.error("RedrivePolicy", f"has maxReceiveCount {count}, which is no whole number")
    name = resolver.physical_name(logical_id, resource.line)
    fifo = properties.boolean("FifoQueue")
    return QueueConfig(
        logical_id=logical_id,
        name=name,
        arn=resolver.arn(logical_id, "AWS::SQS::Queue", resource.line),
        fifo=fifo,
        visibility_timeout_s=properties.integer("VisibilityTimeout", 30),
        delay_s=properties.integer("DelaySeconds", 0),
        retention_s=properties.integer("MessageRetentionPeriod", 345_600),
        dead_letter_arn=text(redrive.get("deadLetterTargetArn")) or None,
        max_receive_count=int(count) if count else None,
    )


def _redrive_policy(properties: Properties) -> Mapping[str, Any]:
    """A mapping, or JSON text of one: CloudFormation takes both."""
    policy: Any = properties.get("RedrivePolicy") or {}
    if isinstance(policy, str):
        try:
            policy = json.loads(policy)
        except ValueError as error:
            raise properties.error("RedrivePolicy", f"is not valid JSON: {error}") from None
    if not isinstance(policy, dict):
        raise properties.error("RedrivePolicy", "must be a mapping with deadLetterTargetArn and maxReceiveCount")
    return policy
