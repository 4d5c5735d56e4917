"""Measures what the kit costs: CPU of a warm `GET /pooled/products/{id}`, compared with a bare handler of the same query.

`python -m tools.kit_overhead` starts its own Postgres and calls the handlers in this process as the runtime client would,
in blocks in random order. Both use one event loop, one connection and one statement. Only this process's CPU time counts
(time.process_time), not the database's and no waiting. Exit status 1: the cost is over the limit.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from warmfront.backing.postgres import Postgres

EVENT: Final = Path(__file__).parents[1] / "tests" / "functions" / "golden" / "http_api_v2.json"
LIMIT_US: Final = 100.0
PRODUCTS: Final = 1_000
ROUTE: Final = "GET /pooled/products/{id}"
TRACE_ID: Final = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
WARM_UP: Final = 300

type Event = dict[str, Any]
type Handler = Callable[[Event, Any], Any]


class Context:
    """The parts of Lambda's context that handlers use."""

    function_name = "Pooled"
    function_version = "$LATEST"
    memory_limit_in_mb = "1024"
    aws_request_id = "8f507cfc-xmpl-4697-b07a-ac58fc914c95"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:Pooled"

    def get_remaining_time_in_millis(self) -> int:
        return 10_000


@dataclass(frozen=True, slots=True)
class Step:
    """A handler, and what it adds to the previous one."""

    name: str
    adds: str
    handler: Handler


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds per invocation: the median of the rounds and their middle half."""

    name: str
    adds: str
    median: float
    low: float
    high: float
    over_bare: float
    """Median of the differences within each round, so that what slows a whole round cancels out."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.kit_overhead", description="What the kit costs.")
    parser.add_argument("--rounds", type=int, default=40, help="blocks of each handler (default: 40)")
    parser.add_argument("--calls", type=int, default=250, help="invocations in each block (default: 250)")
    parser.add_argument("--limit-us", type=float, default=LIMIT_US, help=f"of the kit (default: {LIMIT_US:g})")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    args = parser.parse_args()
    with Postgres.start(os.environ) as server, log_reader() as log, trace_daemon() as daemon, redirect_stdout(log):
        costs = measure(steps(server, daemon), rounds=args.rounds, calls=args.calls)
    kit = next(cost for cost in costs if cost.name == "logger").over_bare
    within = kit <= args.limit_us
    if args.json:
        figures = {cost.name: {"us": cost.median, "over_bare_us": cost.over_bare} for cost in costs}
        print(json.dumps({"kit_us": kit, "limit_us": args.limit_us, "within": within, "steps": figures}))
    else:
        print("\n".join(table(costs, args.limit_us, f"{args.rounds} rounds of {args.calls} invocations")))
    return 0 if within else 1


def steps(server: Postgres, daemon: tuple[str, int]) -> list[Step]:
    """Return handlers from a bare one to the complete one, each with one more part.

    The shop is imported here, because it reads its settings at import.
    """
    seed(server)
    os.environ["DATABASE_URL"] = server.url("pooled")
    from functions.pooled import app
    from shared.kit import endpoint, environment, telemetry, tracing
    from shared.kit.deadline import Deadline
    from shared.shop import catalog

    context = Context()
    first = json.loads(EVENT.read_text())
    app.handler(prepared(first, 1), context)  # opens the pool
    connection = app.database().pool._idle[-1].connection
    names = ("id", "name", "description", "price_cents", "stock", "version")

    def answer(row: Any) -> dict[str, Any]:
        body = json.dumps(dict(zip(names, row, strict=True)))
        return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": body}

    async def bare_query(event: Event) -> Any:
        return await connection.fetchrow(catalog.BY_ID, int(event["pathParameters"]["id"]))

    def bare(event: Event, _: Any) -> Any:
        return answer(environment.run(bare_query(event)))

    async def fetch(connection: Any, product_id: int) -> Any:
        return await connection.fetchrow(catalog.BY_ID, product_id)

    async def guarded_query(event: Event, context: Any) -> Any:
        deadline = Deadline.of(context, reserve_ms=app.SETTINGS.deadline_reserve_ms)
        return await app.database().run_idempotent(deadline, fetch, int(event["pathParameters"]["id"]))

    def guarded(event: Event, context: Any) -> Any:
        return answer(environment.run(guarded_query(event, context)))

    def routed(observed: Callable[[Handler], Handler]) -> Handler:
        """Return the endpoint with one more layer of Powertools around it."""
        as_it_is = endpoint._observed
        endpoint._observed = observed  # type: ignore[assignment]
        try:
            return endpoint.endpoint(
                {ROUTE: app.get_product},
                run=environment.run,
                reserve_ms=app.SETTINGS.deadline_reserve_ms,
                body_max_bytes=app.contract.BODY_MAX_BYTES,
            )
        finally:
            endpoint._observed = as_it_is

    def unwritten(handler: Handler) -> Handler:
        """Return a handler that adds metrics but does not write their line."""

        def called(event: Event, context: Any) -> Any:
            response = handler(event, context)
            telemetry.emf.metric_set.clear()
            telemetry.emf.metadata_set.clear()
            return response

        return called

    def metered(handler: Handler) -> Handler:
        wrapped: Handler = telemetry.metrics.log_metrics(handler, capture_cold_start_metric=True)
        return wrapped

    traced_environ = {"AWS_XRAY_DAEMON_ADDRESS": f"{daemon[0]}:{daemon[1]}", "_X_AMZN_TRACE_ID": TRACE_ID}
    tracer = tracing.tracer_for(traced_environ, "pooled")
    assert tracer is not None
    return [
        Step("bare", "asyncpg and json.dumps, nothing else", bare),
        Step("guard", "pool, deadline and breaker around the query", unwritten(guarded)),
        Step("endpoint", "route, id, ETag, problems; msgspec in the place of json", unwritten(routed(lambda handler: handler))),
        Step("metrics", "Powertools Metrics: one EMF line", routed(metered)),
        Step("logger", "Powertools Logger: the invocation's context", app.handler),
        Step("tracer", "Powertools Tracer, where X-Ray samples", tracer.capture_lambda_handler(app.handler, capture_response=False)),
    ]  # fmt: skip


def seed(server: Postgres) -> None:
    os.environ.update(
        {
            "DATABASE_URL": server.url("postgres"),
            "POWERTOOLS_SERVICE_NAME": "pooled",
            "SHOP_CURSOR_KEY": "only-for-this-measurement",
            "SHOP_DB_SSL": "disable",
            "SHOP_STAGE": "local",
        }
    )
    os.environ.pop("REDIS_URL", None)
    from functions.migrate import app as migrate
    from shared.kit import telemetry
    from shared.shop import settings

    telemetry.logger.setLevel("ERROR")  # log lines of the migration must not appear among the figures
    migrate.handler({"action": "seed", "databases": ["pooled"], "products": PRODUCTS, "orders": 1}, Context())
    telemetry.logger.setLevel("INFO")
    settings.current.cache_clear()


def prepared(event: Event, product_id: int) -> Event:
    return {
        **event,
        "routeKey": ROUTE,
        "rawPath": f"/pooled/products/{product_id}",
        "pathParameters": {"id": str(product_id)},
    }


def measure(handlers: Sequence[Step], *, rounds: int, calls: int) -> list[Cost]:
    chance = random.Random(1)
    context = Context()
    event = json.loads(EVENT.read_text())
    events = [prepared(event, chance.randint(1, PRODUCTS)) for _ in range(calls)]
    for step in handlers:
        for n in range(WARM_UP):
            assert step.handler(events[n % calls], context)["statusCode"] == 200, step.name
    spent: dict[str, list[float]] = {step.name: [] for step in handlers}
    for _ in range(rounds):
        for step in chance.sample(handlers, len(handlers)):
            spent[step.name].append(block_us(step.handler, events, context))
    return [cost(step, spent[step.name], spent["bare"]) for step in handlers]


def block_us(handler: Handler, events: Sequence[Event], context: Any) -> float:
    began_ns = time.process_time_ns()
    for event in events:
        handler(event, context)
    return (time.process_time_ns() - began_ns) / 1_000 / len(events)


def cost(step: Step, spent: Sequence[float], bare: Sequence[float]) -> Cost:
    low, median, high = statistics.quantiles(spent, n=4, method="inclusive")
    over = statistics.median(here - there for here, there in zip(spent, bare, strict=True))
    return Cost(step.name, step.adds, median, low, high, over)


def table(costs: Sequence[Cost], limit_us: float, design: str) -> list[str]:
    lines = [f"GET /products/{{id}}, warm: CPU of the handler's process in us per invocation, {design}", ""]
    lines.append(f"{'':2}{'':10}{'median':>8}{'middle half':>18}{'over bare':>12}  {'this part':>9}")
    before = 0.0
    for each in costs:
        lines.append(
            f"  {each.name:<10}{each.median:>8.1f}{f'{each.low:.1f} to {each.high:.1f}':>18}"
            f"{each.over_bare:>12.1f}  {each.over_bare - before:>+9.1f}  {each.adds}"
        )
        before = each.over_bare
    by_name = {each.name: each.over_bare for each in costs}
    said = "within" if by_name["logger"] <= limit_us else "over"
    return [
        *lines,
        "",
        f"the kit, Powertools included:   {by_name['logger']:.1f} us ({said} its limit of {limit_us:g} us)",
        f"the kit without Powertools:     {by_name['endpoint']:.1f} us",
        f"with a trace as well:           {by_name['tracer']:.1f} us",
    ]


@contextmanager
def log_reader() -> Iterator[Any]:
    """Yield a pipe that another process reads, as Lambda reads a handler's output, with one write per line."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as reader:
        assert reader.stdin is not None
        reader.stdin.reconfigure(line_buffering=True)  # type: ignore[attr-defined]
        yield reader.stdin


@contextmanager
def trace_daemon() -> Iterator[tuple[str, int]]:
    """An address that receives datagrams that no process reads."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker:
        taker.bind(("127.0.0.1", 0))
        yield taker.getsockname()


if __name__ == "__main__":
    sys.exit(main())
