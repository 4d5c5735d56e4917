"""A function with the metrics of a pool and a breaker that moves, and one that fails. Standard library only."""

import json
import time
from typing import Any

METRICS = ("ConnectionsOpen", "ConnectionBudget", "AcquireWait", "CircuitRejected")


def items(event: Any, context: Any) -> Any:
    if event.get("circuit"):
        move = {"circuit": "database", "from_state": "closed", "to_state": event["circuit"], "reason": "failure_rate"}
        print(json.dumps({"level": "WARNING", "message": "circuit moved", "service": "items", **move}))
    directive = {
        "Namespace": "Tests",
        "Dimensions": [["service"]],
        "Metrics": [{"Name": name, "Unit": "Count"} for name in METRICS],
    }
    values = {
        "service": "items",
        "ConnectionsOpen": 3,
        "ConnectionBudget": 12,
        "AcquireWait": 0.4,
        "CircuitRejected": 0,
    }
    print(json.dumps({"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}, **values}))
    return {"id": event.get("pathParameters", {}).get("id")}


def careless(event: Any, context: Any) -> Any:
    raise ValueError("<b>never thought of that</b>")
