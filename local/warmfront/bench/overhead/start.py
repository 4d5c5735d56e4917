"""Times `warmfront serve` from its start to its first answer, a cold start included."""

import http.client
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from warmfront.bench.run.emulator_process import EmulatorError, EmulatorProcess

BUDGET_MS = 1000.0
TEMPLATE = Path(__file__).with_name("template.yaml")
FUNCTION, PATH = "Silent", "/silent/hello"


@dataclass(frozen=True, slots=True)
class Start:
    """One start: until it said it was ready, until it had answered, and what of that the handler's own imports took."""

    ready_ms: float
    answered_ms: float
    imports_ms: float

    @property
    def beyond_imports_ms(self) -> float:
        return self.answered_ms - self.imports_ms


def measure_starts(count: int) -> list[Start]:
    """Fresh processes one after another, after one that does not count: it leaves bytecode behind, as anybody's first start does."""
    with tempfile.TemporaryDirectory(prefix="warmfront-bytecode-") as bytecode:
        variables = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
        return [_start(variables) for _ in range(count + 1)][1:]


def _start(variables: dict[str, str]) -> Start:
    began_ns = time.monotonic_ns()
    with EmulatorProcess.start(TEMPLATE, arguments=["--observe"], variables=variables) as emulator:
        ready_ns = time.monotonic_ns()
        _ask(emulator)
        answered_ns = time.monotonic_ns()
        (init,) = emulator.control.inits(FUNCTION)
    imports_ns = init["imports_done_ns"] - init["client_ns"]
    return Start((ready_ns - began_ns) / 1e6, (answered_ns - began_ns) / 1e6, imports_ns / 1e6)


def _ask(emulator: EmulatorProcess) -> None:
    target = emulator.control.target
    connection = http.client.HTTPConnection(target.host, target.port, timeout=30)
    try:
        connection.request("GET", PATH)
        response = connection.getresponse()
        if response.status != 200:
            raise EmulatorError(f"GET {PATH} was answered with {response.status}: {response.read(500)!r}")
        response.read()
    finally:
        connection.close()


def describe(starts: Sequence[Start]) -> str:
    """The row of the table's foot."""
    beyond = [each.beyond_imports_ms for each in starts]
    ready_ms, imports_ms = (
        statistics.median(getattr(each, name) for each in starts) for name in ("ready_ms", "imports_ms")
    )
    return (
        f"start to first answer, median of {len(starts)}: {statistics.median(beyond):.0f} ms ({min(beyond):.0f} to"
        f" {max(beyond):.0f}) beyond the handler's imports of {imports_ms:.0f} ms, of which {ready_ms:.0f} ms until it was ready"
        f" (aim: at most {BUDGET_MS:.0f} ms)"
    )
