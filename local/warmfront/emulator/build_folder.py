"""Decides whether the output of `sam build` in .aws-sam/build is newer than its sources."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from warmfront.emulator.template import Template

BUILD = Path(".aws-sam", "build", "template.yaml")
NOT_SOURCES = frozenset({"__pycache__", "node_modules"})


def compare_with_build(template: Template) -> tuple[bool, str | None]:
    """Whether a build of this template is newer than its sources, and a line for the terminal; None where nothing was built."""
    build = template.path.parent / BUILD
    if template.path.parts[-3:-1] == (".aws-sam", "build") or not build.is_file():
        return False, None
    built_at = build.stat().st_mtime
    changed = next((path for path in _sources(template) if _changed_at(path) > built_at), None)
    if changed is None:
        return (
            True,
            f"{build.parent} is newer than the sources and is served; run `sam build` after a change, or use --no-built",
        )
    return (
        False,
        f"{build.parent} is older than {changed}: the sources are served; run `sam build` again, or use --built",
    )


def _sources(template: Template) -> Iterator[Path]:
    """The template and every file of its functions' and layers' code."""
    yield template.path
    folders = {config.code_path for config in template.functions.values() if config.inline_code is None}
    for config in template.functions.values():
        folders |= {layer.content_path for layer in config.layers if layer.content_path is not None}
    for folder in sorted(folders):
        if folder.is_file():
            yield folder
        yield from _files(folder)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # a broken link
        return 0.0


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = _visible(folders)
        yield from (Path(parent, name) for name in _visible(files))


def _visible(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith(".") and name not in NOT_SOURCES]
