"""What the Lambda service tells whoever watches it. Calls come on the hot path and must be quick; nobody watching costs nothing."""

from typing import Protocol

from warmfront.emulator.lambda_service.environments.environment import Environment
from warmfront.emulator.lambda_service.invocation import Invocation
from warmfront.emulator.lambda_service.types import Status


class Observer(Protocol):
    """Functions are named by their logical id."""

    def printed(self, function: str, environment: Environment, output: bytes) -> None:
        """Output of a handler or of the code around it, whole lines or not."""

    def init_begun(self, function: str, environment: Environment) -> None: ...

    def init_ended(self, function: str, environment: Environment, *, failed: bool) -> None: ...

    def throttled(self, function: str, invocation: Invocation) -> None: ...

    def concluded(
        self,
        function: str,
        environment: Environment,
        invocation: Invocation,
        status: Status,
        error_type: str | None,
        duration_ms: float,
        memory_used_mb: int,
        log: bytes,
    ) -> None:
        """An invocation has its answer. `log`: its lines from START to REPORT."""
