"""Handlers that tell what they see around them."""

import importlib
import logging
import os
import resource
import sys
import tempfile
import threading
import time
from typing import Any

AT_IMPORT = dict(os.environ)


def environment(event: Any, context: Any) -> Any:
    return AT_IMPORT


def context_fields(event: Any, context: Any) -> Any:
    client = context.client_context
    return {
        "aws_request_id": context.aws_request_id,
        "function_name": context.function_name,
        "function_version": context.function_version,
        "invoked_function_arn": context.invoked_function_arn,
        "memory_limit_in_mb": context.memory_limit_in_mb,
        "log_group_name": context.log_group_name,
        "log_stream_name": context.log_stream_name,
        "identity": None if context.identity is None else context.identity.cognito_identity_id,
        "client_context": None if client is None else {"custom": client.custom, "env": client.env},
        "tenant_id": context.tenant_id,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "trace_id": os.environ.get("_X_AMZN_TRACE_ID"),
    }


def imports(event: Any, context: Any) -> Any:
    """Which of the named modules import, and from where."""
    found = {}
    for name in event:
        try:
            module = importlib.import_module(name)
            found[name] = getattr(module, "__file__", None) or "built in"
        except ImportError as error:
            found[name] = None if isinstance(error, ModuleNotFoundError) else repr(error)
    return found


def path(event: Any, context: Any) -> Any:
    return {"path": sys.path, "cwd": os.getcwd(), "argv": sys.argv, "prefix": sys.flags.safe_path}


def scratch(event: Any, context: Any) -> Any:
    """The environment's temporary folder and what earlier invocations left there."""
    folder = tempfile.gettempdir()
    before = sorted(os.listdir(folder))
    if event:
        with open(os.path.join(folder, event), "w", encoding="utf-8") as file:
            file.write("left")
    return {"folder": folder, "before": before}


def logs(event: Any, context: Any) -> Any:
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger().info("said %s", event)
    return None


ticks = 0


def _tick() -> None:
    global ticks
    while True:
        ticks += 1
        time.sleep(0.001)


def background(event: Any, context: Any) -> Any:
    """Starts a counting thread once; returns how far it is."""
    if not any(thread.name == "ticker" for thread in threading.enumerate()):
        threading.Thread(target=_tick, name="ticker", daemon=True).start()
        time.sleep(0.03)
    return ticks


def open_files_limit(event: Any, context: Any) -> Any:
    return resource.getrlimit(resource.RLIMIT_NOFILE)
