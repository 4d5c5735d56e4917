"""Starts the process that makes a template's resources, and reads from it what references stand for."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from warmfront.emulator.resources.kinds import is_made
from warmfront.emulator.template import ACCOUNT_ID, Template, TemplateError

TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Stack:
    """The resources as they stand in the local AWS."""

    attributes: Mapping[str, str] = field(default_factory=dict)
    """"Table" (its Ref), "Table.Arn", ...; also template parameters read from SSM, and {{resolve:...}} references."""
    made: Mapping[str, str] = field(default_factory=dict)
    """Logical id -> type."""
    warnings: Sequence[str] = ()


class StackMaker:
    """One process that reads and translates the template while the local AWS starts, then makes the resources."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, template: Template, *, region: str, targets: Sequence[str], kept: bool) -> Self:
        """`targets`: ARNs of queues, topics and buses that functions send to; those outside the template are made too.

        `kept`: the local AWS may hold resources of an earlier run.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "warmfront.emulator.resources.make",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environ(region),
        )
        order = {
            "template": str(template.path),
            "parameters": dict(template.parameters),
            "region": region,
            "account": ACCOUNT_ID,
            "targets": list(targets),
            "kept": kept,
        }
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        return cls(process)

    async def make(self, endpoint: str) -> Stack:
        """Make the resources in the local AWS at `endpoint`. Raises TemplateError where the template is at fault."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                output, errors = await self._process.communicate(endpoint.encode() + b"\n")
        except TimeoutError:
            return Stack(warnings=(f"the template's resources were not made in the local AWS within {TIMEOUT_S:g} s",))
        finally:
            self.stop()
        try:
            found = json.loads(output)
        except ValueError:
            last = errors.decode(errors="replace").strip().rpartition("\n")[2]
            return Stack(warnings=(f"the template's resources were not made in the local AWS: {last}",))
        if "error" in found:
            raise TemplateError(found["error"])
        return Stack(found["attributes"], found["made"], tuple(found["warnings"]))

    def stop(self) -> None:
        """End the process if it still runs."""
        if self._process.returncode is None:
            self._process.kill()


def _environ(region: str) -> dict[str, str]:
    """Nothing of the caller's AWS settings: the process must not find real credentials."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "PYTHONHASHSEED") if name in os.environ}
    return kept | {"AWS_DEFAULT_REGION": region, "AWS_CONFIG_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}


def has_resources(template: Template) -> bool:
    """Whether the template holds anything that is made in the local AWS."""
    return any(is_made(kind) for kind in template.resource_types.values())


def sending_targets(template: Template) -> list[str]:
    """ARNs that functions send to: destinations and dead-letter queues."""
    found = {config.dead_letter_arn for config in template.functions.values()}
    for config in template.functions.values():
        settings = config.event_invoke_config
        if settings is not None:
            found |= {each.arn for each in (settings.on_success, settings.on_failure) if each is not None}
    own = {queue.arn for queue in template.queues.values()}
    return sorted(arn for arn in found - own if arn)


def summary(stack: Stack) -> str:
    """`3 Table, 1 Queue`: what was made, by type."""
    counts = Counter(kind.rpartition("::")[2] for kind in stack.made.values())
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
