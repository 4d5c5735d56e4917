"""The watched template served, and what a test reads of it over HTTP."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.emulator.harness import PATIENCE_S
from tests.emulator.serving import Served

TEMPLATE = Path(__file__).parent / "templates/watched/template.yaml"


def ask(served: Served, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, str], str]:
    """Status, headers in lower case, body; an error status is an answer."""
    request = urllib.request.Request(served.url + path, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return (
                answer.status,
                {name.lower(): value for name, value in answer.headers.items()},
                answer.read().decode(),
            )
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read().decode()


def trace_of(served: Served, answer_headers: Mapping[str, str]) -> dict[str, Any]:
    root = answer_headers["x-amzn-trace-id"].partition("Root=")[2].partition(";")[0]
    found: dict[str, Any] = json.loads(ask(served, f"/_warmfront/traces/{root}")[2])
    return found
