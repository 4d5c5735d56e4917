"""Parses Lambda's REPORT lines, as text or JSON, in logs of CloudWatch or of the emulator."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TEXT = re.compile(r"REPORT RequestId: \S+\s+Duration: ([\d.]+) ms\s+Billed Duration: (\d+) ms\s+(.*)")
_FIELDS = {
    "memory_size_mb": re.compile(r"Memory Size: (\d+) MB"),
    "max_memory_mb": re.compile(r"Max Memory Used: (\d+) MB"),
    "init_ms": re.compile(r"Init Duration: ([\d.]+) ms"),
}


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one invocation in its REPORT line. `init_ms`: None for a warm start."""

    duration_ms: float
    billed_ms: float
    memory_size_mb: float
    max_memory_mb: float
    init_ms: float | None = None


def reports(lines: Iterable[str]) -> Iterator[Report]:
    """Yield the reports among log lines. A prefix such as a time or a stream's name is ignored."""
    for line in lines:
        if "platform.report" in line:
            found = _from_json(line)
        elif "REPORT RequestId" in line:
            found = _from_text(line)
        else:
            continue
        if found is not None:
            yield found


def read_reports(path: Path, offset: int = 0) -> list[Report]:
    """Return the reports in a file, from an offset in bytes."""
    with path.open("rb") as file:
        file.seek(offset)
        return list(reports(line.decode(errors="replace") for line in file))


def _from_json(line: str) -> Report | None:
    try:
        metrics: dict[str, Any] = json.loads(line[line.index("{") :])["record"]["metrics"]
        return Report(
            metrics["durationMs"],
            metrics["billedDurationMs"],
            metrics["memorySizeMB"],
            metrics["maxMemoryUsedMB"],
            metrics.get("initDurationMs"),
        )
    except (ValueError, KeyError, TypeError):  # a line that mentions reports but is none
        return None


def _from_text(line: str) -> Report | None:
    match = _TEXT.search(line)
    if match is None:
        return None
    found = {name: pattern.search(match[3]) for name, pattern in _FIELDS.items()}
    size, used, init = found["memory_size_mb"], found["max_memory_mb"], found["init_ms"]
    if size is None or used is None:
        return None
    return Report(
        float(match[1]), float(match[2]), float(size[1]), float(used[1]), None if init is None else float(init[1])
    )
