"""What all functions share: where logs go, how processes are guarded, the account's books, and the emulator's choices."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from warmfront.emulator.lambda_service.environments.idle_reaper import Freezer
from warmfront.emulator.lambda_service.environments.process_group import Guard
from warmfront.emulator.lambda_service.functions.invocation_observer import Observer
from warmfront.emulator.lambda_service.logs.sinks import LogSink

INIT_LIMIT_S = 10.0
"""docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html: the init phase is limited to 10 seconds."""


class Limits(Protocol):
    """The account's concurrency, shared by all functions without a reservation of their own."""

    reason: str
    """Of the refusal, in TooManyRequestsException."""

    def take(self) -> bool: ...

    def give_back(self) -> None: ...


@dataclass(slots=True)
class Counters:
    """What happened to a function since the emulator started."""

    invocations: int = 0
    cold_starts: int = 0
    errors: int = 0
    throttles: int = 0


@dataclass(frozen=True, slots=True)
class Workplace:
    """The same for every function."""

    sink: LogSink
    state_dir: Path
    region: str = "us-east-1"
    freezer: Freezer | None = None
    guard: Guard = field(default_factory=Guard)
    idle_s: float = 600.0
    shutdown_grace_s: float = 0.5
    init_limit_s: float = INIT_LIMIT_S
    max_inits_kept: int = 1000
    note: Callable[[str], None] = field(default=lambda _: None)
    """Takes one line that somebody at the terminal should see."""
    observer: Observer | None = None
