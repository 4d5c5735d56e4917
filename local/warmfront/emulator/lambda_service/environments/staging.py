"""Lays a function's code, layers and runtime packages out as Lambda does, with links. Knows no processes and no invocations.

What the task root, the layers and the runtime do not hold does not import, here as on Lambda.
"""

import csv
import os
import shutil
import sys
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from warmfront.emulator.lambda_service import runtimes
from warmfront.emulator.template import FunctionConfig, LayerConfig

RUNTIME_PACKAGES = ("awslambdaric", "boto3")
"""In Lambda's Python runtimes, with what they need themselves (docs.aws.amazon.com/lambda/latest/dg/lambda-python.html)."""


TRANSPORT = Path(runtimes.__file__).parent / "transport" / "runtime_client.py"
"""Takes the place of the official client's native module: the same functions in fewer system calls."""


class StagingError(Exception):
    """Code that cannot be laid out, in one line that names the fix."""


def link(target: Path, name: Path) -> None:
    """Make `name` a link to `target`, replacing an older link."""
    name.parent.mkdir(parents=True, exist_ok=True)
    if name.is_symlink():
        name.unlink()
    name.symlink_to(target, target_is_directory=target.is_dir())


def stage_runtime(directory: Path, *, native_client: bool) -> Path:
    """The runtime's own packages, as /var/runtime holds them; `native_client`: the runtime client's own transport too."""
    missing = link_distributions(RUNTIME_PACKAGES, directory)
    if missing:
        raise FileNotFoundError(
            f"the emulator's own installation lacks {', '.join(missing)}; run `make clean` and try again"
        )
    if not native_client:
        link(TRANSPORT, directory / TRANSPORT.name)
        for native in directory.glob("runtime_client.*.so"):
            native.unlink()
    return directory


def stage_code(directory: Path, config: FunctionConfig) -> tuple[Path, list[str]]:
    """A function's task root; returns it with warnings. The code folder itself serves where nothing has to be added."""
    shutil.rmtree(directory, ignore_errors=True)
    if config.inline_code is not None:
        return _stage_inline(directory, config), []
    code, parent_package = config.code_path, config.parent_package
    if code.is_file():
        return _unpack(directory, config), []
    requirements = code / "requirements.txt"
    wanted = [] if config.built or not requirements.is_file() else read_requirements(requirements)
    if not parent_package and not wanted and config.dependencies is None:
        return code, []
    directory.mkdir(parents=True)
    if parent_package:
        link(code, directory.joinpath(*parent_package))
    elif config.runtime.startswith("nodejs"):  # Node looks for packages beside the file that a link leads to
        shutil.copytree(code, directory, dirs_exist_ok=True)
    else:
        for entry in code.iterdir():
            link(entry, directory / entry.name)
    _add_dependencies(directory, config.dependencies, wanted)
    return directory, []


def _stage_inline(directory: Path, config: FunctionConfig) -> Path:
    """InlineCode is one file, index (docs: AWSCloudFormation, AWS::Lambda::Function Code)."""
    directory.mkdir(parents=True)
    name = "index.js" if config.runtime.startswith("nodejs") else "index.py"
    (directory / name).write_text(config.inline_code or "", encoding="utf-8")
    return directory


def _unpack(directory: Path, config: FunctionConfig) -> Path:
    """The content of a zip file, with the permissions it was packed with."""
    directory.mkdir(parents=True)
    try:
        with zipfile.ZipFile(config.code_path) as archive:
            for entry in archive.infolist():
                path = Path(archive.extract(entry, directory))
                mode = entry.external_attr >> 16 & 0o777
                if mode and not entry.is_dir():
                    path.chmod(mode)
    except zipfile.BadZipFile as error:
        raise StagingError(
            f"{config.code_path}: {error}; CodeUri of {config.logical_id} must be a folder or a zip file"
        ) from None
    return directory


def stage_layer(directory: Path, layer: LayerConfig) -> tuple[Path, list[str]]:
    """A folder laid out as /opt: made of a layer that `sam build` would still have to build, or the layer's own."""
    content = layer.content_path
    assert content is not None
    if layer.build_method is None:
        return content, []
    shutil.rmtree(directory, ignore_errors=True)
    python = directory / "python"
    python.mkdir(parents=True)
    if layer.parent_packages:
        for package in layer.parent_packages:
            link(content, python.joinpath(*package.split(".")))
    else:
        for entry in content.iterdir():
            link(entry, python / entry.name)
    requirements = content / "requirements.txt"
    wanted = read_requirements(requirements) if requirements.is_file() else []
    _add_dependencies(python, layer.dependencies, wanted)
    return directory, []


def _add_dependencies(directory: Path, installed: Path | None, wanted: Iterable[str]) -> None:
    """Link what was installed for this code, or the emulator's own packages; what the code brings itself stays."""
    if installed is None:
        link_distributions(wanted, directory)
        return
    for entry in installed.iterdir():
        if not (directory / entry.name).exists():
            link(entry, directory / entry.name)


def read_requirements(path: Path) -> list[str]:
    """Requirement lines of a requirements.txt; options, comments and hashes are passed over."""
    lines = []
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        text = line.split(" #")[0].split(" --hash")[0].strip()
        if text and not text.startswith(("#", "-")):
            lines.append(text)
    return lines


def link_distributions(requirements: Iterable[str], directory: Path) -> list[str]:
    """Link installed distributions, and all they need, into `directory`; returns the names that are not installed."""
    directory.mkdir(parents=True, exist_ok=True)
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
        _link_one(distribution, directory)
        queue += [(needed, False) for needed in _needs(distribution, requirement.extras)]
    return missing


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


def _link_one(distribution: metadata.Distribution, directory: Path) -> None:
    for entry in _entries(distribution) - {"", "..", "__pycache__"}:
        target = Path(str(distribution.locate_file(entry)))
        if target.exists() and not (directory / entry).exists():
            link(target, directory / entry)


def _entries(distribution: metadata.Distribution) -> set[str]:
    """What it has at the top of site-packages. `files` would look for each of its files, boto3's 2,000 at every start."""
    record = distribution.read_text("RECORD")
    if record is None:
        return {file.parts[0] for file in distribution.files or []}
    return {row[0].partition("/")[0] for row in csv.reader(record.splitlines()) if row}


def python_command(script: Path) -> tuple[str, ...]:
    """An interpreter that sees only what it is given: no site-packages (-S), no folder of the script or the caller (-P)."""
    return (os.path.realpath(sys.executable), "-P", "-S", str(script))
