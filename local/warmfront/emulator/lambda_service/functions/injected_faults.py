"""Faults that somebody puts into a function on purpose: what each does, and that none outlives its time."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from warmfront.emulator.lambda_service.environments.environment import Environment
from warmfront.emulator.lambda_service.environments.phases import Phase


class FaultError(Exception):
    """A fault that cannot be had, in one line that says what can."""


@dataclass(frozen=True, slots=True)
class Range:
    """What may be asked for, and what is usual."""

    label: str
    low: float
    usual: float
    high: float

    def check(self, name: str, value: float | None) -> float:
        chosen = self.usual if value is None else value
        if not self.low <= chosen <= self.high:
            raise FaultError(f"{name} ({self.label}) must be {self.low:g} to {self.high:g}, not {chosen:g}")
        return chosen


SECONDS: Final = Range("Cleared after, s", 1, 30, 600)


class Fault:
    """One fault of one function, from its injection to its end. This one does nothing: the kinds override what they do."""

    def __init__(self, kind: "Kind", amount: float, seconds: float) -> None:
        self.kind = kind
        self.amount = amount
        self.until_s = time.monotonic() + seconds
        self.on_end: Callable[[], None] = lambda: None
        """Whoever injected it; a fault that has done its work calls it."""

    async def arriving(self) -> bool:
        """An invocation is about to be admitted; True refuses it."""
        return False

    def dispatching(self, environment: Environment) -> None:
        """An environment is about to be given an event."""

    def dispatched(self, environment: Environment) -> None:
        """An environment has just been given an event."""

    def ended(self) -> None:
        """Undo what is still in force."""


class Throttle(Fault):
    async def arriving(self) -> bool:
        return True


class Latency(Fault):
    async def arriving(self) -> bool:
        await asyncio.sleep(self.amount / 1e3)
        return False


class Crash(Fault):
    def dispatching(self, environment: Environment) -> None:
        self.amount -= 1
        environment.kill()
        if self.amount <= 0:
            self.on_end()


class Stall(Fault):
    """The process is stopped while it has an event, as on a host that gives it no time; its timers stand still, its deadline does not."""

    stalled: tuple[Environment, int] | None = None

    def dispatching(self, environment: Environment) -> None:
        if self.stalled is None and environment.pid is not None:
            _signal(environment.pid, signal.SIGSTOP)  # one that still runs could answer before the second signal

    def dispatched(self, environment: Environment) -> None:
        pid = environment.pid
        if self.stalled is not None or pid is None:
            return
        self.stalled = environment, pid
        _signal(pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(self.amount, self.on_end)

    def ended(self) -> None:
        if self.stalled is None:
            return
        environment, pid = self.stalled
        # Frozen in between, or another process by now: then it stands still, or runs, for reasons of its own.
        if environment.pid == pid and environment.phase in (Phase.INVOKE, Phase.RETURNING):
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault that can be injected, as data."""

    name: str
    title: str
    about: str
    make: Callable[["Kind", float, float], Fault]
    detail: str
    """What it is doing, with {amount} in it."""
    amount: Range | None = None


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind(
            "throttle",
            "Throttle",
            "Every invocation is refused: TooManyRequestsException, 429 (an HTTP API answers 503).",
            Throttle,
            "every invocation is refused",
        ),
        Kind(
            "crash",
            "Crash",
            "Environments are killed (SIGKILL) as they take their event: Runtime.ExitError.",
            Crash,
            "the next {amount:g} to take an event are killed",
            Range("Environments", 1, 1, 100),
        ),
        Kind(
            "stall",
            "Stall",
            "The next environment to take an event stands still (SIGSTOP) with it; its time-out runs on.",
            Stall,
            "the next to take an event stands still for {amount:g} s",
            Range("Stands still, s", 0.1, 2, 60),
        ),
        Kind(
            "latency",
            "Latency",
            "Every invocation is held up before it is admitted: clients wait, Duration stays as it is.",
            Latency,
            "every invocation waits {amount:g} ms",
            Range("Milliseconds", 1, 300, 10_000),
        ),
    )
}


class Faulty(Protocol):
    """What can have a fault: a function."""

    fault: Fault | None


def inject(function: Faulty, kind_name: str, *, seconds: float | None = None, amount: float | None = None) -> Fault:
    """Put a fault into a function in place of the one it has. Raises FaultError. It ends by itself."""
    kind = KINDS.get(kind_name)
    if kind is None:
        raise FaultError(f"no fault {kind_name!r}; there are {', '.join(KINDS)}")
    seconds = SECONDS.check("seconds", seconds)
    fault = kind.make(kind, kind.amount.check("amount", amount) if kind.amount else 0.0, seconds)
    clear(function)
    timer = asyncio.get_running_loop().call_later(seconds, lambda: fault.on_end())

    def end() -> None:
        timer.cancel()
        if function.fault is fault:
            clear(function)

    fault.on_end = end
    function.fault = fault
    return fault


def clear(function: Faulty) -> bool:
    """End the function's fault; False when it had none."""
    fault, function.fault = function.fault, None
    if fault is not None:
        fault.ended()
    return fault is not None


def describe(fault: Fault) -> dict[str, object]:
    """What a page shows of a fault in force."""
    left_s = max(0.0, fault.until_s - time.monotonic())
    detail = fault.kind.detail.format(amount=fault.amount)
    return {"kind": fault.kind.name, "title": fault.kind.title, "detail": detail, "left_s": round(left_s, 1)}


def describe_kinds() -> list[dict[str, object]]:
    """What a page offers."""
    return [
        {
            "kind": kind.name,
            "title": kind.title,
            "about": kind.about,
            "amount": _range(kind.amount) if kind.amount else None,
            "seconds": _range(SECONDS),
        }
        for kind in KINDS.values()
    ]


def _range(each: Range) -> dict[str, object]:
    return {"label": each.label, "low": each.low, "usual": each.usual, "high": each.high}
