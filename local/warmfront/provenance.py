"""Describes where and when a result was measured: machine, package versions, commit and time."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def now_iso() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# Packages that affect the figures: the layer's and the emulator's.
REPORTED_PACKAGES = (
    "warmfront",
    "awslambdaric",
    "aws-lambda-powertools",
    "asyncpg",
    "redis",
    "hiredis",
    "msgspec",
    "boto3",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "numpy",
)


def versions(packages: Sequence[str] = REPORTED_PACKAGES, *, root: Path | None = None) -> dict[str, str | None]:
    """Return package -> version, None where it is not installed. `commit` is that of the work tree, if there is one."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    found["commit"] = _commit(root or Path(__file__).parent.parent)
    return found


def _commit(root: Path) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def machine() -> dict[str, Any]:
    """Return facts about the machine that affect the figures, and none that identify the machine or its owner."""
    usable = sorted(os.sched_getaffinity(0))
    return {
        "cpu": _first_value(Path("/proc/cpuinfo"), ("model name", "Model", "CPU part")) or platform.machine(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or len(usable),
        "cores_usable": len(usable),
        "memory_bytes": _memory_bytes(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def _first_value(path: Path, names: Sequence[str]) -> str | None:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    values = {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
    return next((values[name] for name in names if values.get(name)), None)


def _memory_bytes() -> int | None:
    total = _first_value(Path("/proc/meminfo"), ("MemTotal",))
    return int(total.split()[0]) * 1024 if total else None
