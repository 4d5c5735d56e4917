"""The procedure that judges a template before anything runs: what the doctor says of it, and of it with mistakes made in it.

The doctor is asked as a person asks it, through its command; nothing here knows one of its rules.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from warmfront.lab.experiments import ExperimentError
from warmfront.lab.overlay import overlaid
from warmfront.lab.scene import Observation, Scene

EXAMPLES_MAX = 10


class Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Procedure `doctor`: each mistake is a set of variables, made one after the other in a copy of the template."""

    mistake: list[dict[str, str]]


async def doctor(scene: Scene) -> Observation:
    """Nothing is found in the template as it is, and something in it with any of the mistakes."""
    wanted = scene.options(Checked)
    settings, function = scene.emulator.settings, scene.variant.function
    as_it_is = await _findings(settings.template, {function: settings.variables.get(function, {})}, settings.parameters)
    found = await asyncio.gather(
        *(_findings(settings.template, {function: made}, settings.parameters) for made in wanted.mistake)
    )
    missed = [made for made, more in zip(wanted.mistake, found, strict=True) if not set(more) - set(as_it_is)]
    return Observation(
        {"findings": float(len(as_it_is)), "mistakes": float(len(wanted.mistake)), "missed": float(len(missed))},
        examples=[*as_it_is, *(f"missed: {made}" for made in missed)][:EXAMPLES_MAX],
    )


async def _findings(
    template: Path, variables: Mapping[str, Mapping[str, str]], parameters: tuple[str, ...]
) -> list[str]:
    with overlaid(template, variables) as copy:
        command = [sys.executable, "-m", "warmfront", "doctor", "--template", str(copy), "--json"]
        command += ["--parameter-overrides", *parameters] if parameters else []
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
    if process.returncode not in (0, 1):
        raise ExperimentError(f"the doctor could not read {template}: {err.decode(errors='replace').strip()}")
    entries: list[dict[str, Any]] = json.loads(out)
    return [f"{entry['where']}: {entry['rule']}: {entry['message']}" for entry in entries]
