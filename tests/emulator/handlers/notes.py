"""Writes every event it gets into a file, one line each; raises where the event says so."""

import json
import os
from typing import Any


def append(event: Any, context: Any) -> Any:
    with open(os.environ["NOTES"], "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, "request_id": context.aws_request_id}) + "\n")
    if isinstance(event, dict) and event.get("fail"):
        raise ValueError(event["fail"])
    return "noted"
