"""Reads requirements files, and tells which requirements this machine or the code's own folder already meets."""

import re
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

FILES = ("requirements.txt", "pyproject.toml")
"""In the order in which they are looked for; SAM's builder reads only the first of them."""


@dataclass(slots=True)
class Requirements:
    """What one file, and those that it includes with -r and -c, asks for."""

    path: Path
    lines: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    """Lines that only an installer can weigh: -e, paths, URLs, constraints. Not options, which ask for nothing."""
    texts: list[str] = field(default_factory=list)
    """Contents of all files, for the key of the cache."""


def read_project(folder: Path) -> Requirements | None:
    """The requirements of a function's or layer's folder; None where there are none. Raises OSError and ValueError."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    found = Requirements(path)
    if path.suffix == ".toml":
        text = path.read_text(encoding="utf-8")
        found.texts.append(text)
        found.lines += tomllib.loads(text).get("project", {}).get("dependencies", [])
    else:
        _read_file(path, found, constraint=False, seen=set())
    return found if found.lines or found.special else None


def _read_file(path: Path, found: Requirements, *, constraint: bool, seen: set[Path]) -> None:
    if path.resolve() in seen:
        return
    seen.add(path.resolve())
    text = path.read_text(encoding="utf-8-sig")
    found.texts.append(text)
    for raw in text.replace("\\\n", " ").splitlines():
        line = re.split(r"(?:^|\s)#", raw)[0].strip()
        if not line:
            continue
        if line.startswith("-"):
            _read_option(line, path, found, constraint=constraint, seen=seen)
        elif not constraint:
            line = re.split(r"\s--hash", line)[0].strip()
            (found.lines if _is_requirement(line) else found.special).append(line)


def _read_option(line: str, path: Path, found: Requirements, *, constraint: bool, seen: set[Path]) -> None:
    name, *values = shlex.split(line.replace("=", " ", 1) if line.startswith("--") else line)
    if name[:2] in ("-r", "-c") and len(name) > 2 and not name.startswith("--"):
        name, values = name[:2], [name[2:]]
    if name in ("-r", "--requirement", "-c", "--constraint") and values:
        is_constraint = constraint or name in ("-c", "--constraint")
        _read_file(path.parent / values[0], found, constraint=is_constraint, seen=seen)
        if is_constraint:
            found.special.append(line)  # a limit on what is installed, which only the installer weighs
    elif name in ("-e", "--editable"):
        found.special.append(line)


def _is_requirement(line: str) -> bool:
    try:
        return Requirement(line).url is None
    except InvalidRequirement:
        return False


def unmet(lines: Iterable[str], folder: Path) -> list[str]:
    """Those of the requirements that neither the emulator's own packages nor packages in `folder` meet."""
    return [line for line in lines if not _is_vendored(Requirement(line), folder) and not _is_met(line, set())]


def _is_met(line: str, seen: set[str]) -> bool:
    """Whether an installed distribution of a right version is there, with all that it needs itself for these extras."""
    requirement = Requirement(line)
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return True
    key = f"{canonicalize_name(requirement.name)}[{','.join(sorted(requirement.extras))}]"
    try:
        distribution = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    if not _fits(requirement, distribution.version):
        return False
    if key in seen:
        return True
    seen.add(key)
    for text in distribution.requires or []:
        needed = Requirement(text)
        marker = needed.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in {"", *requirement.extras}):
            continue
        needed.marker = None
        if not _is_met(str(needed), seen):
            return False
    return True


def _is_vendored(requirement: Requirement, folder: Path) -> bool:
    """Whether the code's folder holds the package, as `pip install --target` leaves it."""
    name = canonicalize_name(requirement.name)
    for info in folder.glob("*.dist-info"):
        distribution, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        if canonicalize_name(distribution) == name:
            return _fits(requirement, version)
    module = name.replace("-", "_")
    return (folder / module).is_dir() or (folder / f"{module}.py").is_file()


def _fits(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False
