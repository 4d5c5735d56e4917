"""The handler behind every golden case: it does what the case named in the request's x-golden-case header says.

GOLDEN_CASES is the folder of the cases' JSON files.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def handler(event: dict[str, Any], context: object) -> object:  # noqa: ARG001 - Lambda's signature
    case = _case(event)
    spec = case.get("authorizer" if "methodArn" in event or "routeArn" in event else "handler", {})
    if "sleeps_s" in spec:
        time.sleep(spec["sleeps_s"])
    if "exits" in spec:
        sys.stdout.flush()
        os._exit(spec["exits"])
    if "raises" in spec:
        raise Exception(spec["raises"])
    if "body_bytes" in spec:
        return {"statusCode": 200, "body": "x" * spec["body_bytes"]}
    return spec.get("returns", {"statusCode": 200, "body": json.dumps(event)})


def _case(event: dict[str, Any]) -> dict[str, Any]:
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    wanted = headers.get("x-golden-case")
    for path in sorted(Path(os.environ["GOLDEN_CASES"]).glob("*.json")):
        for case in json.loads(path.read_text()):
            if case["id"] == wanted:
                return dict(case)
    return {}
