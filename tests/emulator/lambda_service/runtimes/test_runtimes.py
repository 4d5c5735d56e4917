"""Where code comes from and what runs it: inline code, zip files, `provided` with a bootstrap of its own, and what cannot run here."""

import stat
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from warmfront.emulator.lambda_service.environments.staging import StagingError
from warmfront.emulator.lambda_service.types import NotRunnable
from warmfront.emulator.template import LayerConfig

from tests.emulator.harness import Harness, function, running

BOOTSTRAP = f"""#!{sys.executable} -S
# A runtime of somebody's own: a loop over the Runtime API with nothing but the standard library.
import http.client, json, os, sys

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
print("own runtime begins", flush=True)
while True:
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = connection.getresponse()
    event = json.loads(answer.read())
    request_id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    print("own runtime got", event, flush=True)
    kind, body = "response", {{"event": event, "handler": os.environ["_HANDLER"], "variables": sorted(os.environ), "cwd": os.getcwd()}}
    if event == "error":
        kind, body = "error", {{"errorMessage": "refused", "errorType": "Own.Error"}}
    connection.request("POST", f"/2018-06-01/runtime/invocation/{{request_id}}/{{kind}}", json.dumps(body))
    connection.getresponse().read()
"""

TWO_CONNECTIONS = BOOTSTRAP.replace("connection = ", "other = ", 1).replace(
    "while True:", "connection = http.client.HTTPConnection(other.host, other.port)\nwhile True:"
)
TWO_CONNECTIONS = TWO_CONNECTIONS.replace('connection.request("POST"', 'other.request("POST"').replace(
    "connection.getresponse().read()", "other.getresponse().read()"
)


NEVER_READS = f"""#!{sys.executable} -S
# Asks for its event and reads nothing of it.
import os, socket, time

host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")
connection = socket.create_connection((host, int(port)))
connection.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
time.sleep(600)
"""
NEVER_ASKS = f"""#!{sys.executable} -S
import time
time.sleep(600)
"""


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("code")
    executable(root / "own/bootstrap", BOOTSTRAP)
    executable(root / "layer/bootstrap", BOOTSTRAP)
    executable(root / "two/bootstrap", TWO_CONNECTIONS)
    executable(root / "never-reads/bootstrap", NEVER_READS)
    executable(root / "never-asks/bootstrap", NEVER_ASKS)
    (root / "empty").mkdir()
    (root / "foreign").mkdir()
    executable(root / "foreign/bootstrap", "\x7fELF is not what follows")
    (root / "not-executable").mkdir()
    (root / "not-executable/bootstrap").write_text(BOOTSTRAP)
    with zipfile.ZipFile(root / "python.zip", "w") as archive:
        archive.writestr("app.py", "from inside import WORD\n\n\ndef handler(event, context):\n    return WORD\n")
        archive.writestr("inside/__init__.py", "WORD = 'zipped'\n")
    with zipfile.ZipFile(root / "own.zip", "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = (stat.S_IFREG | 0o755) << 16
        archive.writestr(entry, BOOTSTRAP)
    (root / "broken.zip").write_bytes(b"not a zip file")
    return root


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, code: Path) -> Iterator[Harness]:
    own = {"runtime": "provided.al2023"}
    inline = "import json\n\n\ndef handler(event, context):\n    return {'inline': event}\n"
    functions = [
        function("inline", "index.handler", inline_code=inline),
        function("zipped", "app.handler", code_path=code / "python.zip"),
        function("own", "what.ever", code_path=code / "own", environment={"OWN": "1"}, **own),
        function("two", "what.ever", code_path=code / "two", **own),
        function("own_zip", "what.ever", code_path=code / "own.zip", **own),
        function("in_layer", "what.ever", code_path=code / "empty", layers=(LayerConfig("l", code / "layer"),), **own),
        function("never_reads", "what.ever", code_path=code / "never-reads", timeout_s=1, **own),
        function("never_asks", "what.ever", code_path=code / "never-asks", timeout_s=1, **own),
        function("foreign", "what.ever", code_path=code / "foreign", **own),
        function("no_bootstrap", "what.ever", code_path=code / "empty", **own),
        function("not_executable", "what.ever", code_path=code / "not-executable", **own),
        function("node", "index.handler", runtime="nodejs22.x"),
        function("image", "", runtime="", not_runnable="it is a container image"),
        function("older", "outcomes.echo", runtime="python3.9"),
        function("reserved", "surroundings.environment", environment={"AWS_REGION": "mars", "MINE": "1"}),
        function("path", "surroundings.imports", environment={"PYTHONPATH": str(code / "own")}),
    ]
    with running(tmp_path_factory.mktemp("runtimes"), *functions, init_limit_s=2.0) as harness:
        yield harness


def test_inline_code_is_index(service: Harness) -> None:
    assert service.invoke("inline", 1).payload == {"inline": 1}


def test_a_zip_file_is_unpacked(service: Harness) -> None:
    assert service.invoke("zipped").payload == "zipped"


@pytest.mark.parametrize("name", ["own", "own_zip", "in_layer"])
def test_a_bootstrap_file_runs_as_it_is(service: Harness, name: str) -> None:
    outcome = service.invoke(name, {"a": 1})
    assert outcome.payload["event"] == {"a": 1}
    assert outcome.payload["handler"] == "what.ever"
    assert "own runtime got {'a': 1}" in outcome.lines
    assert outcome.lines[0].startswith("INIT_START Runtime Version: provided:al2023.warmfront\t")
    assert outcome.cold
    assert not service.invoke(name).cold


def test_a_runtime_may_answer_over_another_connection_than_it_asks_by(service: Harness) -> None:
    """Clients with a pool of connections do: those of Go, of .NET, and whoever uses `fetch`."""
    assert [service.invoke("two", index).cold for index in range(3)] == [True, False, False]


def test_a_bootstrap_sees_lambdas_variables_and_nothing_of_the_emulators(service: Harness) -> None:
    variables = service.invoke("own").payload["variables"]
    assert {"LAMBDA_TASK_ROOT", "AWS_LAMBDA_RUNTIME_API", "OWN"} <= set(variables)
    assert "AWS_EXECUTION_ENV" not in variables
    assert not [name for name in variables if name.startswith("WARMFRONT")]


def test_an_error_of_a_runtime_of_ones_own_is_passed_on(service: Harness) -> None:
    outcome = service.invoke("own", "error")
    assert outcome.result.function_error == "Unhandled"
    assert outcome.payload == {"errorMessage": "refused", "errorType": "Own.Error"}


def test_a_bootstrap_that_will_not_start_is_an_invalid_entrypoint(service: Harness) -> None:
    outcome = service.invoke("foreign")
    assert outcome.payload["errorType"] == "Runtime.InvalidEntrypoint"
    assert outcome.payload["errorMessage"].startswith(f"RequestId: {outcome.result.request_id} Error: fork/exec ")
    assert outcome.report.endswith("\tStatus: error\tError Type: Runtime.InvalidEntrypoint")


def test_a_runtime_that_never_reads_its_event_times_out(service: Harness) -> None:
    outcome = service.invoke("never_reads", "x" * 5_000_000)
    assert outcome.payload["errorType"] == "Sandbox.Timedout"
    assert "\tDuration: 1000.00 ms\t" in outcome.report
    assert service.invoke("own", 1).payload["event"] == 1, "nobody else is held up"


def test_a_runtime_that_never_asks_for_an_event_times_out_in_its_init(service: Harness) -> None:
    outcome = service.invoke("never_asks")
    assert outcome.payload["errorType"] == "Sandbox.Timedout"
    assert [line.split("Phase: ")[1] for line in outcome.lines if line.startswith("INIT_REPORT")] == [
        "init\tStatus: timeout", "invoke\tStatus: timeout"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("node", "runtime nodejs22.x is not on this machine"),
        ("image", "it is a container image"),
        ("no_bootstrap", "no executable file `bootstrap`"),
        ("not_executable", "no executable file `bootstrap`"),
    ],
)
def test_what_cannot_run_here_is_listed_with_its_reason(service: Harness, name: str, reason: str) -> None:
    assert reason in service.service.not_runnable[name]
    with pytest.raises(NotRunnable, match=reason):
        service.invoke(name)


def test_another_python_is_warned_about_and_runs(service: Harness) -> None:
    assert service.invoke("older", 1).payload == 1
    assert any("older: python3.9 runs on this machine's python3" in text for text in service.service.warnings)


def test_reserved_variables_are_warned_about_and_keep_lambdas_value(service: Harness) -> None:
    seen = service.invoke("reserved").payload
    assert (seen["AWS_REGION"], seen["MINE"]) == ("us-east-1", "1")
    assert any("reserved: AWS_REGION" in text for text in service.service.warnings)


def test_a_python_path_of_the_templates_does_not_hide_the_runtime(service: Harness) -> None:
    assert service.invoke("path", ["boto3", "outcomes"]).payload["boto3"]


def test_a_broken_zip_file_is_named(code: Path, tmp_path: Path) -> None:
    broken = function("broken", "app.handler", code_path=code / "broken.zip")
    with (
        pytest.raises(StagingError, match=r"broken\.zip: File is not a zip file; CodeUri of broken"),
        running(tmp_path, broken),
    ):
        raise AssertionError("it must not start")
