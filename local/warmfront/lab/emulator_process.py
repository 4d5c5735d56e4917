"""Runs `warmfront serve` as a child process, and calls and controls it over HTTP."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from warmfront.backing.watcher import get_watcher
from warmfront.lab.clock import HANDLER, with_clocks
from warmfront.lab.http_client import Client, NoAnswer, Reply
from warmfront.lab.overlay import overlaid

READY = "Warmfront ready on "
READY_TIMEOUT_S = 60.0
STOP_GRACE_S = 10.0
INVOKE_TIMEOUT_S = 120.0


class EmulatorError(Exception):
    """The emulator did not start or refused a request; the message has the end of its output."""


@dataclass(frozen=True, slots=True)
class EmulatorSettings:
    """Settings of one emulator. Experiments with equal settings share an emulator."""

    template: Path
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Environment variables by function; they override those of the template."""
    parameters: tuple[str, ...] = ()
    aws: bool = False
    """Start a local AWS. Without one, the emulator starts in half the time."""
    clocks: tuple[str, ...] = ()
    """Functions whose wall clock can be set."""


class EmulatorProcess:
    """One `warmfront serve`. An async context manager."""

    def __init__(self, settings: EmulatorSettings, folder: Path, *, database_url: str, redis_url: str) -> None:
        self.settings = settings
        self.log_file = folder / "functions.log"
        self.clock_file = folder / "clock"
        self._output = folder / "emulator.log"
        self._urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        self._token = secrets.token_urlsafe(18)
        self._process: asyncio.subprocess.Process | None = None
        self._client: Client | None = None
        self._listening: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self.host, self.port = "", 0

    async def __aenter__(self) -> Self:
        changed = with_clocks(self.settings.variables, self.settings.clocks, self.clock_file)
        handlers = dict.fromkeys(self.settings.clocks, HANDLER)
        # The file is read once, at start, so it can be removed as soon as the emulator is ready.
        with overlaid(self.settings.template, changed, handlers) as template:
            await self._start(template)
        return self

    async def _start(self, template: Path) -> None:
        command = [sys.executable, "-m", "warmfront", "serve", "--port", "0", "--template", str(template)]
        command += ["--log-file", str(self.log_file), "--no-event-sources", "--no-reload", "--ephemeral", "--no-setup"]
        command += ["--no-built"]
        command += ["--backing", "url"]  # the servers of this stage, on loopback
        command += ["--aws", "local" if self.settings.aws else "none"]
        if self.settings.parameters:
            command += ["--parameter-overrides", *self.settings.parameters]
        with self._output.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **self._urls, "WARMFRONT_TOKEN": self._token, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # on Ctrl-C, the lab clears faults first and then stops it
            )
        get_watcher().register(self._process.pid, first_signal=signal.SIGTERM)  # it must not outlive this process
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._await_ready()
        except BaseException:
            await self.__aexit__()
            raise

    async def _await_ready(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        said = []
        while line := (await self._process.stdout.readline()).decode(errors="replace").rstrip():
            said.append(line)
            if line.startswith(READY):
                parts = urlsplit(line.removeprefix(READY).strip())
                self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
                self._client = Client(self.host, self.port)
                self._listening = asyncio.create_task(self._listen_on(self._process.stdout))
                return
        tail = [*said[-5:], *self._output.read_text(errors="replace").splitlines()[-8:]]
        raise EmulatorError("`warmfront serve` ended before it was ready:\n  " + "\n  ".join(tail))

    async def _listen_on(self, output: asyncio.StreamReader) -> None:
        """Read the output until it ends: a full pipe would block the emulator."""
        while await output.read(65536):
            pass

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()
        if self._process is not None:
            await self._stop(self._process)
            get_watcher().unregister(self._process.pid)

    async def _stop(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                await asyncio.wait_for(process.wait(), STOP_GRACE_S)
                break
            except TimeoutError:
                continue
        if self._listening is not None:
            await self._listening

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> Client:
        """Return a new connection to the API."""
        return Client(self.host, self.port)

    async def state(self) -> dict[str, Any]:
        reply = await self._ask("GET", "/_warmfront/state")
        state: dict[str, Any] = reply.json()
        return state

    async def environments(self, function: str) -> list[dict[str, Any]]:
        return list((await self.state())["functions"][function]["environments"])

    async def environment_pids(self, function: str) -> Sequence[int]:
        return [int(each["pid"]) for each in await self.environments(function) if each.get("pid")]

    async def retire(self, function: str) -> None:
        """End all environments of a function, so that its next invocation is a cold start."""
        await self._ask("POST", f"/_warmfront/functions/{function}/retire", headers={"X-Warmfront-Token": self._token})

    async def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        reply = await self._ask(
            "POST", f"/2015-03-31/functions/{function}/invocations", body=json.dumps(event).encode()
        )
        if "x-amz-function-error" in reply.headers:
            raise EmulatorError(f"{function} failed: {reply.body[:500].decode(errors='replace')}")
        return reply.json()

    async def _ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        if self._client is None:
            raise EmulatorError("the emulator is not running; use `async with EmulatorProcess(...)`")
        async with self._turn:
            try:
                reply = await self._client.request(method, path, headers=headers, body=body, timeout_s=INVOKE_TIMEOUT_S)
            except NoAnswer as error:
                raise EmulatorError(f"the emulator does not answer: {error}") from error
        if reply.status >= 300:
            raise EmulatorError(f"{method} {path} answered {reply.status}: {reply.body[:300].decode(errors='replace')}")
        return reply
