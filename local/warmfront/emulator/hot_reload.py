"""Takes changed code into new environments while the emulator runs, and says what of a changed template needs a new start."""

import asyncio
from pathlib import Path

from warmfront.emulator.lambda_service.environments.reload import SourceWatch
from warmfront.emulator.lambda_service.environments.staging import StagingError
from warmfront.emulator.lambda_service.service import LambdaService
from warmfront.emulator.template import TemplateError
from warmfront.emulator.template.source import parse

_TEMPLATE = ""
"""Stands for the template among the logical ids of what has changed."""


def watch_sources(service: LambdaService, *, warm: int) -> SourceWatch:
    """Watch the code of all functions, and the template. `warm`: environments that are started ahead again after a change.

    Invocations in flight finish in the folders they began with: a changed function is laid out in a fresh one.
    """
    note = service.options.note
    template = service.template.path.resolve()
    served = _text(template)
    reloads: set[asyncio.Task[None]] = set()

    async def reload(logical_ids: set[str], name: str) -> None:
        if _TEMPLATE in logical_ids and (about := describe_change(served, _text(template), template.name)):
            note(about)
        changed = sorted(logical_ids - {_TEMPLATE})
        if not changed:
            return
        try:
            await service.reload(changed)
        except StagingError as error:
            note(f"{error}; {', '.join(changed)} run their old code")
            return
        note(f"{name} has changed: new environments of {', '.join(changed)} take it")
        if warm:
            await service.warm(warm)

    def on_change(logical_ids: set[str], name: str) -> None:
        task = asyncio.get_running_loop().create_task(reload(logical_ids, name))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    return SourceWatch({**service.watched(), _TEMPLATE: [template]}, on_change, note)


def describe_change(served: str, now: str, name: str) -> str | None:
    """What of the template needs a new start of the emulator; None where it means the same as the one that is served."""
    try:
        old, new = parse(served, name)[0], parse(now, name)[0]
    except TemplateError as error:
        return f"{error}; the template of the start is served on"
    changed = [f"section {each}" for each in _differing(old, new) if each != "Resources"]
    changed += _differing(old.get("Resources") or {}, new.get("Resources") or {})
    if not changed:
        return None
    return f"{name} has changed: stop and start `warmfront serve` to take {', '.join(changed)}"


def _differing(old: dict[str, object], new: dict[str, object]) -> list[str]:
    return [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""
