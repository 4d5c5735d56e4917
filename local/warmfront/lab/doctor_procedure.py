"""The procedure `doctor`: runs `warmfront doctor` on the template, and on copies with one mistake each.

It uses the command and not the rules, as a user does.
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
    """Options of the procedure `doctor`. Each mistake is a set of variables that is changed in a copy of the template."""

    mistake: list[dict[str, str]]


async def doctor(scene: Scene) -> Observation:
    """Count the findings in the unchanged template, and the mistakes that the doctor does not find."""
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
