"""`--debug` with a debug adapter client, as an editor is one: a breakpoint set between two requests stops the second."""

import contextlib
import importlib.util
import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from warmfront.backing.ports import free_port

from tests.emulator.harness import PATIENCE_S, in_thread
from tests.emulator.serving import serve

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("debugpy") is None, reason="debugpy is missing: pip install 'warmfront[debug]'"
)
CODE = """import time

started = time.monotonic()


def handler(event, context):
    answer = {"statusCode": 200, "body": "first"}
    answer["body"] = str(context.get_remaining_time_in_millis() > 0)
    return answer
"""
BREAK_LINE = 8
TEMPLATE = """
Resources:
  Debugged:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: code/
      Timeout: 1
      MemorySize: 128
      Events:
        Get: {Type: HttpApi, Properties: {Path: /, Method: GET, TimeoutInMillis: 500}}
"""


class DebugClient:
    """The few requests of the Debug Adapter Protocol that an editor begins with (microsoft.github.io/debug-adapter-protocol)."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._file = self._socket.makefile("rb")
        self._number = 0
        self._seen: list[dict[str, Any]] = []

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, command: str, **arguments: object) -> int:
        self._number += 1
        body = json.dumps({"seq": self._number, "type": "request", "command": command, "arguments": arguments}).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        return self._number

    def wait(self, matches: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        """The first message that matches, among those that came meanwhile or come now."""
        while True:
            for message in self._seen:
                if matches(message):
                    self._seen.remove(message)
                    return message
            self._seen.append(self._read())

    def _read(self) -> dict[str, Any]:
        length = 0
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.partition(b": ")
            length = int(value) if name == b"Content-Length" else length
        message: dict[str, Any] = json.loads(self._file.read(length))
        return message

    def ask(self, command: str, **arguments: object) -> dict[str, Any]:
        number = self.send(command, **arguments)
        answer = self.wait(lambda each: each.get("request_seq") == number)
        assert answer["success"], answer
        return answer

    def event(self, name: str) -> dict[str, Any]:
        return self.wait(lambda each: each.get("event") == name)


@contextlib.contextmanager
def attached(port: int, code: Path) -> Iterator[DebugClient]:
    """A client that has attached as docs/debugging.md says, with its source mapping."""
    client = DebugClient(port)
    try:
        client.ask("initialize", adapterID="test", pathFormat="path")
        attach = client.send(
            "attach", justMyCode=True, pathMappings=[{"localRoot": str(code), "remoteRoot": "/var/task"}]
        )
        client.event("initialized")
        client.ask("configurationDone")
        client.wait(lambda each: each.get("request_seq") == attach)
        yield client
    finally:
        client.close()


def test_a_breakpoint_set_between_two_requests_stops_the_second_as_long_as_somebody_looks(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "app.py").write_text(CODE)
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    port = free_port()
    with serve(tmp_path / "template.yaml", "--debug", f"Debugged={port}") as served:
        private = not any("this machine's folders" in line for line in served.lines)

        def get() -> str:
            with urllib.request.urlopen(served.url, timeout=PATIENCE_S) as answer:
                body: bytes = answer.read()
            return body.decode()

        first = in_thread(get)
        served.wait_for(f"waiting for a debugger on 127.0.0.1:{port}")
        with attached(port, code if private else Path("/var/task")) as client:
            assert first.join() == "True"
            time.sleep(0.1)  # longer than an idle environment is left running
            assert served.functions()["Debugged"]["environments"][0]["phase"] == "frozen"
            source = {"path": str(code / "app.py")}
            answer = client.ask("setBreakpoints", source=source, breakpoints=[{"line": BREAK_LINE}])
            assert answer["body"]["breakpoints"][0]["verified"], "a stopped process would not have answered"
            second = in_thread(get)
            stopped = client.event("stopped")["body"]
            assert stopped["reason"] == "breakpoint"
            top = client.ask("stackTrace", threadId=stopped["threadId"])["body"]["stackFrames"][0]
            assert (top["line"], top["source"]["path"]) == (BREAK_LINE, str(code / "app.py"))
            time.sleep(1.5)  # longer than the timeouts of the function and of its route
            client.ask("continue", threadId=stopped["threadId"])
            assert second.join() == "True"
        served.stop()
