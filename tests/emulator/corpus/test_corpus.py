"""Templates of the shapes that people have: each starts as it is and does what its try.json expects, step by step.

Steps: `request` (method and path below the first API), `invoke` (a function), `later`
(the same, asynchronously), `call` (a boto3 call to the local AWS),
`log` (a line that appears, `not`: one that has not), `table` (a line of the start table). `answer` is what the answer
must hold at least; in it, a string stands for a part of the text.
"""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.emulator.harness import PATIENCE_S
from tests.emulator.serving import CREDENTIALS, Served, serve

CORPUS = sorted(path.parent for path in Path(__file__).parent.glob("*/try.json"))


def holds(found: Any, wanted: Any) -> bool:
    """Whether `found` has everything of `wanted`."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(key in found and holds(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, str):
        return isinstance(found, str) and wanted in found
    return bool(found == wanted)


class Trial:
    """Runs the steps of one template."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.kept: dict[str, Any] = {}

    def run(self, step: dict[str, Any]) -> None:
        kind = next(iter(set(step) & {"request", "invoke", "later", "call", "log", "table"}))
        getattr(self, kind)(step)

    def request(self, step: dict[str, Any]) -> None:
        method, path = step["request"]
        body = json.dumps(step["body"]).encode() if "body" in step else None
        headers = {"content-type": "application/json", **step.get("headers", {})}
        request = urllib.request.Request(self.served.url + path, data=body, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
            error.close()
        assert status == step.get("status", 200), text
        if "answer" in step:
            assert holds(json.loads(text), step["answer"]), text

    def invoke(self, step: dict[str, Any]) -> None:
        answer = self.served.client().invoke(FunctionName=step["invoke"], Payload=json.dumps(step["event"]))
        payload = json.load(answer["Payload"])
        assert "FunctionError" not in answer, payload
        assert holds(payload, step.get("answer", {})), payload
        if "keep" in step:
            self.kept[step["keep"]] = payload
        if "same" in step:
            assert payload == self.kept[step["same"]]
        if "other" in step:
            assert payload != self.kept[step["other"]]

    def later(self, step: dict[str, Any]) -> None:
        event = json.dumps(step["event"])
        self.served.client().invoke(FunctionName=step["later"], InvocationType="Event", Payload=event)

    def call(self, step: dict[str, Any]) -> None:
        service, operation, parameters = step["call"]
        endpoint = f"http://127.0.0.1:{self.served.get('/_warmfront/state')['backing']['aws']['port']}"
        client = boto3.client(service, endpoint_url=endpoint, **CREDENTIALS)
        try:
            getattr(client, operation)(**json.loads(json.dumps(parameters).replace("ENDPOINT", endpoint)))
        finally:
            client.close()

    def log(self, step: dict[str, Any]) -> None:
        self.served.wait_for(step["log"])
        if "not" in step:
            assert not any(step["not"] in line for line in self.served.lines)

    def table(self, step: dict[str, Any]) -> None:
        assert self.served.wait_for(step["table"])


@pytest.mark.slow
@pytest.mark.parametrize("folder", CORPUS, ids=lambda folder: folder.name)
def test_a_template(folder: Path) -> None:
    template = next(path for path in sorted(folder.glob("template.*")) if path.suffix in (".yaml", ".yml", ".json"))
    with serve(template) as served:
        trial = Trial(served)
        for step in json.loads((folder / "try.json").read_text()):
            trial.run(step)
