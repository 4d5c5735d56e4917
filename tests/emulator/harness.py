"""A Lambda service in this process with real execution environments, for tests that are not about HTTP."""

import asyncio
import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from warmfront.backing.reaper import processes
from warmfront.emulator.lambda_service.environments.environment import MEMORY_SAMPLE_NS
from warmfront.emulator.lambda_service.environments.mount_namespace import MountsInTheMaking
from warmfront.emulator.lambda_service.functions.function import Function
from warmfront.emulator.lambda_service.logs.sinks import LogSink
from warmfront.emulator.lambda_service.service import LambdaService, new_trace_id
from warmfront.emulator.lambda_service.service_options import ServiceOptions
from warmfront.emulator.lambda_service.types import InvocationResult
from warmfront.emulator.template import FunctionConfig, Template

HANDLERS = Path(__file__).parent / "handlers"
PATIENCE_S = 30.0
"""Bounds a test that would hang; nothing is expected to take so long."""
REQUEST_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def function(name: str, handler: str, **settings: Any) -> FunctionConfig:
    """A function of the fixture handlers; `settings` are FunctionConfig's."""
    defaults: dict[str, Any] = {"runtime": "python3.13", "code_path": HANDLERS, "memory_mb": 256}
    return FunctionConfig(name, name, handler, **{**defaults, **settings})


def template(*functions: FunctionConfig, **more: Any) -> Template:
    fields: dict[str, Any] = {
        "apis": (),
        "event_sources": (),
        "queues": {},
        "parameters": {},
        "resource_types": {},
        "warnings": (),
    }
    return Template(Path("template.yaml"), {config.logical_id: config for config in functions}, **{**fields, **more})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One invocation as its caller sees it, and what was logged meanwhile."""

    result: InvocationResult
    log: str

    @property
    def payload(self) -> Any:
        return json.loads(self.result.payload)

    @property
    def lines(self) -> list[str]:
        return self.log.splitlines()

    @property
    def report(self) -> str:
        (line,) = (line for line in self.lines if line.startswith("REPORT "))
        return line

    @property
    def cold(self) -> bool:
        return "Init Duration" in self.report

    @property
    def duration_ms(self) -> float:
        found = re.search(r"\tDuration: ([0-9.]+) ms", self.report)
        assert found is not None
        return float(found[1])


class Harness:
    """Runs one service on a loop of its own, which turns only while a test waits for something."""

    def __init__(self, service: LambdaService, runner: asyncio.Runner) -> None:
        self.service = service
        self.runner = runner
        self.chunks: list[tuple[str, bytes]] = []
        service.options.sink.listeners.append(lambda name, chunk: self.chunks.append((name, chunk)))

    def run[T](self, coroutine: Coroutine[Any, Any, T], *, within_s: float = PATIENCE_S) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(within_s):
                return await coroutine

        return self.runner.run(bounded())

    def call[T](self, function: Callable[[], T]) -> T:
        """Call something that wants a running loop."""

        async def on_loop() -> T:
            return function()

        return self.run(on_loop())

    def log(self, name: str, since: int = 0) -> str:
        return b"".join(chunk for function, chunk in self.chunks[since:] if function == name).decode(errors="replace")

    def invoke(self, name: str, event: object = None, **more: Any) -> Outcome:
        return self.run(self.invoke_async(name, event, **more))

    async def invoke_async(self, name: str, event: object = None, **more: Any) -> Outcome:
        since = len(self.chunks)
        more.setdefault("trace_id", new_trace_id(sampled=False))
        result = await self.service.invoke(name, json.dumps(event).encode(), **more)
        return Outcome(result, self.log(name, since))

    def function(self, name: str) -> Function:
        return self.service.functions[name]

    def pids(self, name: str) -> list[int]:
        return [each.pid for each in self.function(name).environments.values() if each.pid is not None]

    def until(self, condition: Callable[[], object]) -> None:
        """Turn the loop until the condition holds."""
        self.run(until(condition))

    def until_sampled(self) -> None:
        """Let so much time pass that memory is read again."""
        self.run(asyncio.sleep(MEMORY_SAMPLE_NS / 1e9))

    def settled(self, name: str) -> None:
        """Wait until every environment is back and frozen, or gone."""
        self.until(
            lambda: all(
                each.phase.value in ("frozen", "shutdown") for each in self.function(name).environments.values()
            )
        )


@contextlib.contextmanager
def running(tmp_path: Path, *functions: FunctionConfig, **options: Any) -> Iterator[Harness]:
    """A service with these functions; at its end no process of them may be left.

    Functions see this machine's folders, in which tests leave and read files, unless `private_mounts` is true.
    """
    state_dir = tmp_path / "state"
    state_dir.mkdir(parents=True, exist_ok=True)
    before = descendants()
    if options.pop("private_mounts", False):
        options["mounts"] = MountsInTheMaking.begin(state_dir)
    with asyncio.Runner(loop_factory=options.pop("loop_factory", uvloop.new_event_loop)) as runner:
        service = LambdaService(
            options.pop("template", None) or template(*functions),
            ServiceOptions(state_dir, LogSink(None), **{"shutdown_grace_s": 0.2, **options}),
        )
        runner.run(service.__aenter__())
        try:
            yield Harness(service, runner)
        finally:
            runner.run(asyncio.wait_for(service.__aexit__(None, None, None), PATIENCE_S))
    left = descendants() - before
    assert not left, f"processes left behind: {left}"


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - processes and logs have no event to wait for
        await asyncio.sleep(0.002)


def descendants() -> set[int]:
    """Ids of all processes that descend from this one."""
    table = processes()
    found = {os.getpid()}
    grew = True
    while grew:
        more = {each.pid for each in table.values() if each.parent in found} - found
        grew = bool(more)
        found |= more
    return found - {os.getpid()}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counting, not looking


def in_thread[T](call: Callable[[], T]) -> "Thread[T]":
    return Thread(call)


class Thread[T]:
    """A call in a thread whose result or exception comes out at `join`."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._outcome: list[T] = []
        self._error: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], T]) -> None:
        try:
            self._outcome.append(call())
        except BaseException as error:
            self._error.append(error)

    def join(self) -> T:
        self._thread.join(PATIENCE_S)
        if self._error:
            raise self._error[0]
        return self._outcome[0]
