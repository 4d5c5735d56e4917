"""Puts together what was observed: snapshots for the dashboard, summaries of invocations, traces."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from warmfront.emulator.lambda_service.environments.environment import Environment
from warmfront.emulator.lambda_service.functions.function import Function
from warmfront.emulator.lambda_service.service import LambdaService
from warmfront.emulator.lambda_service.trace_header import root
from warmfront.emulator.observe import traces
from warmfront.emulator.observe.access_log import AccessLog
from warmfront.emulator.observe.observation import Observation
from warmfront.emulator.observe.recorder import (
    SHARES,
    Answered,
    Ended,
    Second,
    percentile,
)
from warmfront.emulator.observe.segments import SegmentReceiver
from warmfront.emulator.observe.stream import Stream, Subscription, Tick
from warmfront.emulator.template import Template

RATE_OVER_S = 10
TICK_INVOCATIONS_MAX = 50
_SECOND_NS = 1_000_000_000


class Observatory(Observation):
    """What was observed, put together when it is read; `start` and `close` it on the event loop."""

    def __init__(
        self,
        template: Template,
        *,
        access: AccessLog | None = None,
        note: Callable[[str], None] | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`access` writes the access log; `note` takes lines that explain what cannot be observed."""
        super().__init__(template.functions, access=access, note=note, clock_ns=clock_ns)
        self.template = template
        self.segments = SegmentReceiver()
        self.service: LambdaService | None = None
        self._began_ns = clock_ns()
        self._stream = Stream(self._tick, clock_ns)

    def start(self, service: LambdaService) -> None:
        """Receive segments, and read the state of this service's functions from now on."""
        self.service = service
        self.segments.start()

    def close(self) -> None:
        """End subscriptions too; may be called again."""
        self._stream.close()
        self.segments.close()
        self.settle()

    def subscribe(self) -> Subscription:
        return self._stream.subscribe()

    def init_begun(self, function: str, environment: Environment) -> None:  # noqa: ARG002
        self._stream.hurry()

    def init_ended(self, function: str, environment: Environment, *, failed: bool) -> None:  # noqa: ARG002
        self._stream.hurry()

    # -- what is read --------------------------------------------------------------------------------------------------

    def environments(self, name: str) -> dict[str, Environment]:
        function = self._function(name)
        return function.environments if function is not None else {}

    def _function(self, name: str) -> Function | None:
        return self.service.functions.get(name) if self.service is not None else None

    def snapshot(self) -> dict[str, Any]:
        """Everything of now and of the last minute, as the dashboard shows it."""
        self.settle()
        now = self._clock_ns() // _SECOND_NS
        minute = self._seconds.last(now)
        return {
            "now_s": time.time(),
            "uptime_s": round((self._clock_ns() - self._began_ns) / 1e9, 3),
            "totals": self._totals(now, minute),
            "rates": [second.requests for second in minute],
            "series": _series(minute),
            "functions": [self._about(name, now) for name in self.functions],
            "dropped": {
                "emf_values": self.emf.dropped_values,
                "segments": self.segments.dropped,
                "ticks": self._stream.dropped,
            },
        }

    def _totals(self, now: int, minute: list[Second]) -> dict[str, Any]:
        answers = [sum(book.answers) for book in self.routes.values()]
        errors = sum(book.answers[5] for book in self.routes.values())
        counters = [function.counters for function in self.service.functions.values()] if self.service else []
        p50, p95, p99 = map(_rounded, self._seconds.percentiles(now))
        return {
            "requests": sum(answers),
            "errors": errors,
            "throttles": sum(each.throttles for each in counters),
            "cold_starts": sum(each.cold_starts for each in counters),
            "rate_per_s": self._rate(minute),
            "error_percent": round(100 * errors / sum(answers), 3) if errors else 0.0,
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
        }

    def _rate(self, seconds: list[Second]) -> float:
        up_s = int((self._clock_ns() - self._began_ns) / 1e9)
        over_s = max(1, min(RATE_OVER_S, up_s))
        return round(sum(second.requests for second in seconds[-over_s:]) / over_s, 2)

    def _about(self, name: str, now: int) -> dict[str, Any]:
        config, book, function = self.template.functions[name], self.functions[name], self._function(name)
        alive = self.environments(name)
        p50, p95, p99 = map(_rounded, book.seconds.percentiles(now))
        counters = function.counters if function is not None else None
        pool = self.emf.pool(name, alive)
        return {
            "name": name,
            "function_name": config.function_name,
            "memory_mb": config.memory_mb,
            "timeout_s": config.timeout_s,
            "not_runnable": self.service.not_runnable.get(name) if self.service is not None else None,
            "invocations": counters.invocations if counters else 0,
            "errors": counters.errors if counters else 0,
            "throttles": counters.throttles if counters else 0,
            "cold_starts": counters.cold_starts if counters else 0,
            "in_flight": function.in_flight if function is not None else 0,
            "concurrency_max": config.reserved_concurrency,
            "rate_per_s": self._rate(book.seconds.last(now)),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "environments": [_tile(each) for each in alive.values()],
            "pool": None if pool is None else {
                "open": pool.open,
                "budget": pool.budget,
                "utilisation": pool.utilisation,
                "acquire_wait_p99_ms": _rounded(pool.wait_p99_ms),
            },
            "circuits": [
                {
                    "name": circuit,
                    "open": states.get("open", 0) + states.get("forced_open", 0),
                    "half_open": states.get("half_open", 0),
                    "environments": len(alive),
                    "rejected": int(self.emf.rejected.get(name, 0)),
                }
                for circuit, states in self.emf.circuits(name, alive)
            ],
        }  # fmt: skip

    # -- invocations ---------------------------------------------------------------------------------------------------

    def invocations(self, function: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Summaries, failed ones first, then the newest first."""
        found = sorted(self._all(function), key=lambda each: (each[1].status == "ok", -each[1].ended_ns))[:limit]
        answers = self._answers()
        return [self._summary(name, ended, answers) for name, ended in found]

    def invocation(self, request_id: str) -> dict[str, Any] | None:
        """A summary with its log and its trace."""
        for name, ended in self._all(None):
            if ended.request_id == request_id:
                log = ended.log.decode(errors="replace").replace("\r", "\n")
                return {
                    **self._summary(name, ended, self._answers()),
                    "log": log,
                    "report": next((line for line in log.splitlines() if _is_report(line)), None),
                    "trace": self.trace(root(ended.trace_header)),
                }
        return None

    def _all(self, function: str | None) -> Iterator[tuple[str, Ended]]:
        self.settle()
        for name, book in self.functions.items():
            if function is None or name == function:
                for ended in book.records:
                    yield name, ended

    def _answers(self) -> dict[str, Answered]:
        return {root(each.trace_header): each for each in self._requests}

    def _summary(self, name: str, ended: Ended, answers: dict[str, Answered]) -> dict[str, Any]:
        trace_id = root(ended.trace_header)
        answer = answers.get(trace_id)
        if answer is not None and answer.function != name:
            answer = None
        waited_until_ns = ended.dispatched_ns or ended.ended_ns
        if ended.init_ms is not None:
            waited_until_ns = max(ended.spawned_ns, ended.received_ns)
        return {
            "request_id": ended.request_id,
            "function": name,
            "trace_id": trace_id or None,
            "sampled": traces.is_sampled(ended.trace_header),
            "ended_s": (ended.ended_ns + self._epoch_ns()) / 1e9,
            "status": ended.status,
            "failed": ended.status != "ok",
            "error_type": None if ended.status == "ok" else ended.error_type or _error_type_of(ended),
            "cold": ended.init_ms is not None,
            "queued_ms": round((waited_until_ns - ended.received_ns) / 1e6, 3),
            "init_ms": _rounded(ended.init_ms),
            "restore_ms": _rounded(ended.restore_ms),
            "duration_ms": round(ended.duration_ms, 3),
            "memory_used_mb": ended.memory_used_mb,
            "memory_mb": self.template.functions[name].memory_mb,
            "environment": ended.environment,
            "route": answer.route if answer is not None else None,
            "http_status": answer.status if answer is not None else None,
        }

    # -- traces --------------------------------------------------------------------------------------------------------

    def _epoch_ns(self) -> int:
        """Unix time less the monotonic clock's, as of now."""
        return time.time_ns() - self._clock_ns()

    def unix_s(self, at_ns: int) -> float:
        """Unix time of a moment of the monotonic clock, in seconds."""
        return (at_ns + self._epoch_ns()) / 1e9

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """The waterfall of one trace; None when nothing of it is known (any more)."""
        if not trace_id:
            return None
        self.settle()
        requests = sorted(each for each in self._requests if traces.same_trace(each.trace_header, trace_id))
        invocations = [each for each in self._all(None) if traces.same_trace(each[1].trace_header, trace_id)]
        segments = self.segments.of_trace(trace_id)
        return traces.assemble(trace_id, requests, invocations, segments, epoch_ns=self._epoch_ns())

    def traces(self, limit: int = 50) -> list[dict[str, Any]]:
        """The newest first: one entry for all that happened under one trace id."""
        self.settle()
        found: dict[str, dict[str, Any]] = {}
        events = [(each.began_ns, "", each) for each in self._requests]
        starts: list[tuple[int, str, Answered | Ended]] = [*events]
        starts += [(each.received_ns, name, each) for name, each in self._all(None)]
        for _, name, each in sorted(starts, key=lambda start: -start[0]):
            trace_id = root(each.trace_header)
            if trace_id not in found and len(found) >= limit:
                continue
            self._enter(found.setdefault(trace_id, _new_entry(trace_id)), name, each)
        return [_finished(entry, self._epoch_ns()) for entry in found.values()]

    @staticmethod
    def _enter(entry: dict[str, Any], name: str, each: Answered | Ended) -> None:
        began_ns = each.began_ns if isinstance(each, Answered) else each.received_ns
        entry["began_ns"] = min(entry["began_ns"] or began_ns, began_ns)
        entry["ended_ns"] = max(entry["ended_ns"], each.ended_ns)
        if isinstance(each, Answered):
            entry["name"] = f"{each.method} {each.path}"
            failed = each.status >= 500
        else:
            entry["name"] = entry["name"] or name
            entry["sampled"] |= traces.is_sampled(each.trace_header)
            failed = each.status != "ok"
            if name not in entry["functions"]:
                entry["functions"].append(name)
        entry["status"] = "error" if failed else entry["status"]

    # -- ticks ---------------------------------------------------------------------------------------------------------

    def _tick(self, since_ns: int) -> Tick:
        self.settle()
        found: list[tuple[str, Ended]] = []
        for name, book in self.functions.items():
            for ended in book.records.newest_first():
                if ended.ended_ns < since_ns:
                    break
                found.append((name, ended))
        found.sort(key=lambda each: (each[1].status == "ok", -each[1].ended_ns))
        kept = sorted(found[:TICK_INVOCATIONS_MAX], key=lambda each: each[1].ended_ns)
        answers = self._answers() if kept else {}
        return {
            "snapshot": self.snapshot(),
            "invocations": [self._summary(name, ended, answers) for name, ended in kept],
            "missed": len(found) - len(kept),
        }


def _new_entry(trace_id: str) -> dict[str, Any]:
    return {
        "trace_id": trace_id, "name": "", "began_ns": 0, "ended_ns": 0, "status": "ok", "sampled": False, "functions": [],
    }  # fmt: skip


def _finished(entry: dict[str, Any], epoch_ns: int) -> dict[str, Any]:
    began_ns, ended_ns = entry.pop("began_ns"), entry.pop("ended_ns")
    return {
        **entry,
        "started_s": (began_ns + epoch_ns) / 1e9,
        "duration_ms": round((ended_ns - began_ns) / 1e6, 3),
    }


def _tile(environment: Environment) -> dict[str, Any]:
    return {
        "id": environment.id,
        "pid": environment.pid,
        "phase": environment.phase.value,
        "invocations": environment.invocations,
        "init_duration_ms": _rounded(environment.init_duration_ms),
    }


def _series(minute: Iterable[Second]) -> dict[str, list[Any]]:
    seconds = list(minute)
    percentiles = {
        f"p{round(share * 100)}_ms": [_rounded(percentile(second.sorted_ms(), share)) for second in seconds]
        for share in SHARES
    }
    return {
        **percentiles,
        "errors": [second.errors for second in seconds],
        "throttles": [second.throttles for second in seconds],
        "cold_starts": [second.cold_starts for second in seconds],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _is_report(line: str) -> bool:
    return line.startswith("REPORT ") or '"type":"platform.report"' in line


def _error_type_of(ended: Ended) -> str | None:
    """A handler's own exception is named in its log, not in REPORT."""
    start = ended.log.find(b"[ERROR] ")
    return ended.log[start + 8 :].partition(b":")[0].decode(errors="replace")[:100] if start >= 0 else None
