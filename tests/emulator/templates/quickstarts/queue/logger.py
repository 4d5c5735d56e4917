"""Logs what it is sent."""

import json
from typing import Any


def handler(event: Any, context: Any) -> Any:
    print(json.dumps({"received": [record["body"] for record in event.get("Records", [])]}))
