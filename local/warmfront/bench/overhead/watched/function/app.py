"""Two handlers that do nothing: one says nothing either, one prints the line of metrics that a shop's handler prints."""

import json
import time
import typing

ANSWER = {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": '{"hello":"world"}'}
NAMES = ("Latency", "ConnectionsOpen", "ConnectionBudget", "AcquireWait")
METRICS = [{"Name": name, "Unit": "Milliseconds" if name in ("Latency", "AcquireWait") else "Count"} for name in NAMES]
DIRECTIVE = {"Namespace": "Cost", "Dimensions": [["service"]], "Metrics": METRICS}


def silent(event: object, context: object) -> dict[str, typing.Any]:  # noqa: ARG001
    return ANSWER


def measuring(event: object, context: object) -> dict[str, typing.Any]:  # noqa: ARG001
    values = {"service": "cost", "Latency": [1.5], "ConnectionsOpen": [1], "ConnectionBudget": [90], "AcquireWait": [0]}
    about = {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [DIRECTIVE]}
    print(json.dumps({"_aws": about, **values}, separators=(",", ":")))
    return ANSWER
