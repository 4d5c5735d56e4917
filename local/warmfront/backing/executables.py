"""Finds server programs on this machine and reads their versions."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import BackingError
from .identity import SELF, Identity

type Origin = Literal["url", "system", "wheel"]
type OriginChoice = Literal["auto", "url", "system", "wheel"]
type OwnChoice = Literal["auto", "system", "wheel"]
"""Where servers of our own come from; `auto`: the machine's programs before the wheels'."""

VERSION_TIMEOUT_S = 10.0
SCRIPT_READ_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Refusal:
    """A place that was searched, and why the program found there cannot be used."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def backing_of_shell(environ: Mapping[str, str]) -> OwnChoice:
    """The setting WARMFRONT_BACKING. Raises BackingError for `url`: foreign servers are used only if the command says so."""
    match environ.get("WARMFRONT_BACKING", "auto"):
        case "auto" | "system" | "wheel" as choice:
            return choice
        case other:
            raise BackingError(
                f"WARMFRONT_BACKING={other}: must be auto, system or wheel; `--backing url` is for the command line"
            )


def on_path(program: str, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield every executable of that name on PATH, in order, links not resolved."""
    for folder in environ.get("PATH", "").split(os.pathsep):
        candidate = Path(folder, program)
        if folder and candidate.is_file() and os.access(candidate, os.X_OK):
            yield candidate


def resolve_program(path: Path) -> Path:
    """Return the program that `path` starts: the target of a link, or what a wrapper script names by its full path."""
    path = path.resolve()
    with path.open("rb") as file:
        head = file.read(SCRIPT_READ_BYTES)
    if not head.startswith(b"#!"):
        return path
    named = re.findall(rb"(/[^\s\"'=:;]+/" + re.escape(os.fsencode(path.name)) + rb")(?![\w.-])", head)
    targets = (Path(os.fsdecode(each)) for each in named)
    return next((each.resolve() for each in targets if each != path and os.access(each, os.X_OK)), path)


def version_of(path: Path, identity: Identity = SELF) -> str | Refusal:
    """Return the version that `--version` prints, such as `18.6`, `7.0.15`, or `19` for a beta."""
    try:
        done = subprocess.run(
            identity.command([str(path), "--version"]),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=VERSION_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Refusal(str(path), f"cannot be run: {getattr(error, 'strerror', None) or error}")
    said = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode != 0:
        return Refusal(str(path), f"`--version` failed: {said[-1] if said else f'exit status {done.returncode}'}")
    match = re.search(r"(?<=[\s=])\d+(\.\d+)*", done.stdout)
    return match.group() if match else Refusal(str(path), "`--version` names no version")


def major(version: str) -> int:
    return int(version.partition(".")[0])
