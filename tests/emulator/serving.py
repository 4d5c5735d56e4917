"""`warmfront serve` as a child process, for tests that speak HTTP to it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.config import Config

from tests.emulator.harness import PATIENCE_S

ROOT = Path(__file__).parents[2]
TEMPLATES = Path(__file__).parent / "templates"
READY = "Warmfront ready on "
TOKEN = "the-tests-own"
CREDENTIALS = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}


@dataclass
class Served:
    """One emulator as its user sees it: an address and a terminal."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    url: str = ""
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _clients: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def wait_for(self, text: str, *, since: int = 0, within_s: float = PATIENCE_S) -> str:
        """The first line after `since` with this text in it."""
        with self._changed:
            found = self._changed.wait_for(lambda: self._find(text, since), within_s)
        assert found, f"{text!r} never appeared in:\n" + "\n".join(self.lines[-40:])
        return found

    def _find(self, text: str, since: int) -> str | None:
        return next((line for line in self.lines[since:] if text in line), None)

    def until(self, condition: Callable[[], object]) -> None:
        """Ask until it holds: what the control surface shows has no event to wait for."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def functions(self) -> dict[str, Any]:
        return cast(dict[str, Any], self.get("/_warmfront/state")["functions"])

    def client(self, service: str = "lambda", **settings: Any) -> Any:
        """boto3 with nothing of its own but the endpoint."""
        config = Config(retries={"total_max_attempts": 1}, **settings)
        client = boto3.client(service, endpoint_url=self.url, config=config, **CREDENTIALS)
        self._clients.callback(client.close)
        return client

    def hang_up(self) -> None:
        self._clients.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def serve(
    template: Path, *options: str, environ: Mapping[str, str] | None = None, kept: bool = False, ready: str = READY
) -> Iterator[Served]:
    """`ready`: how the line begins that says so. `kept`: with data kept and the template's set-up, as a person starts it."""
    command = [
        sys.executable,
        "-m",
        "warmfront",
        "serve",
        "--template",
        str(template),
        "--port",
        "0",
        *(("--ephemeral", "--no-setup") if not kept else ()),
        *options,
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "WARMFRONT_TOKEN": TOKEN, **(environ or {})},
    )
    served = Served(process)
    reader = threading.Thread(target=served.read, daemon=True)
    reader.start()
    try:
        served.url = served.wait_for(ready).removeprefix(ready)
        yield served
    finally:
        served.hang_up()
        if process.poll() is None:
            served.stop()
        reader.join(PATIENCE_S)
        assert process.stdout is not None
        process.stdout.close()
