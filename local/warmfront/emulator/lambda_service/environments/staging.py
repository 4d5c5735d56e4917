"""Lays a function's code and the runtime's packages out as Lambda does, with links.

What the task root, the layers and the runtime do not hold does not import, here as on Lambda.
"""

import contextlib
import csv
import importlib.util
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from warmfront.emulator.lambda_service import runtimes
from warmfront.emulator.template import FunctionConfig

RUNTIME_PACKAGES = ("awslambdaric", "boto3")
"""In Lambda's Python runtimes, with what they need themselves (docs.aws.amazon.com/lambda/latest/dg/lambda-python.html)."""


COMPILE_BUDGET_S = 1.0
TRANSPORT = Path(runtimes.__file__).parent / "transport" / "runtime_client.py"
"""Takes the place of the official client's native module: the same functions in fewer system calls."""


class StagingError(Exception):
    """Code that cannot be laid out, in one line that names the fix."""


@dataclass(frozen=True, slots=True)
class Links:
    """Makes the links that staged folders consist of."""

    prefix: str = ""
    """Where processes find this machine's root; empty: they see it as it is."""

    def link(self, target: Path, name: Path) -> None:
        """Make `name` a link to `target`, replacing an older link."""
        name.parent.mkdir(parents=True, exist_ok=True)
        if name.is_symlink():
            name.unlink()
        name.symlink_to(f"{self.prefix}{target}", target_is_directory=target.is_dir())

    def target(self, path: Path) -> Path:
        """What is at `path` on this machine, where it may be one of our links."""
        if not self.prefix or not path.is_symlink():
            return path
        return Path("/", str(path.readlink()).removeprefix(self.prefix)) if self._ours(path) else path

    def _ours(self, path: Path) -> bool:
        return str(path.readlink()).startswith(f"{self.prefix}/")

    def link_distributions(self, requirements: Iterable[str], directory: Path) -> list[str]:
        """Link installed distributions, and all they need, into `directory`; returns the names that are not installed."""
        directory.mkdir(parents=True, exist_ok=True)
        found, missing = _with_all_they_need(requirements)
        for distribution in found:
            for entry in _entries(distribution) - {"", "..", "__pycache__"}:
                target = Path(str(distribution.locate_file(entry)))
                if target.exists() and not os.path.lexists(directory / entry):
                    self.link(target, directory / entry)
        return missing

    def add_dependencies(self, directory: Path, installed: Path | None, wanted: Iterable[str]) -> None:
        """Link what was installed for this code, or the emulator's own packages; what the code brings itself stays."""
        if installed is None:
            self.link_distributions(wanted, directory)
            return
        for entry in installed.iterdir():
            if not os.path.lexists(directory / entry.name):
                self.link(entry, directory / entry.name)


def stage_runtime(directory: Path, links: Links, *, native_client: bool) -> Path:
    """The runtime's own packages, as /var/runtime holds them; `native_client`: the runtime client's own transport too."""
    missing = links.link_distributions(RUNTIME_PACKAGES, directory)
    if missing:
        raise FileNotFoundError(
            f"the emulator's own installation lacks {', '.join(missing)}; run `make clean` and try again"
        )
    if not native_client:
        links.link(TRANSPORT, directory / TRANSPORT.name)
        for native in directory.glob("runtime_client.*.so"):
            native.unlink()
    return directory


def stage_code(directory: Path, config: FunctionConfig, links: Links) -> tuple[Path, list[str]]:
    """A function's task root; returns it with warnings. The code folder itself serves where nothing has to be added."""
    shutil.rmtree(directory, ignore_errors=True)
    if config.inline_code is not None:
        return _stage_inline(directory, config), []
    code, parent_package = config.code_path, config.parent_package
    if code.is_file():
        return unpack(code, directory, f"CodeUri of {config.logical_id}"), []
    requirements = code / "requirements.txt"
    wanted = [] if config.built or not requirements.is_file() else read_requirements(requirements)
    if not parent_package and not wanted and config.dependencies is None:
        return code, []
    directory.mkdir(parents=True)
    if parent_package:
        links.link(code, directory.joinpath(*parent_package))
    elif config.runtime.startswith("nodejs"):  # Node looks for packages beside the file that a link leads to
        shutil.copytree(code, directory, dirs_exist_ok=True)
    else:
        for entry in code.iterdir():
            links.link(entry, directory / entry.name)
    links.add_dependencies(directory, config.dependencies, wanted)
    return directory, []


def _stage_inline(directory: Path, config: FunctionConfig) -> Path:
    """InlineCode is one file, index (docs: AWSCloudFormation, AWS::Lambda::Function Code)."""
    directory.mkdir(parents=True)
    name = "index.js" if config.runtime.startswith("nodejs") else "index.py"
    (directory / name).write_text(config.inline_code or "", encoding="utf-8")
    return directory


def unpack(archive: Path, directory: Path, name: str) -> Path:
    """The content of a zip file, with the permissions it was packed with. Raises StagingError, which calls it `name`."""
    directory.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                path = Path(opened.extract(entry, directory))
                mode = entry.external_attr >> 16 & 0o777
                if mode and not entry.is_dir():
                    path.chmod(mode)
    except zipfile.BadZipFile as error:
        raise StagingError(f"{archive}: {error}; {name} must be a folder or a zip file") from None
    return directory


def read_requirements(path: Path) -> list[str]:
    """Requirement lines of a requirements.txt; options, comments and hashes are passed over."""
    lines = []
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        text = line.split(" #")[0].split(" --hash")[0].strip()
        if text and not text.startswith(("#", "-")):
            lines.append(text)
    return lines


def _with_all_they_need(requirements: Iterable[str]) -> tuple[list[metadata.Distribution], list[str]]:
    """Installed distributions for these requirement lines, with their own requirements, and the names that are not installed."""
    found: list[metadata.Distribution] = []
    missing: list[str] = []
    seen: set[str] = set()
    queue = [(text, True) for text in requirements]
    while queue:
        text, direct = queue.pop()
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            missing.append(text)
            continue
        key = f"{requirement.name.lower()}[{','.join(sorted(requirement.extras))}]"
        if key in seen or (requirement.marker is not None and not _applies(requirement)):
            continue
        seen.add(key)
        try:
            distribution = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            if direct:
                missing.append(requirement.name)
            continue
        found.append(distribution)
        queue += [(needed, False) for needed in _needs(distribution, requirement.extras)]
    return found, missing


def _applies(requirement: Requirement) -> bool:
    assert requirement.marker is not None
    return requirement.marker.evaluate({"extra": ""})


def _needs(distribution: metadata.Distribution, extras: set[str]) -> list[str]:
    needed = []
    for text in distribution.requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            requirement.marker = None
            needed.append(str(requirement))
    return needed


def _entries(distribution: metadata.Distribution) -> set[str]:
    """What it has at the top of site-packages. `files` would look for each of its files, boto3's 2,000 at every start."""
    record = distribution.read_text("RECORD")
    if record is None:
        return {file.parts[0] for file in distribution.files or []}
    return {row[0].partition("/")[0] for row in csv.reader(record.splitlines()) if row}


def python_command(script: Path) -> tuple[str, ...]:
    """An interpreter that sees only what it is given: no site-packages (-S), no folder of the script or the caller (-P)."""
    return (os.path.realpath(sys.executable), "-P", "-S", str(script))


def compile_sources(folders: Iterable[Path], *, budget_s: float = COMPILE_BUDGET_S) -> None:
    """Write the bytecode of modules that changed beside them, as an import would where the task root is writable.

    Stops after `budget_s`: what is left is compiled by each cold start, as on Lambda.
    """
    deadline = time.monotonic() + budget_s
    for folder in folders:
        for parent, inner, files in os.walk(folder):
            inner[:] = [
                name for name in inner if not name.startswith(".") and name not in ("node_modules", "__pycache__")
            ]
            for name in files:
                if time.monotonic() > deadline:
                    return
                if name.endswith(".py"):
                    _compile(os.path.join(parent, name))  # noqa: PTH118 - one of many


def _compile(path: str) -> None:
    """Compile one module unless its bytecode is newer (docs.python.org/3/reference/import.html, cached bytecode)."""
    try:
        cached = os.stat(importlib.util.cache_from_source(path)).st_mtime_ns  # noqa: PTH116
        if cached >= os.stat(path).st_mtime_ns:  # noqa: PTH116
            return
    except OSError:
        pass  # there is none yet
    import py_compile  # an import that most starts need not pay for

    with contextlib.suppress(OSError):  # a folder that cannot be written, or a file that is gone
        py_compile.compile(path, doraise=False, quiet=2)
