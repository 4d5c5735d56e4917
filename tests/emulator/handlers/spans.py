"""Tells when it ran, on the clock that all processes share."""

import time
from typing import Any


def handler(event: Any, context: Any) -> Any:
    start_ns = time.monotonic_ns()
    time.sleep(event)
    return {"start_ns": start_ns, "end_ns": time.monotonic_ns()}
