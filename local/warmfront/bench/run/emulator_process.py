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
IDLE_S = 24 * 3600.0  # environments wait for their next block however long the others take


class EmulatorError(Exception):
    """The emulator did not start, or refused what the benchmark needs of it."""


@dataclass(frozen=True, slots=True)
class FunctionState:
    """One function's execution environments and counters, as the control surface tells."""

    pids: tuple[int, ...] = ()
    cold_starts: int = 0
    invocations: int = 0
    throttles: int = 0
    errors: int = 0
    exited_cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    parts: Parts
    backing: dict[str, Any]
    functions: dict[str, FunctionState]

    @property
    def environments(self) -> Environments:
        """Those of all functions: what a request sets off elsewhere belongs to its bill as well."""
        pids = tuple(pid for function in self.functions.values() for pid in function.pids)
        return Environments(pids, sum(function.exited_cpu_s for function in self.functions.values()))

    @classmethod
    def read(cls, document: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> Self:
        """`own`: backing services that the bench started itself; the emulator knows only their addresses."""
        backing = {**(document.get("backing") or {}), **(own or {})}
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
    """The control surface and the Invoke API of an emulator that answers at an address."""

    def __init__(self, url: str, token: str, own: Mapping[str, Any] | None = None) -> None:
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise EmulatorError(f"{url!r} is no address of an emulator")
        self.target = Target(parts.hostname, parts.port)
        self._token = token
        self._own = own

    def state(self) -> State:
        return State.read(self._ask("GET", "/_warmfront/state"), self._own)

    def retire(self, function: str) -> int:
        """Shuts the function's environments down: its next invocation is a cold start."""
        answer = self._ask(
            "POST", f"/_warmfront/functions/{quote(function)}/retire", {"X-Warmfront-Token": self._token}
        )
        return int(answer["retired"])

    def describe(self) -> dict[str, Any]:
        """The state as the emulator tells it, with every environment by itself."""
        return self._ask("GET", "/_warmfront/state")

    def start(self, function: str, count: int) -> dict[str, Any]:
        """Starts environments without an invocation, all at once, and waits until they are ready."""
        path = f"/_warmfront/functions/{quote(function)}/start"
        return self._ask("POST", path, {"X-Warmfront-Token": self._token}, json.dumps({"count": count}))

    def observe(self, *, on: bool) -> None:
        """Turns metrics, traces and the access log on or off."""
        self._ask("PUT", "/_warmfront/observe", {"X-Warmfront-Token": self._token}, json.dumps({"on": on}))

    def inits(self, function: str) -> list[dict[str, Any]]:
        """The milestones of its cold starts, newest last."""
        answer = self._ask("GET", f"/_warmfront/functions/{quote(function)}/inits")
        return list(answer["inits"])

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
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
    """`warmfront serve` as a child in a process group of its own; it ends with this process, however that ends."""

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
        own: Mapping[str, Any] | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> Self:
        """`variables`: for the emulator itself, over those of this process; `own`: of backing services started elsewhere."""
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
            "--no-setup",  # the workload names its own
            "--no-event-sources",  # nothing may run in a timed block that no request set off
            "--no-observe",  # what is measured is the handlers; `make bench-observe` takes it back and measures observation
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
            return cls(process, Control(_Output(process).ready(timeout_s), token, own), log)
        except EmulatorError:
            _stop(process, log)
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def last_log_lines(self, count: int = 20) -> list[str]:
        """What the functions logged last."""
        return self._log.read_text(errors="replace").splitlines()[-count:] if self._log.exists() else []

    @property
    def log_bytes(self) -> int:
        """How much the functions have logged: a place to read on from."""
        return self._log.stat().st_size if self._log.exists() else 0

    def reports(self, offset: int = 0) -> list[Report]:
        """The REPORT lines logged behind that place; those of the last quarter of a second may not be there yet."""
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
    """Reads what the child prints, to its end, so that it never waits for us; knows when it said it is ready."""

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
        """The address it answers on. Raises with what it printed when it ended or took too long."""
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
