"""Computes figures and descriptions of a run under load: samples, probes, connections, open files, breaker spans."""

import contextlib
import datetime
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from warmfront.bench.load.samples import Outcome, Recording
from warmfront.lab.experiments import Phases
from warmfront.lab.http_client import Reply
from warmfront.lab.measures import Curve, Sample, quantile, windows
from warmfront.lab.proxy_process import ProxyStats
from warmfront.lab.scene import LogPart, Span, ratio


@dataclass(slots=True)
class Watch:
    """What was observed from outside while the load ran."""

    t_s: list[float] = field(default_factory=list)
    connections: list[float] = field(default_factory=list)
    environments: list[float] = field(default_factory=list)
    probes: list[tuple[float, Reply | None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProcessResources:
    """Open files (sockets included) and memory of one process."""

    files: int
    memory_mb: float


def resources_of(pids: Iterable[int]) -> dict[int, ProcessResources]:
    """Return the resources of the living processes, by process id."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            status = Path(f"/proc/{pid}/status").read_text().splitlines()
            resident = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
            found[pid] = ProcessResources(len(list(Path(f"/proc/{pid}/fd").iterdir())), resident)
    return found


@dataclass(frozen=True, slots=True)
class ResourcesBefore:
    """The resources of the warm environments before the fault."""

    resources: Mapping[int, ProcessResources]

    def measures(self, now: Mapping[int, ProcessResources]) -> dict[str, float]:
        """Return the largest growth among environments that still exist."""
        same = [(self.resources[pid], now[pid]) for pid in self.resources.keys() & now.keys()]
        return {
            "files_grown": float(max((after.files - before.files for before, after in same), default=0)),
            "memory_grown_mb": max((after.memory_mb - before.memory_mb for before, after in same), default=0.0),
        }


def samples_of(recordings: Sequence[Recording], began_s: float) -> list[Sample]:
    """Return the requests of all generators, in the order of their due times."""
    found = [
        Sample(
            due_s=intended / 1e9 - began_s,
            latency_s=(done - intended) / 1e9,
            status=status if outcome in (Outcome.OK, Outcome.STATUS, Outcome.BODY) else 0,
            ok=outcome == Outcome.OK,
            wrong_body=outcome == Outcome.BODY,
        )
        for recording in recordings
        for intended, done, status, outcome in zip(
            recording.intended_ns, recording.done_ns, recording.status, recording.outcome, strict=True
        )
    ]
    return sorted(found, key=lambda sample: sample.due_s)


def describe_responses(samples: Sequence[Sample], phases: Phases, log: LogPart) -> list[str]:
    """Describe which responses came in each phase, and the last error in the log."""
    lines = []
    for name, window in windows(samples, phases, 1.0).items():
        statuses = Counter(sample.status for sample in window.samples)
        counts = ", ".join(f"{count} x {status or 'no answer'}" for status, count in sorted(statuses.items()))
        lines.append(f"{name}: {counts}")
    return [*lines, f"log: {last_error(log)}"]


def send_delay_ms(recordings: Sequence[Recording], until_s: float) -> float:
    """Return how late the load generator sent (p95, ms). Only a busy machine delays it."""
    late = sorted(
        (sent - due) / 1e6
        for recording in recordings
        for due, sent in zip(recording.intended_ns, recording.sent_ns, strict=True)
        if due / 1e9 < until_s
    )
    return quantile(late, 0.95) if late else 0.0


def is_planned(reply: Reply | None) -> bool:
    """Return whether a client can act on the reply: success, or problem details, with Retry-After for a 503."""
    if reply is None:
        return False
    if reply.status < 400:
        return True
    problem = reply.headers.get("content-type", "").startswith("application/problem+json")
    return problem and reply.status != 500 and (reply.status != 503 or "retry-after" in reply.headers)


def probe_measures(watch: Watch, fault: Span) -> dict[str, float]:
    during = [reply for due_s, reply in watch.probes if fault.start_s <= due_s < fault.end_s]
    unplanned = sum(not is_planned(reply) for reply in during)
    return {"during.probes": float(len(during)), "during.unplanned_share": ratio(unplanned, len(during))}


def dial_measures(samples: Sequence[Sample], phases: Phases, stats: Sequence[ProxyStats]) -> dict[str, float]:
    """Return the rate of new database connections; `late` is the fault's second half, when all breakers have opened."""
    at_start, at_half, at_end, after = (each.accepted for each in stats)
    half_s = phases.fault_on_s + phases.during_s / 2
    early = sum(phases.fault_on_s <= sample.due_s < half_s for sample in samples)
    late = sum(half_s <= sample.due_s < phases.fault_off_s for sample in samples)
    return {
        "during.dials": float(at_end - at_start),
        "during.dials_per_request": ratio(at_end - at_start, early + late),
        "during.late_dials_per_request": ratio(at_end - at_half, late),
        "after.dials": float(after - at_end),
        "connections_max": float(stats[-1].open_max),
    }


def last_error(log: LogPart) -> str:
    complaints = [line for line in log.text().splitlines() if "rror" in line]
    return complaints[-1][:300] if complaints else "(no error)"


def watched_curves(watch: Watch) -> list[Curve]:
    t_s = tuple(watch.t_s)
    return [
        Curve("connections", "1", t_s, tuple(watch.connections)),
        Curve("environments", "1", t_s, tuple(watch.environments)),
    ]


def breaker_spans(log: str, began_wall_s: float, end_s: float) -> list[Span]:
    """Return the times in which at least one environment's breaker was open, from the breakers' log lines."""
    moves = sorted(_moves(log, began_wall_s), key=lambda move: move[0])
    spans: list[Span] = []
    not_closed, since_s = 0, 0.0
    for at_s, from_state, to_state in moves:
        if from_state == "closed":
            since_s = since_s if not_closed else at_s
            not_closed += 1
        elif to_state == "closed" and not_closed:
            not_closed -= 1
            if not not_closed:
                spans.append(Span("breaker", "open", since_s, at_s))
    return [*spans, Span("breaker", "open", since_s, end_s)] if not_closed else spans


def _moves(log: str, began_wall_s: float) -> list[tuple[float, str, str]]:
    found = []
    for line in log.splitlines():
        if '"to_state"' not in line:
            continue
        with contextlib.suppress(ValueError, KeyError):
            entry = json.loads(line[line.index("{") :])
            moment = datetime.datetime.strptime(entry["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z").timestamp()
            found.append((moment - began_wall_s, str(entry["from_state"]), str(entry["to_state"])))
    return found
