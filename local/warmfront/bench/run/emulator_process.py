"""Starts an emulator as a child process and controls it over HTTP."""

import collections
import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

from warmfront.backing.watcher import get_watcher
from warmfront.bench.load.samples import Target

from .accounting import Environments, Parts
from .report_lines import Report, read_reports

READY = "Warmfront ready on "
START_TIMEOUT_S = 120.0
INVOKE_TIMEOUT_S = 900.0  # Lambda's own limit
STOP_S = 20.0
IDLE_S = 24 * 3600.0  # environments must survive while the other variants are measured


class EmulatorError(Exception):
    """The emulator did not start, or rejected a request of the benchmark."""


@dataclass(frozen=True, slots=True)
class FunctionState:
    """One function's execution environments and counters, as the control surface reports them."""

    pids: tuple[int, ...] = ()
    cold_starts: int = 0
    invocations: int = 0
    throttles: int = 0
    errors: int = 0
    exited_cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """The emulator's state: process ids of its parts, backing services and functions."""

    parts: Parts
    backing: dict[str, Any]
    functions: dict[str, FunctionState]

    @property
    def environments(self) -> Environments:
        """Environments of all functions, because a request's cost includes the functions that it invokes."""
        pids = tuple(pid for function in self.functions.values() for pid in function.pids)
        return Environments(pids, sum(function.exited_cpu_s for function in self.functions.values()))

    @classmethod
    def read(cls, document: Mapping[str, Any], bench_servers: Mapping[str, Any] | None = None) -> Self:
        """Read the control surface's JSON.

        Args:
            document: the decoded response.
            bench_servers: backing services that the bench started itself, of which the emulator knows only the addresses.
        """
        backing = {**(document.get("backing") or {}), **(bench_servers or {})}
        parts = Parts(
            emulator=document["emulator"]["pid"],
            postgres=(backing.get("postgres") or {}).get("pid"),
            redis=(backing.get("redis") or {}).get("pid"),
        )
        functions = {name: _function(about) for name, about in document.get("functions", {}).items()}
        return cls(parts, backing, functions)


def _function(about: Mapping[str, Any]) -> FunctionState:
    return FunctionState(
        pids=tuple(each["pid"] for each in about["environments"] if each.get("pid")),
        cold_starts=about["cold_starts"],
        invocations=about["invocations"],
        throttles=about["throttles"],
        errors=about["errors"],
        exited_cpu_s=about["exited_cpu_s"],
    )


class Control:
    """Client of a running emulator's control surface and Invoke API.

    Every call raises EmulatorError if the emulator does not respond or responds with an error.

    Args:
        url: address of the emulator.
        token: its WARMFRONT_TOKEN.
        bench_servers: see State.read.
    """

    def __init__(self, url: str, token: str, bench_servers: Mapping[str, Any] | None = None) -> None:
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise EmulatorError(f"{url!r} is not the address of an emulator: it needs a host and a port")
        self.target = Target(parts.hostname, parts.port)
        self._token = token
        self._bench_servers = bench_servers

    def state(self) -> State:
        """Return the emulator's state."""
        return State.read(self._ask("GET", "/_warmfront/state"), self._bench_servers)

    def retire(self, function: str) -> int:
        """Shut the function's environments down, so that its next invocation is a cold start; returns their number."""
        answer = self._ask(
            "POST", f"/_warmfront/functions/{quote(function)}/retire", {"X-Warmfront-Token": self._token}
        )
        return int(answer["retired"])

    def describe(self) -> dict[str, Any]:
        """Return the state as decoded JSON, with the details of every environment."""
        return self._ask("GET", "/_warmfront/state")

    def start(self, function: str, count: int) -> dict[str, Any]:
        """Start environments at once, without invocations, and wait until they are ready."""
        path = f"/_warmfront/functions/{quote(function)}/start"
        return self._ask("POST", path, {"X-Warmfront-Token": self._token}, json.dumps({"count": count}))

    def observe(self, *, on: bool) -> None:
        """Turn metrics, traces and the access log on or off."""
        self._ask("PUT", "/_warmfront/observe", {"X-Warmfront-Token": self._token}, json.dumps({"on": on}))

    def inits(self, function: str) -> list[dict[str, Any]]:
        """Return the milestones of the function's cold starts, newest last."""
        answer = self._ask("GET", f"/_warmfront/functions/{quote(function)}/inits")
        return list(answer["inits"])

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        """Invoke a function and return its decoded response."""
        path = f"/2015-03-31/functions/{quote(function)}/invocations"
        status, headers, body = self._request("POST", path, {"Content-Type": "application/json"}, json.dumps(event))
        if status >= 300 or headers.get("x-amz-function-error"):
            raise EmulatorError(f"function {function} failed with {body[:2000].decode(errors='replace')}")
        return json.loads(body or b"null")

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, sent: str | None = None
    ) -> dict[str, Any]:
        status, _, body = self._request(method, path, headers or {}, sent)
        if status != 200:
            raise EmulatorError(f"{method} {path} answered {status}: {body[:500].decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(body)
        return answer

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: str | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.target.host, self.target.port, timeout=INVOKE_TIMEOUT_S)
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        except OSError as error:
            raise EmulatorError(f"the emulator does not answer {method} {path}: {error}") from error
        finally:
            connection.close()


class EmulatorProcess:
    """`warmfront serve` as a child in its own process group. It is ended with this process, even if this one is killed."""

    def __init__(self, process: subprocess.Popen[str], control: Control, log: Path) -> None:
        self._process = process
        self._log = log
        self.control = control

    @classmethod
    def start(
        cls,
        template: Path,
        *,
        max_connections: int = 200,
        arguments: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        bench_servers: Mapping[str, Any] | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> Self:
        """Start the emulator and wait until it is ready.

        Args:
            template: the template to serve.
            max_connections: of its Postgres.
            arguments: more options of `warmfront serve`.
            variables: environment variables of the emulator, in addition to those of this process.
            bench_servers: see State.read.
            timeout_s: how long to wait.

        Raises:
            EmulatorError: it ended or was not ready in time; the message has what it printed.
        """
        token = secrets.token_urlsafe(18)
        log = Path(tempfile.mkdtemp(prefix="warmfront-bench-")) / "functions.log"
        get_watcher().remove_on_exit(log.parent)
        command = [sys.executable, "-m", "warmfront", "serve", "--template", str(template), "--port", "0"]
        command += [
            "--log-file",
            str(log),
            "--max-connections",
            str(max_connections),
            "--idle",
            str(IDLE_S),
            "--ephemeral",
            "--no-built",
            "--no-setup",  # the workload file defines the set-up
            "--no-event-sources",  # only requests may cause work in a timed block
            "--no-observe",  # handlers are measured here; `make bench-observe` measures the cost of observation
            *arguments,
        ]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment(token) | dict(variables or {}),
            start_new_session=True,
        )
        get_watcher().register(process.pid, first_signal=signal.SIGTERM)
        try:
            return cls(process, Control(_Output(process).ready(timeout_s), token, bench_servers), log)
        except EmulatorError:
            _stop(process, log)
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def last_log_lines(self, count: int = 20) -> list[str]:
        """Return the last lines of the functions' log."""
        return self._log.read_text(errors="replace").splitlines()[-count:] if self._log.exists() else []

    @property
    def log_bytes(self) -> int:
        """Size of the functions' log, as an offset for `reports`."""
        return self._log.stat().st_size if self._log.exists() else 0

    def reports(self, offset: int = 0) -> list[Report]:
        """Return the REPORT lines logged after an offset in bytes; those of the last quarter of a second may still be missing."""
        return read_reports(self._log, offset) if self._log.exists() else []

    def close(self) -> None:
        _stop(self._process, self._log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _environment(token: str) -> dict[str, str]:
    return os.environ | {"WARMFRONT_TOKEN": token, "PYTHONUNBUFFERED": "1"}


class _Output:
    """Reads the child's output until it ends, so that the child never blocks on a full pipe, and detects its ready line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: collections.deque[str] = collections.deque(maxlen=40)
        self._url: str | None = None
        self._known = threading.Event()
        threading.Thread(target=self._read, name="emulator-output", daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.append(line.rstrip())
                if line.startswith(READY):
                    self._url = line.removeprefix(READY).strip()
                    self._known.set()
        self._known.set()

    def ready(self, timeout_s: float) -> str:
        """Wait for the ready line and return the address in it; EmulatorError if the child ended or took too long."""
        in_time = self._known.wait(timeout_s)
        if self._url is not None:
            return self._url
        what = "ended before it was ready" if in_time else f"was not ready within {timeout_s:.0f} s"
        raise EmulatorError("\n  ".join([f"`warmfront serve` {what}; it printed:", *(self._lines or ["nothing"])]))


def _stop(process: subprocess.Popen[str], log: Path) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    get_watcher().unregister(process.pid)
    shutil.rmtree(log.parent, ignore_errors=True)
    get_watcher().keep_on_exit(log.parent)
