"""`warmfront serve` as a child process, and HTTP to it byte for byte. Knows no cases."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
"""Bounds what would hang; nothing is expected to take so long."""

Answer = tuple[int, list[tuple[str, str]], bytes]


@dataclass(frozen=True, slots=True)
class Served:
    """A running emulator as its start-up table tells it."""

    process: subprocess.Popen[str]
    routes: tuple[tuple[str, str, str], ...]
    """URL, route key and function."""
    folder: Path
    errors: Path = field(repr=False)

    def port(self, key: str | None = None, function: str | None = None) -> int:
        """The port of the API with that route, or of the first one."""
        for url, route_key, name in self.routes:
            if key in (None, route_key) and function in (None, name):
                return int(url.rpartition(":")[2])
        raise LookupError(f"no route {key} -> {function} in {self.routes}")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def end(self) -> None:
        """Ask it to stop, without waiting for it."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Its exit status; one that does not stop is killed."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()


def serve(folder: Path, template: Path, *flags: str, variables: Mapping[str, str]) -> Served:
    """Start the emulator on free ports and wait until it answers. `variables` are the template's own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "variables.json").write_text(json.dumps({"Parameters": dict(variables)}))
    command = [sys.executable, "-m", "local.cli", "serve", "--port", "0", "--template", str(template), *flags]
    command += ["--env-vars", str(folder / "variables.json"), "--log-file", str(folder / "log")]
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
    served = Served(process, tuple(_start_table(process)), folder, folder / "errors")
    assert served.routes, served.errors.read_text()
    return served


def _start_table(process: subprocess.Popen[str]) -> Iterator[tuple[str, str, str]]:
    """The routes of the start-up table; reads until the emulator is ready, or gone."""
    assert process.stdout is not None
    alarm = threading.Timer(PATIENCE_S, process.kill)
    alarm.start()
    try:
        for line in process.stdout:
            if found := re.match(r"route +(\S+) (.+) -> (\S+)$", line.rstrip()):
                yield found[1], found[2], found[3]
            if line.startswith("Warmfront ready on "):
                return
    finally:
        alarm.cancel()


def request_bytes(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    """A request as it stands on the wire: nothing added, nothing tidied."""
    head = [f"{method} {target} HTTP/1.1".encode()]
    head += [f"{name}: {value}".encode("latin-1") for name, value in headers]
    return b"\r\n".join([*head, b"", body])


class Exchange:
    """One request on a connection of its own."""

    def __init__(self, port: int, method: str, request: bytes) -> None:
        self._method = method
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before its end: the answer says so
            self._socket.sendall(request)

    def answer(self) -> Answer:
        with self._socket:
            response = http.client.HTTPResponse(self._socket, method=self._method)
            response.begin()
            body = response.read()
            return response.status, response.getheaders(), body


def ask(port: int, method: str, target: str, headers: list[tuple[str, str]], body: bytes = b"") -> Answer:
    return Exchange(port, method, request_bytes(method, target, headers, body)).answer()


def until(condition: Callable[[], object]) -> None:
    """Wait for what another process does, bounded."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "waited too long"
        time.sleep(0.005)
