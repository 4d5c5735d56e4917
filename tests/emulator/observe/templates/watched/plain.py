"""Functions that are well or ill, one way each: what alert rules are tried with. They print metrics by hand."""

import json
import os
import time

BUDGET = 10
METRICS = [{"Name": "ConnectionsOpen"}, {"Name": "ConnectionBudget"}]
DIRECTIVE = {"Namespace": "Fixture", "Dimensions": [["service"]], "Metrics": METRICS}
type Answer = dict[str, object]


def well(event: object, context: object) -> Answer:  # noqa: ARG001
    pool(1)
    return {"statusCode": 200, "body": "well"}


def slow(event: object, context: object) -> Answer:  # noqa: ARG001
    time.sleep(0.6)
    return {"statusCode": 200, "body": "slow"}


def failing(event: object, context: object) -> Answer:  # noqa: ARG001
    raise RuntimeError("as it was told")


def greedy(event: object, context: object) -> Answer:  # noqa: ARG001
    pool(BUDGET)
    return {"statusCode": 200, "body": os.environ.get("_X_AMZN_TRACE_ID", "")}


def pool(connections: int) -> None:
    about = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [DIRECTIVE]}
    print(json.dumps({"_aws": about, "service": "fixture", "ConnectionsOpen": connections, "ConnectionBudget": BUDGET}))
