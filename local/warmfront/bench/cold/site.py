"""Starts the emulators of one run, one for each way to start, over one set of backing services."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from warmfront.backing.executables import backing_of_shell
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis
from warmfront.bench.run.accounting import wait_until_quiet
from warmfront.bench.run.emulator_process import Control, EmulatorError, EmulatorProcess

from .cold_options import AHEAD, PROCESSES, ColdOptions

RESERVE_CONNECTIONS = 100  # connections of Postgres in addition to one for each environment of each way
PATIENCE_S = 120.0
LOOK_S = 0.01


class Sites:
    """Way -> control surface. All stand at once, so that ways can take turns; whoever is not asked is frozen."""

    def __init__(self, options: ColdOptions, stack: ExitStack, phase: Callable[[str], None]) -> None:
        self._options = options
        self._stack = stack
        self.postgres_admin_url: str | None = None
        self.redis_url: str | None = None
        self.backing: dict[str, object] = {}
        self._variables: dict[str, str] = {}
        self._start_backing(phase)
        self.controls: dict[str, Control] = {}
        for way in options.ways:
            phase(f"starting the emulator, {way}")
            self.controls[way] = self.emulator(way).control

    def _start_backing(self, phase: Callable[[str], None]) -> None:
        needs, options = self._options.needs, self._options
        origin = options.backing or backing_of_shell(os.environ)
        if needs.postgres:
            phase("starting Postgres")
            most = (options.crowd + RESERVE_CONNECTIONS) * max(1, len(options.ways))
            postgres = self._stack.enter_context(Postgres.start(origin=origin, max_connections=min(900, most)))
            self.postgres_admin_url = postgres.admin_url("postgres")
            self._variables["DATABASE_URL"] = postgres.url("postgres")
            self.backing["postgres"] = postgres.describe()
        if needs.redis:
            redis = self._stack.enter_context(Redis.start(origin=origin))
            self.redis_url = self._variables["REDIS_URL"] = redis.url(None)
            self.backing["redis"] = redis.describe()

    def emulator(self, way: str, variables: Mapping[str, str] | None = None) -> EmulatorProcess:
        process = EmulatorProcess.start(
            self._options.template,
            arguments=(
                "--start",
                way,
                "--no-reload",
                "--max-concurrency",
                str(PROCESSES),
                *(("--backing", "url") if self._variables else ()),
            ),
            variables=self._variables | dict(variables or {}),
        )
        return self._stack.enter_context(process)

    def fresh(self, way: str, function: str) -> None:
        """The function's next invocation is the first of an environment, and nothing else is going on."""
        control = self.controls[way]
        control.retire(function)
        if way in AHEAD:
            await_ready(control, function)
        rest(control)


def environments(control: Control, function: str) -> list[dict[str, Any]]:
    return list(control.describe()["functions"][function]["environments"])


def await_ready(control: Control, function: str) -> None:
    """Until the environments that are kept ready have replaced those that were ended."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = environments(control, function)
        if found and all(each["phase"] == "frozen" and not each["invocations"] for each in found):
            return
        time.sleep(LOOK_S)
    raise EmulatorError(f"{function}: no environment was ready {PATIENCE_S:.0f} s after the last ones were ended")


def rest(control: Control) -> None:
    """Until what went on before uses no CPU any more."""
    state = control.state()
    wait_until_quiet(lambda: sum(state.parts.cpu_s(state.environments).values()))
