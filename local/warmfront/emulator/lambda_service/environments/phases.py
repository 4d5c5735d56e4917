"""The phases of an execution environment, and what its function is told as it goes through them."""

from enum import Enum
from typing import Protocol

from warmfront.emulator.lambda_service.invocation import Invocation


class Phase(Enum):
    INIT = "init"
    FROZEN = "frozen"
    INVOKE = "invoke"
    RETURNING = "returning"
    SHUTDOWN = "shutdown"


class EnvironmentHost[E](Protocol):
    """Who is told what happens to an environment: its function."""

    def environment_answered(
        self, environment: E, invocation: Invocation, body: bytes, failed: bool, error_type: str | None
    ) -> None: ...

    def environment_back(self, environment: E) -> None: ...

    def environment_exited(self, environment: E, status: int, was: Phase, running: list[Invocation]) -> None: ...

    def environment_output(self, environment: E, chunk: bytes) -> None: ...
