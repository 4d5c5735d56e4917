"""Handlers that look at and write to the folders of Lambda."""

import os
import sys
import traceback
from typing import Any

left = None
"""Written at import: part of a snapshot."""
if os.environ.get("LEAVE_AT_INIT"):
    with open("/tmp/from_init", "w", encoding="utf-8") as _file:
        _file.write("left")


def attempt(path: str, size: int = 1) -> str:
    """`written`, or why not."""
    try:
        with open(path, "wb") as file:
            file.write(b"x" * size)
    except OSError as error:
        return type(error).__name__ + ": " + (error.strerror or "")
    return "written"


def handler(event: Any, context: Any) -> Any:
    if event.get("exit"):
        os._exit(1)
    return {
        "cwd": os.getcwd(),
        "task": sorted(name for name in os.listdir("/var/task") if name != "__pycache__"),
        "opt": sorted(os.listdir("/opt")),
        "tmp": sorted(os.listdir("/tmp")),
        "written": {path: attempt(path, size) for path, size in event.get("write", {}).items()},
        "file": __file__,
        "path": sys.path,
        "variables": {name: value for name, value in os.environ.items() if "TMP" in name or "WARMFRONT" in name},
        "capabilities": next(line for line in open("/proc/self/status") if line.startswith("CapEff")).split()[1],
    }


def read_layer(event: Any, context: Any) -> Any:
    import overlap  # type: ignore[import-not-found]

    return [overlap.WHERE, overlap.__file__, sorted(os.listdir("/opt/python"))]


def fail(event: Any, context: Any) -> Any:
    raise ValueError("failed")


def trace(event: Any, context: Any) -> Any:
    return traceback.format_stack()[-1]
