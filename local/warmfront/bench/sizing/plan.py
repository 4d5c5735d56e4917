"""Computes a capacity plan: concurrency, connections and timeouts for a request rate and service times."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from warmfront.bench.sizing.queueing import (
    Queue,
    Service,
    Simulated,
    SizingError,
    poisson_quantile,
    servers_needed,
    service_of,
    simulate,
)

API_TIMEOUT_S = 29.0  # REST APIs' default; HTTP APIs end at 30 (apigateway/latest/developerguide/limits.html)
EXTRA_COLUMNS = 2  # servers shown beyond the number chosen
SIMULATE_BEYOND = 0.7  # utilisation above which variable service makes the formula doubtful
ERROR_DOUBTFUL = 0.2


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a plan is computed from."""

    rate: float  # requests per second
    handler: Service
    hold: Service  # how long an invocation holds its connection
    ca2: float = 1.0  # squared coefficient of variation of the gaps between arrivals; 1: Poisson
    max_connections: int = 100
    kept_connections: int = 10  # reserved for superusers, migrations and people with psql
    pool_max: int = 1
    wait_p99_ms: float = 5.0
    burst: float = 1.5
    customers: int = 200_000
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """A number of shared connections and the waits that it gives."""

    connections: int
    utilisation: float
    wait_probability: float
    mean_wait_ms: float
    wait_p95_ms: float
    wait_p99_ms: float
    response_p99_ms: float


@dataclass(frozen=True, slots=True)
class Rung:
    """One timeout of the ladder, and how it was derived."""

    name: str
    timeout_s: float
    why: str


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The plan's main numbers after one input changed."""

    what: str
    reserved_concurrency: int
    connections: int
    utilisation: float
    wait_p99_ms: float


@dataclass(frozen=True, slots=True)
class Size:
    """A capacity plan."""

    concurrency_p50: int
    concurrency_p99: int
    reserved_concurrency: int
    with_burst: int
    environments_allowed: int
    connections_needed: int
    connections_limit: int
    connection_busy: float
    formula: str
    offered: float
    connections: int
    choices: tuple[Choice, ...]
    simulated: Simulated
    formula_error: float
    ladder: tuple[Rung, ...]
    sensitivity: tuple[Sensitivity, ...]
    warnings: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.connections_needed <= self.connections_limit


def size(inputs: Inputs) -> Size:
    """Compute the plan.

    Raises:
        SizingError: no number of connections or no timeout satisfies the inputs; the message names the number to change.
    """
    limit = inputs.max_connections - inputs.kept_connections
    if limit < 1:
        raise SizingError(
            f"{inputs.kept_connections} of {inputs.max_connections} connections are reserved: none is left"
        )
    running = inputs.rate * inputs.handler.mean_s
    reserved = max(1, poisson_quantile(running, 0.999))
    with_burst = math.ceil(reserved * inputs.burst)
    chosen = _servers(inputs)
    queue = Queue(inputs.rate, chosen, inputs.hold, inputs.ca2)
    simulated = simulate(queue, customers=inputs.customers, seed=inputs.seed)
    error = queue.response_percentile_s(0.99) / simulated.response_p99_s - 1.0
    found = Size(
        concurrency_p50=poisson_quantile(running, 0.5),
        concurrency_p99=poisson_quantile(running, 0.99),
        reserved_concurrency=reserved,
        with_burst=with_burst,
        environments_allowed=limit // inputs.pool_max,
        connections_needed=with_burst * inputs.pool_max,
        connections_limit=limit,
        connection_busy=min(1.0, inputs.hold.mean_s / inputs.handler.mean_s),
        formula=queue.formula,
        offered=queue.offered,
        connections=chosen,
        choices=_choices(inputs, chosen),
        simulated=simulated,
        formula_error=error,
        ladder=ladder(inputs, simulated),
        sensitivity=_sensitivity(inputs),
    )
    return replace(found, warnings=_warnings(inputs, queue, found))


def _servers(inputs: Inputs) -> int:
    return servers_needed(inputs.rate, inputs.hold, wait_p99_max_s=inputs.wait_p99_ms / 1000.0, ca2=inputs.ca2)


def _choices(inputs: Inputs, chosen: int) -> tuple[Choice, ...]:
    """Numbers of connections around the chosen one; near the knee a single connection makes a large difference."""
    fewest = math.floor(inputs.rate * inputs.hold.mean_s) + 1
    first = max(fewest, chosen - 4)
    found = []
    for servers in range(first, chosen + EXTRA_COLUMNS + 1):
        queue = Queue(inputs.rate, servers, inputs.hold, inputs.ca2)
        found.append(
            Choice(
                connections=servers,
                utilisation=queue.utilisation,
                wait_probability=queue.wait_probability,
                mean_wait_ms=1000.0 * queue.mean_wait_s,
                wait_p95_ms=1000.0 * queue.wait_percentile_s(0.95),
                wait_p99_ms=1000.0 * queue.wait_percentile_s(0.99),
                response_p99_ms=1000.0 * queue.response_percentile_s(0.99),
            )
        )
    return tuple(found)


def ladder(inputs: Inputs, simulated: Simulated) -> tuple[Rung, ...]:
    """Return the timeouts from the innermost to the outermost, each shorter than the next, so that the innermost fires first
    and its error names the cause.

    Raises:
        SizingError: a timeout would not be shorter than the one around it.
    """
    acquire = _round_up(max(0.05, 5.0 * simulated.wait_p99_s, 5.0 * inputs.wait_p99_ms / 1000.0))
    statement = _round_up(max(0.25, 5.0 * inputs.hold.percentile_s(0.99), 1.5 * acquire))
    call = _round_up(acquire + statement)
    deadline = _round_up(max(call, 3.0 * inputs.handler.percentile_s(0.99)) + 0.2)
    function = float(math.ceil(deadline + 0.5))
    rungs = (
        Rung("acquire a connection", acquire, "5 times the expected p99 wait"),
        Rung("statement", statement, "5 times the p99 of holding a connection, above the acquire"),
        Rung("call (acquire, statement, commit)", call, "the sum of both"),
        Rung(
            "the invocation's own deadline",
            deadline,
            "3 times the handler's p99, at least the call, and 0.2 s to answer",
        ),
        Rung("Lambda Timeout", function, "the deadline plus 0.5 s to log it, in whole seconds"),
        Rung("API Gateway", API_TIMEOUT_S, "the default limit of a REST API"),
    )
    for inner, outer in pairwise(rungs):
        if inner.timeout_s >= outer.timeout_s:
            raise SizingError(
                f"{inner.name} needs {inner.timeout_s:g} s, not below {outer.name} ({outer.timeout_s:g} s): "
                "handle requests this slow through a queue instead of an API"
            )
    return rungs


def _round_up(seconds: float) -> float:
    """Round up to two significant digits: 0.27 stays, 1.234 becomes 1.3."""
    step = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return round(math.ceil(round(seconds / step, 6)) * step, 6)


def _sensitivity(inputs: Inputs) -> tuple[Sensitivity, ...]:
    """The plan's numbers with each input 20 % lower and higher, at the number of connections chosen for the inputs as given."""
    chosen = _servers(inputs)
    rows = []
    for factor in (0.8, 1.2):
        sign = f"{factor - 1:+.0%}"
        rows.append(_row(f"rate {sign}", inputs.rate * factor, inputs.handler, inputs.hold, inputs, chosen))
        scaled = inputs.handler.scaled(factor), inputs.hold.scaled(factor)
        rows.append(_row(f"service times {sign}", inputs.rate, *scaled, inputs, chosen))
        varied = service_of(inputs.hold.mean_s, inputs.hold.cs2 * factor)
        rows.append(_row(f"variation (cs2) {sign}", inputs.rate, inputs.handler, varied, inputs, chosen))
    return tuple(rows)


def _row(what: str, rate: float, handler: Service, hold: Service, inputs: Inputs, chosen: int) -> Sensitivity:
    queue = Queue(rate, chosen, hold, inputs.ca2)
    needed = servers_needed(rate, hold, wait_p99_max_s=inputs.wait_p99_ms / 1000.0, ca2=inputs.ca2)
    reserved = max(1, poisson_quantile(rate * handler.mean_s, 0.999))
    return Sensitivity(what, reserved, needed, queue.utilisation, 1000.0 * queue.wait_percentile_s(0.99))


def _warnings(inputs: Inputs, queue: Queue, found: Size) -> tuple[str, ...]:
    warnings = []
    if not found.fits:
        warnings.append(
            f"{found.with_burst} environments x {inputs.pool_max} = {found.connections_needed} connections, "
            f"{found.connections_limit} are available: reserve at most {found.environments_allowed} environments, "
            "or add RDS Proxy or PgBouncer (transaction mode)"
        )
    if inputs.pool_max > 1:
        warnings.append(
            f"a pool of {inputs.pool_max}: an environment serves one invocation at a time, so it uses more than one "
            "connection only for parallel queries"
        )
    if inputs.hold.cs2 > 1.0 and queue.utilisation > SIMULATE_BEYOND:
        warnings.append("service times vary and connections are busy: trust the simulation, not the formula")
    if abs(found.formula_error) > ERROR_DOUBTFUL:
        warnings.append(f"the formula is off by {found.formula_error:+.0%} here: trust the simulation")
    if inputs.hold.mean_s > inputs.handler.mean_s:
        warnings.append("the connection is held for longer than the handler runs: check the two service times")
    return tuple(warnings)
