"""What gateway tests share: one API of a few lines, and a service that answers what it is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from warmfront.emulator.lambda_service.types import InvocationResult
from warmfront.emulator.template import Template, load_template


class Recorder:
    """A Lambda service: answers with `result` and remembers what it was asked."""

    def __init__(self, result: object = None) -> None:
        self.result = result if result is not None else {"statusCode": 200, "body": "ok"}
        self.calls: list[tuple[str, dict[str, object]]] = []

    async def invoke(self, function: str, event: bytes, *, trace_id: str) -> InvocationResult:  # noqa: ARG002
        self.calls.append((function, json.loads(event)))
        return InvocationResult("r", json.dumps(self.result).encode(), "ok")


@pytest.fixture
def template(tmp_path: Path) -> Callable[[str], Template]:
    """Loads a template of functions A and B and what the test adds under Resources."""

    def load(resources: str, **globals_: str) -> Template:
        path = tmp_path / "template.yaml"
        shared = "".join(f"  {name}: {value}\n" for name, value in globals_.items())
        path.write_text(
            "Globals:\n  Function: {CodeUri: ./, Handler: a.b, Runtime: python3.13}\n"
            + shared
            + "Resources:\n"
            + resources
        )
        return load_template(path)

    return load
