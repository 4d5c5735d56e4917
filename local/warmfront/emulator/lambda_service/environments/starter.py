"""What an environment is started from, what became of that, and what its process noted of it."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from warmfront.emulator.lambda_service import failures
from warmfront.emulator.lambda_service.environments.mount_namespace import FunctionMounts
from warmfront.emulator.lambda_service.environments.process_group import Guard, Sandbox, SandboxHost


@dataclass(frozen=True, slots=True)
class InitFailure:
    """Why an init did not end at `/next`."""

    payload: bytes
    error_type: str
    status: str
    """`error` or `timeout`, as INIT_REPORT words it."""
    init_ms: float

    @classmethod
    def not_spawned(cls, command: str, error: OSError) -> Self:
        reason = f"fork/exec {command}: {error.strerror or error}"
        return cls(failures.spawn_failed("", reason), "Runtime.InvalidEntrypoint", "error", 0.0)

    @classmethod
    def died(cls, status: int, init_ms: float, *, out_of_memory: bool) -> Self:
        """The process ended before it asked for an event."""
        if out_of_memory:
            return cls(failures.out_of_memory(""), "Runtime.OutOfMemory", "error", init_ms)
        return cls(failures.runtime_exited("", status), "Runtime.ExitError", "error", init_ms)


class Starter(Protocol):
    """Where the processes of an environment come from: a command, or a snapshot."""

    @property
    def command(self) -> str: ...

    @property
    def mounts(self) -> FunctionMounts | None: ...

    async def open(self, environ: Mapping[str, str], host: SandboxHost, guard: Guard, held_fd: int = -1) -> Sandbox:
        """Start with these variables beside the function's own. Raises OSError.

        `held_fd`: descriptor of the mounts of the environment's last process, whose /tmp is kept; -1: there was none.
        """


def read_milestones(path: Path) -> dict[str, object]:
    """What a bootstrap noted in this file, newer notes over older ones."""
    found: dict[str, object] = {}
    spans = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8").splitlines():
            note = json.loads(line)
            if "span" in note:
                spans.append({"name": note["span"], "start_ns": note["start_ns"], "end_ns": note["end_ns"]})
            else:
                found.update(note)
    return {**found, "spans": spans}
