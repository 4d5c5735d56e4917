"""Who is told what happens to an environment: its function. Knows nothing of either but their names."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from local.lambda_service.environment import Environment, Phase
    from local.lambda_service.invocation import Invocation


class EnvironmentHost(Protocol):
    """Called as things happen; whoever is told of an answer is on the hot path."""

    def environment_answered(
        self, environment: "Environment", invocation: "Invocation", body: bytes, failed: bool, error_type: str | None
    ) -> None: ...

    def environment_back(self, environment: "Environment") -> None: ...

    def environment_exited(
        self, environment: "Environment", status: int, was: "Phase", running: "list[Invocation]"
    ) -> None: ...

    def environment_output(self, environment: "Environment", chunk: bytes) -> None: ...
