"""Splits a cold start into consecutive stages, from milestones recorded by three processes.

Milestones are CLOCK_MONOTONIC nanoseconds of the emulator (spawned, ready, first invoke and response), of the environment
itself (bootstrap, client, imports done, spans) and of the caller (sent, first byte). A stage is the time between two of them.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

WHOLE = "spawn_to_first_byte"
FIRST_INVOKE = ("secret", "connect", "authentication", "prepare", "query", "handler")
# The order in which an environment passes its milestones, and the stage that each ends.
ON_DEMAND = (
    ("bootstrap_ns", "process_start"),
    ("client_ns", "runtime_client"),
    ("imports_done_ns", "imports"),
    ("ready_ns", "runtime"),
)
SNAP_START = (
    ("forked_ns", "process_start"),
    ("client_ns", "runtime_client"),
    ("restored_ns", "restore"),
    ("ready_ns", "runtime"),
)


def stages_of(init: Mapping[str, Any], *, first_byte_ns: int, ahead: bool = False) -> dict[str, float]:
    """Return the milliseconds of each stage, and of the whole as `spawn_to_first_byte`.

    Args:
        init: the milestones of one environment, as the control surface reports them.
        first_byte_ns: when the caller received the response.
        ahead: the environment was started before the request (provisioned), so the whole begins with the invocation.
    """
    found = init_stages(init)
    whole = first_byte_ns - (init["first_invoke_ns"] if ahead else init["spawned_ns"])
    if not ahead:
        found["dispatch"] = (init["first_invoke_ns"] - init["ready_ns"]) / 1e6
    else:
        found = {}
    found |= invoke_stages(init)
    found["answer"] = (first_byte_ns - init["first_response_ns"]) / 1e6
    return {WHOLE: whole / 1e6, **found}


def init_stages(init: Mapping[str, Any]) -> dict[str, float]:
    """Return the stages from the spawn to the first `/next`, in ms. A custom runtime records no milestones: one stage `init`."""
    order = SNAP_START if "forked_ns" in init else ON_DEMAND
    if any(name not in init for name, _ in order):
        return {"init": (init["ready_ns"] - init["spawned_ns"]) / 1e6}
    before, stages = init["spawned_ns"], {}
    for name, stage in order:
        stages[stage] = (init[name] - before) / 1e6
        before = init[name]
    return stages


def invoke_stages(init: Mapping[str, Any]) -> dict[str, float]:
    """Return the stages of the first invocation in ms: the spans that its process recorded, and the rest as `handler`."""
    spans = {
        span["name"]: span
        for span in reversed(init.get("spans", ()))
        if init["first_invoke_ns"] <= span["start_ns"] <= init["first_response_ns"]
    }
    lengths = {name: span["end_ns"] - span["start_ns"] for name, span in spans.items()}
    found: dict[str, int] = {}
    if "secret" in lengths:
        found["secret"] = lengths["secret"]
    if "connect" in lengths:
        tcp = lengths["tcp"] if _inside(spans.get("tcp"), spans["connect"]) else 0
        found["connect"] = tcp or lengths["connect"]
        if tcp:
            found["authentication"] = lengths["connect"] - tcp
    if "first_query" in lengths:
        prepare = lengths["prepare"] if _inside(spans.get("prepare"), spans["first_query"]) else 0
        if prepare:
            found["prepare"] = prepare
        found["query"] = lengths["first_query"] - prepare
    whole = init["first_response_ns"] - init["first_invoke_ns"]
    found["handler"] = max(0, whole - sum(found.values()))
    return {name: found[name] / 1e6 for name in FIRST_INVOKE if name in found}


def _inside(inner: Mapping[str, Any] | None, outer: Mapping[str, Any]) -> bool:
    return inner is not None and outer["start_ns"] <= inner["start_ns"] and inner["end_ns"] <= outer["end_ns"]


def ready_ms(init: Mapping[str, Any]) -> float:
    """Return the milliseconds from the spawn (or the start of a restore) to the client's first `/next`."""
    return float(init["ready_ns"] - init["spawned_ns"]) / 1e6


def unaccounted(samples: Sequence[tuple[Mapping[str, float], float]]) -> float:
    """Return the median share of the caller's latency that the stages do not add up to.

    Args:
        samples: (stages in ms, the caller's latency in ms) of each cold start.
    """
    return median(
        abs(sum(value for name, value in stages.items() if name != WHOLE) - latency_ms) / latency_ms
        for stages, latency_ms in samples
    )
