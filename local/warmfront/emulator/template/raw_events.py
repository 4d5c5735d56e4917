"""Adds to functions what other resources of plain CloudFormation say of them: URLs, event sources, schedules."""

from typing import Any

from warmfront.emulator.template.raw_references import RawResources
from warmfront.emulator.template.source import Node

_MAPPING_KEYS = (
    "BatchSize",
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "Enabled",
    "FilterCriteria",
    "FunctionResponseTypes",
    "MaximumBatchingWindowInSeconds",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "ParallelizationFactor",
    "ScalingConfig",
    "StartingPosition",
    "StartingPositionTimestamp",
    "TumblingWindowInSeconds",
)
_STREAM_KINDS = {":sqs:": ("SQS", "Queue"), ":kinesis:": ("Kinesis", "Stream"), ":dynamodb:": ("DynamoDB", "Stream")}
_FUNCTIONS = ("AWS::Serverless::Function", "AWS::Lambda::Function")


def with_raw_events(raw: RawResources) -> dict[str, tuple[Node, Node]]:
    """The resources, with functions whose properties hold the events and URL that other resources give them."""
    changed: dict[str, Node] = {}
    for name, (resource, properties) in raw.resources.items():
        kind = resource.get("Type")
        if kind == "AWS::Lambda::Url":
            raw.resolver.attempt(_add_url, raw, changed, name, properties)
        elif kind == "AWS::Lambda::EventInvokeConfig":
            raw.resolver.attempt(_add_invoke_config, raw, changed, properties)
        elif kind == "AWS::Lambda::EventSourceMapping":
            raw.resolver.attempt(_add_mapping, raw, changed, name, properties)
        elif kind == "AWS::Events::Rule":
            raw.resolver.attempt(_add_rule, raw, changed, name, properties)
        elif kind == "AWS::Scheduler::Schedule":
            raw.resolver.attempt(_add_schedule, raw, changed, name, properties)
    return {name: (resource, changed.get(name, own)) for name, (resource, own) in raw.resources.items()}


def _function(raw: RawResources, value: Any) -> str | None:
    """The logical id of the function that a value refers to, also through one of its aliases or versions."""
    for name in raw.referenced(value):
        kind = raw.resources[name][0].get("Type")
        if kind in _FUNCTIONS:
            return name
        if kind in ("AWS::Lambda::Alias", "AWS::Lambda::Version"):
            return _function(raw, raw.properties(name).get("FunctionName"))
    resolved = str(raw.resolver.resolve(value)) if value is not None else ""
    own = resolved.rpartition(":function:")[2].split(":")[0] or resolved
    functions = [name for name, (resource, _) in raw.resources.items() if resource.get("Type") in _FUNCTIONS]
    return next((name for name in functions if own in (name, raw.resolver.physical_name(name))), None)


def _own(raw: RawResources, changed: dict[str, Node], function: str) -> Node:
    """A copy of a function's properties that may be added to."""
    if function not in changed:
        before = raw.properties(function)
        changed[function] = Node(before, line=before.line, lines=dict(before.lines))
    return changed[function]


def _add_event(raw: RawResources, changed: dict[str, Node], function: str, name: str, event: Node) -> None:
    own = _own(raw, changed, function)
    before = own.get("Events")
    before = before if isinstance(before, Node) else Node(line=event.line)
    events = Node(before, line=before.line, lines=dict(before.lines))
    events[name] = event
    events.lines[name] = event.line
    own["Events"] = events


def _event(kind: str, properties: Node) -> Node:
    return Node({"Type": kind, "Properties": properties}, line=properties.line)


def _add_url(raw: RawResources, changed: dict[str, Node], name: str, properties: Node) -> None:
    function = _function(raw, properties.get("TargetFunctionArn"))
    if function is None:
        raw.resolver.warn(f"{name}: its TargetFunctionArn names no function of this template", properties.line)
        return
    config = Node({key: properties[key] for key in ("AuthType", "InvokeMode", "Cors") if key in properties})
    config.line = properties.line
    _own(raw, changed, function)["FunctionUrlConfig"] = config


def _add_invoke_config(raw: RawResources, changed: dict[str, Node], properties: Node) -> None:
    function = _function(raw, properties.get("FunctionName"))
    if function is not None:
        _own(raw, changed, function)["EventInvokeConfig"] = properties


def _add_mapping(raw: RawResources, changed: dict[str, Node], name: str, properties: Node) -> None:
    function = _function(raw, properties.get("FunctionName"))
    arn = str(raw.resolver.resolve(properties.get("EventSourceArn", "")))
    kind = next((each for part, each in _STREAM_KINDS.items() if part in arn), None)
    if kind is None:
        kind = next(
            (each for each in map(_stream_of(raw), raw.referenced(properties.get("EventSourceArn"))) if each), None
        )
    if function is None or kind is None:
        what = "function" if function is None else "queue or stream"
        raw.resolver.warn(f"{name}: it names no {what} of this template, so it feeds nothing", properties.line)
        return
    event = Node({key: properties[key] for key in _MAPPING_KEYS if key in properties}, line=properties.line)
    event[kind[1]] = properties["EventSourceArn"]
    _add_event(raw, changed, function, name, _event(kind[0], event))


def _stream_of(raw: RawResources) -> Any:
    kinds = {
        "AWS::SQS::Queue": _STREAM_KINDS[":sqs:"],
        "AWS::Kinesis::Stream": _STREAM_KINDS[":kinesis:"],
        "AWS::DynamoDB::Table": _STREAM_KINDS[":dynamodb:"],
    }
    return lambda name: kinds.get(str(raw.resources[name][0].get("Type")))


def _add_rule(raw: RawResources, changed: dict[str, Node], name: str, properties: Node) -> None:
    for number, target in enumerate(properties.get("Targets") or ()):
        if not isinstance(target, Node):
            continue
        function = _function(raw, target.get("Arn"))
        if function is None:
            continue
        event_name = name if not number else f"{name}{number}"
        common = {key: target[key] for key in ("Input", "InputPath") if key in target}
        if "State" in properties:
            common["State"] = properties["State"]
        if "ScheduleExpression" in properties:
            own = Node({"Schedule": properties["ScheduleExpression"], **common}, line=properties.line)
            if "Name" in properties:
                own["Name"] = properties["Name"]
            _add_event(raw, changed, function, event_name, _event("Schedule", own))
        else:
            own = Node({"Pattern": properties.get("EventPattern"), **common}, line=properties.line)
            if "EventBusName" in properties:
                own["EventBusName"] = properties["EventBusName"]
            _add_event(raw, changed, function, event_name, _event("EventBridgeRule", own))


def _add_schedule(raw: RawResources, changed: dict[str, Node], name: str, properties: Node) -> None:
    target = properties.get("Target")
    function = _function(raw, target.get("Arn")) if isinstance(target, Node) else None
    if function is None or not isinstance(target, Node):
        return
    keys = ("ScheduleExpression", "ScheduleExpressionTimezone", "State", "Name")
    own = Node({key: properties[key] for key in keys if key in properties}, line=properties.line)
    if "Input" in target:
        own["Input"] = target["Input"]
    _add_event(raw, changed, function, name, _event("ScheduleV2", own))
