"""Joins requests, invocations and the segments of handlers into one trace when it is requested."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from warmfront.emulator.lambda_service.trace_header import root
from warmfront.emulator.observe.recorder import Answered, Ended

_MS = 1e6


@dataclass(slots=True)
class Span:
    """A piece of work; times in nanoseconds of Unix time."""

    id: str
    parent: str | None
    name: str
    kind: str
    function: str | None
    start_ns: float
    end_ns: float
    status: str = "ok"
    error: str | None = None
    annotations: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


def segment_id(ended: Ended) -> str:
    """The id under which a handler's own subsegments hang: `Parent` of the header that the function was given."""
    parent = ended.trace_header.partition("Parent=")[2].partition(";")[0]
    return parent or f"invoke-{ended.request_id}"


def is_sampled(header: str) -> bool:
    return "Sampled=1" in header


def assemble(
    trace_id: str,
    requests: Sequence[Answered],
    invocations: Sequence[tuple[str, Ended]],
    segments: Iterable[dict[str, Any]],
    *,
    epoch_ns: int,
) -> dict[str, Any] | None:
    """The waterfall. `invocations` with their function's name; `epoch_ns`: Unix time less CLOCK_MONOTONIC. None: an unknown trace."""
    spans = [_gateway_span(index, each) for index, each in enumerate(requests)]
    for function, ended in invocations:
        spans += _invocation_spans(function, ended, requests)
    for span in spans:
        span.start_ns += epoch_ns
        span.end_ns += epoch_ns
    of_invocation = {segment_id(ended): function for function, ended in invocations}
    spans += [_segment_span(document, of_invocation) for document in segments if _has_times(document)]
    if not spans:
        return None
    begin_ns = min(span.start_ns for span in spans)
    sampled = any(is_sampled(ended.trace_header) for _, ended in invocations)
    return {
        "trace_id": trace_id,
        "started_s": begin_ns / 1e9,
        "duration_ms": round((max(span.end_ns for span in spans) - begin_ns) / _MS, 3),
        "sampled": sampled,
        "spans": [_shown(span, begin_ns) for span in _in_order(spans)],
    }


def _gateway_span(index: int, request: Answered) -> Span:
    status = "throttled" if request.status == 429 else "error" if request.status >= 500 else "ok"
    annotations = {
        "api": request.api,
        "route": request.route,
        "path": request.path,
        "http_status": request.status,
        "request_id": request.request_id,
    }
    name = f"{request.method} {request.path}"
    return Span(
        f"gateway-{index}", None, name, "gateway", request.function, request.began_ns, request.ended_ns, status,
        annotations=annotations,
    )  # fmt: skip


def _invocation_spans(function: str, ended: Ended, requests: Sequence[Answered]) -> list[Span]:
    """Queue, init where it had one, invoke."""
    parent = next(
        (f"gateway-{i}" for i, each in enumerate(requests) if each.began_ns <= ended.received_ns <= each.ended_ns), None
    )
    began_ns = ended.dispatched_ns or ended.ended_ns
    had_init = ended.received_ns <= ended.spawned_ns <= ended.ended_ns
    wait_end_ns = min(ended.spawned_ns, began_ns) if had_init else began_ns
    spans = [Span(f"queue-{ended.request_id}", parent, "queue", "queue", function, ended.received_ns, wait_end_ns)]
    invoke = Span(
        segment_id(ended), parent, function, "invoke", function, began_ns, began_ns + ended.duration_ms * _MS,
        "timeout" if ended.status == "timeout" else "error" if ended.status != "ok" else "ok",
        ended.error_type if ended.status != "ok" else None,
        {"request_id": ended.request_id, "environment": ended.environment, "memory_used_mb": ended.memory_used_mb},
    )  # fmt: skip
    if had_init:
        # A ready time before the spawn is that of an earlier process: this one never got so far.
        init_end_ns = ended.ready_ns if ended.ready_ns > ended.spawned_ns else ended.ended_ns
        within = invoke.id if ended.init_ms is None else parent
        spans.append(Span(f"init-{ended.request_id}", within, "init", "init", function, ended.spawned_ns, init_end_ns))
    return [*spans, invoke]


def _has_times(document: dict[str, Any]) -> bool:
    return isinstance(document.get("start_time"), int | float)


def _segment_span(document: dict[str, Any], of_invocation: dict[str, str]) -> Span:
    start_ns = document["start_time"] * 1e9
    end = document.get("end_time")
    known: dict[str, dict[str, Any]] = {"annotations": {}, "metadata": {}}
    for name in known:
        value = document.get(name)
        known[name] = dict(value) if isinstance(value, dict) else {}
    for name in ("http", "sql", "aws"):
        if isinstance(document.get(name), dict):
            known["metadata"][name] = document[name]
    parent = document.get("parent_id")
    failed = bool(document.get("fault") or document.get("error"))
    return Span(
        str(document.get("id")),
        None if parent is None else str(parent),
        str(document.get("name", "")),
        "segment",
        of_invocation.get(str(parent)),
        start_ns,
        end * 1e9 if isinstance(end, int | float) else start_ns,
        "throttled" if document.get("throttle") else "error" if failed else "ok",
        _cause(document),
        known["annotations"],
        known["metadata"],
    )


def _cause(document: dict[str, Any]) -> str | None:
    cause = document.get("cause")
    exceptions = cause.get("exceptions") if isinstance(cause, dict) else None
    if not isinstance(exceptions, list) or not exceptions or not isinstance(exceptions[0], dict):
        return None
    kind, message = exceptions[0].get("type"), exceptions[0].get("message")
    return f"{kind}: {message}" if message else str(kind)


def _in_order(spans: list[Span]) -> list[Span]:
    """Parents before their children, both in order of their start; an entry whose parent is missing stands at the top."""
    known = {span.id for span in spans}
    children: dict[str | None, list[Span]] = {}
    for span in sorted(spans, key=lambda each: each.start_ns):
        if span.parent not in known or span.parent == span.id:
            span.parent = None
        children.setdefault(span.parent, []).append(span)
    ordered: list[Span] = []
    stack = list(reversed(children.get(None, [])))
    while stack:
        span = stack.pop()
        ordered.append(span)
        inside = children.pop(span.id, [])
        for child in inside:
            child.function = child.function or span.function
        stack += reversed(inside)
    return ordered


def _shown(span: Span, begin_ns: float) -> dict[str, Any]:
    return {
        "id": span.id,
        "parent": span.parent,
        "name": span.name,
        "kind": span.kind,
        "function": span.function,
        "start_ms": round((span.start_ns - begin_ns) / _MS, 3),
        "duration_ms": round(max(span.end_ns - span.start_ns, 0.0) / _MS, 3),
        "status": span.status,
        "error": span.error,
        "annotations": span.annotations,
        "metadata": span.metadata,
    }


def same_trace(header: str, trace_id: str) -> bool:
    return trace_id in header and root(header) == trace_id
