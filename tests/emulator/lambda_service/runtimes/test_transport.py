"""The transport under the runtime client: the same functions, calls and answers as the native module's, in one breath with `/next`."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from warmfront.emulator.lambda_service.environments import staging

from tests.emulator.harness import function, running

NEXT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n"
    b"Lambda-Runtime-Deadline-Ms: 1542409706888\r\n"
    b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:f\r\n"
    b"Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0\r\n"
    b"Lambda-Runtime-Client-Context: eyJhIjoxfQ==\r\nContent-Length: %d\r\n\r\n%b"
)
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
REFUSED = b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
SCRIPT = """
import json, sys
sys.path[0:0] = [sys.argv[1]]
import runtime_client
runtime_client.initialize_client("aws-lambda-python/3-test")
said = []
def call(function, *arguments):
    try:
        answer = function(*arguments)
    except Exception as error:
        answer = [type(error).__name__, str(error)]
    if isinstance(answer, tuple):  # the client asks for headers with `.get`: those without a value are as good as not there
        body, headers = answer
        answer = repr((body, sorted((name, value) for name, value in headers.items() if value is not None)))
    said.append(answer)
for name, arguments in json.load(sys.stdin):
    if name.startswith("post") and name != "post_error":
        arguments[1] = arguments[1].encode()
    call(getattr(runtime_client, name), *arguments)
print(json.dumps(said))
"""


class RuntimeApi:
    """A Runtime API that answers each call with the next of `answers`, in order, and keeps the calls."""

    def __init__(self, answers: list[bytes]) -> None:
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self._answers = list(answers)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        self._listening.settimeout(20)
        while self._answers:
            connection, _ = self._listening.accept()
            connection.settimeout(20)
            with connection, connection.makefile("rb") as stream:
                while self._answers and (line := stream.readline()):
                    headers = {}
                    while (header := stream.readline()) not in (b"\r\n", b""):
                        name, _, value = header.decode("latin-1").partition(":")
                        headers[name.lower()] = value.strip()
                    body = stream.read(int(headers.get("content-length", 0)))
                    self.calls.append((line.decode().strip(), headers, body))
                    connection.sendall(self._answers.pop(0))

    def close(self) -> None:
        self._thread.join(20)
        self._listening.close()


def transcript(folder: Path, calls: list[Any], answers: list[bytes]) -> tuple[Any, RuntimeApi]:
    """What the functions of the runtime_client in `folder` return or raise, and what was asked of the Runtime API."""
    api = RuntimeApi(answers)
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    environ = {"AWS_LAMBDA_RUNTIME_API": api.address, "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environ, input=json.dumps(calls), capture_output=True, text=True, timeout=30)
    api.close()
    assert done.returncode == 0, done.stderr
    *printed, said = done.stdout.splitlines()
    return [*json.loads(said), *(re.sub(r"\d{13}", "NOW", line) for line in printed)], api


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    ours = staging.stage_runtime(tmp_path / "ours", staging.Links(), native_client=False)
    native = staging.stage_runtime(tmp_path / "native", staging.Links(), native_client=True)
    return ours, native


CASES: dict[str, tuple[list[Any], list[bytes]]] = {
    "an event and its answer": (
        [["next", []], ["post_invocation_result", ["id-1", '{"a": "ü"}', "application/json", None]], ["next", []]],
        [NEXT % (2, b"{}"), ACCEPTED, NEXT % (8, b'{"b": 2}')],
    ),
    "a failure with its cause": (
        [["next", []], ["post_error", ["id-1", '{"errorType": "E"}', '{"cause": 1}', None]], ["next", []]],
        [NEXT % (2, b"{}"), ACCEPTED, NEXT % (2, b"{}")],
    ),
    "a large event and a large answer": (
        [["next", []], ["post_invocation_result", ["id-1", "y" * 200_000, "text/plain", None]], ["next", []]],
        [NEXT % (300_000, b"x" * 300_000), ACCEPTED, NEXT % (2, b"{}")],
    ),
    "a large answer that is refused": (
        [["next", []], ["post_invocation_result", ["id-1", "y" * 200_000, "application/json", None]], ["next", []]],
        [NEXT % (2, b"{}"), REFUSED, NEXT % (2, b"{}")],
    ),
    "receipts alike and one that differs": (
        [["next", []], *[["post_invocation_result", ["id-1", "{}", "application/json", None]], ["next", []]] * 4],
        [
            *[NEXT % (1, b"1"), ACCEPTED, NEXT % (1, b"2"), ACCEPTED, NEXT % (1, b"3")],
            *[
                ACCEPTED.replace(b"2\r\n\r\n{}", b'16\r\n\r\n{"status": "OK"}'),
                NEXT % (1, b"4"),
                ACCEPTED,
                NEXT % (1, b"5"),
            ],
        ],
    ),
    "an invocation that has an id of its own": (
        [["next", []], ["post_invocation_result", ["id-1", "{}", "application/json", "inv-7"]], ["next", []]],
        [NEXT % (2, b"{}"), ACCEPTED, NEXT % (2, b"{}")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_says_and_returns_what_the_native_module_does(case: str, folders: tuple[Path, Path]) -> None:
    ours, native = (transcript(folder, *CASES[case]) for folder in folders)
    assert ours[0] == native[0]
    assert [_essence(call) for call in ours[1].calls] == [_essence(call) for call in native[1].calls]


def _essence(call: tuple[str, dict[str, str], bytes]) -> tuple[str, dict[str, str], bytes]:
    line, headers, body = call
    return line, {name: value for name, value in headers.items() if name not in ("host", "accept")}, body


def test_the_answer_goes_out_in_one_write_with_the_request_for_the_next_event(folders: tuple[Path, Path]) -> None:
    held_back = [NEXT % (2, b"{}"), b"", ACCEPTED + NEXT % (7, b'"again"')]  # no receipt before the next call is there
    calls = [["next", []], ["post_invocation_result", ["id-1", "{}", "application/json", None]], ["next", []]]
    said, _ = transcript(folders[0], calls, held_back)
    assert said[1] is None
    assert "again" in said[2]


def test_a_runtime_api_that_hangs_up_ends_the_wait(folders: tuple[Path, Path]) -> None:
    said, _ = transcript(folders[0], [["next", []], ["next", []]], [NEXT % (2, b"{}")])
    assert said[1] == ["RuntimeError", "Failed to get next"]


@pytest.mark.parametrize("native_client", [False, True])
def test_invocations_end_alike_over_both_transports(tmp_path: Path, *, native_client: bool) -> None:
    functions = [
        function("echo", "outcomes.echo"),
        function("raises", "outcomes.raises"),
        function("ends", "outcomes.ends"),
        function("large", "outcomes.large", memory_mb=1024, timeout_s=20),
    ]
    with running(tmp_path, *functions, native_client=native_client) as service:
        for size in (1, 70_000, 2):
            assert service.invoke("echo", {"a": "ü" * size}).payload == {"a": "ü" * size}
        assert service.invoke("raises").payload["errorType"] == "ValueError"
        assert service.invoke("ends", 3).payload["errorType"] == "Runtime.ExitError"
        assert service.invoke("large", 7_000_000).payload["errorType"] == "Function.ResponseSizeTooLarge"
        assert service.invoke("large", 6_000_000).payload == "x" * 6_000_000
