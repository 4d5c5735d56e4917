"""Procedures that check data: clients record what they were told, and the final state is compared with it.

Requests and the SQL that reads the final state come from the experiment's file.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from warmfront.lab.fault_actions import applied
from warmfront.lab.history import (
    Anomalies,
    End,
    History,
    Operation,
    Seen,
    check_counters,
    check_effects,
    check_staleness,
    check_stock,
    check_walks,
)
from warmfront.lab.http_client import Client, NoAnswer, Reply
from warmfront.lab.postgres_faults import run_sql
from warmfront.lab.process_faults import Killed
from warmfront.lab.scene import Observation, Scene, Span, as_request, build_fault, ratio

SETTLE_S = 0.3  # by then, the database has finished the statements of killed environments


class Clients(msgspec.Struct, frozen=True, kw_only=True):
    """Number and rate of the clients."""

    clients: int = 16
    operations: int = 500
    attempts_max: int = 25
    timeout_s: float = 4.0
    pause_max_s: float = 0.2
    keys: int = 5
    prepare_sql: str = ""


class Orders(Clients, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of the procedure `effects`: each operation has its own key and is retried with it until it is answered."""

    request: dict[str, Any]
    acknowledged: list[int] = msgspec.field(default_factory=lambda: [201])
    refused: list[int] = msgspec.field(default_factory=lambda: [409, 422])
    again_if: str = ""  # a client error whose body contains this is retried
    effects_sql: str
    stock_sql: str = ""
    taken_sql: str = ""


class Increments(Clients, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of the procedure `increments`: read a number, add one, and write it on condition of the version read."""

    read: dict[str, Any]
    write: dict[str, Any]
    value: str
    version_header: str = "etag"
    conflict: list[int] = msgspec.field(default_factory=lambda: [412])
    counter_sql: str


class Pages(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of the procedure `pages`: walk through all pages repeatedly while rows are inserted and deleted."""

    first: str
    next: str
    items: str = "items"
    id: str = "id"
    cursor: str = "next_cursor"
    walks: int = 6
    churn_sql: list[str]
    churn_every_s: float = 0.01
    stable_sql: str
    prepare_sql: str = ""
    cleanup_sql: str = ""


Attempt = Callable[[Client, Operation, random.Random], Awaitable[End | None]]
"""One attempt at an operation: how it ended, or None to try again."""


async def effects(scene: Scene) -> Observation:
    """Check that every acknowledged operation took effect exactly once, although environments were killed."""
    wanted = scene.options(Orders)

    async def attempt(client: Client, operation: Operation, _: random.Random) -> End | None:
        values = {"key": operation.key, "number": operation.key, "item": 1 + operation.number % wanted.keys}
        reply = await _send(scene, client, wanted.request, values, wanted.timeout_s)
        if reply is None:
            return None
        if reply.status in wanted.acknowledged:
            return "ok"
        again = wanted.again_if and wanted.again_if in reply.body.decode(errors="replace")
        return "fail" if reply.status in wanted.refused and not again else None

    first = 10**9 * (1 + scene.seed % 1000)  # keys differ between seeds
    await _prepare(scene, wanted.prepare_sql)
    before = await scene.stage.query_numbers(scene.variant.database, wanted.stock_sql) if wanted.stock_sql else {}
    history, observed = await _record(scene, wanted, attempt, lambda number: str(first + number))
    found = check_effects(
        history.operations, await scene.stage.query_numbers(scene.variant.database, wanted.effects_sql)
    )
    if wanted.stock_sql:
        after = await scene.stage.query_numbers(scene.variant.database, wanted.stock_sql)
        taken = await scene.stage.query_numbers(scene.variant.database, wanted.taken_sql)
        found += check_stock(before, after, taken)
    return _with(observed, history, found)


async def increments(scene: Scene) -> Observation:
    """Check that every acknowledged increment is in the sum, although clients raced for the same rows."""
    wanted = scene.options(Increments)

    async def attempt(client: Client, operation: Operation, _: random.Random) -> End | None:
        values: dict[str, object] = {"item": operation.key}
        read = await _send(scene, client, wanted.read, values, wanted.timeout_s)
        if read is None or read.status != 200:
            return None
        values["new"] = int(read.json()[wanted.value]) + 1
        values["version"] = read.headers.get(wanted.version_header, "")
        written = await _send(scene, client, wanted.write, values, wanted.timeout_s)
        if written is None or written.status >= 500:
            return "info"  # unknown outcome: writing it again might count it twice
        if written.status in wanted.conflict:
            return None
        return "ok" if written.status < 300 else "fail"

    await _prepare(scene, wanted.prepare_sql)
    before = await scene.stage.query_numbers(scene.variant.database, wanted.counter_sql)
    history, observed = await _record(scene, wanted, attempt, lambda number: str(1 + number % wanted.keys))
    after = await scene.stage.query_numbers(scene.variant.database, wanted.counter_sql)
    keys = {operation.key for operation in history.operations}
    found = check_counters(history.operations, {key: before[key] for key in keys}, after)
    return _with(observed, history, found)


class Races(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of the procedure `staleness`: the same few resources are read and written at the same time."""

    read: dict[str, Any]
    write: dict[str, Any]
    value: str = "version"
    readers: int = 8
    writers: int = 3
    burst: int = 5  # consecutive writes, each writer to its own key; a race needs two writes close together
    rest_s: float = 1.2  # without a pause, the next write would replace a stale entry before a read sees it
    seconds: float = 6.0
    bound_s: float = 0.5
    timeout_s: float = 4.0


async def staleness(scene: Scene) -> Observation:
    """Check that reads some time after an acknowledged write see it, also through a cache."""
    wanted = scene.options(Races)
    began_s = time.monotonic()
    reads: list[Seen] = []
    writes: list[Seen] = []

    def now_s() -> float:
        return time.monotonic() - began_s

    async def version(client: Client, template: dict[str, Any], values: dict[str, Any]) -> int | None:
        reply = await _send(scene, client, template, values, wanted.timeout_s)
        return int(reply.json()[wanted.value]) if reply is not None and reply.status == 200 else None

    async def read_again(identity: int) -> None:
        client, rng = scene.emulator.client(), random.Random(f"race {scene.seed} {identity}")
        while (began_to_read_s := now_s()) < wanted.seconds:
            key = str(rng.randint(1, wanted.writers))
            if (found := await version(client, wanted.read, {"item": key})) is not None:
                reads.append(Seen(key, found, began_to_read_s))
        await client.close()

    async def write_again(key: str) -> None:
        client, rng = scene.emulator.client(), random.Random(f"race {scene.seed} {key}")
        while now_s() < wanted.seconds:
            for _ in range(wanted.burst):
                values = {"item": key, "number": rng.randint(1, 99_999)}
                if (written := await version(client, wanted.write, values)) is not None:
                    writes.append(Seen(key, written, now_s()))
            await asyncio.sleep(wanted.rest_s)
        await client.close()

    async with applied(*(build_fault(scene, spec) for spec in scene.experiment.fault)):
        await asyncio.gather(
            *(read_again(number) for number in range(wanted.readers)),
            *(write_again(str(1 + number)) for number in range(wanted.writers)),
        )
    found, stalest_s = check_staleness(writes, reads, bound_s=wanted.bound_s)
    counts = {"reads": float(len(reads)), "writes": float(len(writes)), "stalest_s": stalest_s}
    return Observation({"stale_reads": float(found.lost)} | counts, examples=list(found.examples))


async def pages(scene: Scene) -> Observation:
    """Check that each walk returns every row that existed all the time exactly once."""
    wanted = scene.options(Pages)
    await _prepare(scene, wanted.prepare_sql)
    stable = frozenset(int(row[0]) for row in await scene.stage.query(scene.variant.database, wanted.stable_sql))
    client = scene.emulator.client()
    rng = random.Random(f"churn {scene.seed}")
    churn = asyncio.create_task(_churn(scene, wanted, rng))
    began_s = time.monotonic()
    walks: list[list[int]] = []
    try:
        for _ in range(wanted.walks):
            walks.append(await _walk(scene, client, wanted))
            if churn.done():
                await churn
    finally:
        churn.cancel()
        await asyncio.gather(churn, return_exceptions=True)
        await client.close()
        await _prepare(scene, wanted.cleanup_sql)
    found = check_walks(walks, stable)
    observed = Observation(_measures(found), examples=list(found.examples))
    observed.measures |= {"walks": float(len(walks)), "seconds": time.monotonic() - began_s}
    return observed


async def _walk(scene: Scene, client: Client, wanted: Pages) -> list[int]:
    met: list[int] = []
    path = wanted.first
    while True:
        reply = await client.request("GET", scene.variant.prefix + path)
        if reply.status != 200:
            raise NoAnswer(f"GET {path} answered {reply.status}: {reply.body[:200].decode(errors='replace')}")
        page = reply.json()
        met += [int(item[wanted.id]) for item in page[wanted.items]]
        if page[wanted.cursor] is None:
            return met
        path = wanted.next.replace("{cursor}", str(page[wanted.cursor]))


async def _churn(scene: Scene, wanted: Pages, rng: random.Random) -> None:
    number = 0
    while True:
        number += 1
        sql = rng.choice(wanted.churn_sql).replace("{number}", str(number))
        await run_sql(scene.stage.postgres.admin_url(scene.variant.database), sql)
        await asyncio.sleep(wanted.churn_every_s)


async def _prepare(scene: Scene, sql: str) -> None:
    if sql:
        await run_sql(scene.stage.postgres.admin_url(scene.variant.database), sql)


async def _send(
    scene: Scene, client: Client, template: dict[str, Any], values: dict[str, Any], timeout_s: float
) -> Reply | None:
    method, path, headers, body = as_request(template, values)
    try:
        return await client.request(
            method, scene.variant.prefix + path, headers=headers, body=body, timeout_s=timeout_s
        )
    except NoAnswer:
        return None


async def _record(
    scene: Scene, wanted: Clients, attempt: Attempt, key_of: Callable[[int], str]
) -> tuple[History, Observation]:
    """Run all operations with the given number of clients, with the faults applied throughout."""
    history = History()
    faults = [build_fault(scene, spec) for spec in scene.experiment.fault]
    await scene.stage.reset_proxy_counts()
    began_s = time.monotonic()
    numbers = iter(range(wanted.operations))

    async def client_of(identity: int) -> None:
        client = scene.emulator.client()
        rng = random.Random(f"client {scene.seed} {identity}")
        for number in numbers:
            operation = history.invoke(identity, "operation", key_of(number), at_s=time.monotonic() - began_s)
            end: End | None = None
            while end is None and operation.attempts < wanted.attempts_max:
                if operation.attempts:
                    await asyncio.sleep(rng.uniform(0, wanted.pause_max_s))
                operation.attempts += 1
                end = await attempt(client, operation, rng)
            history.complete(operation, end or "info", at_s=time.monotonic() - began_s)
        await client.close()

    async with applied(*faults):
        on_s = time.monotonic() - began_s
        await asyncio.gather(*(client_of(identity) for identity in range(wanted.clients)))
        off_s = time.monotonic() - began_s
    await asyncio.sleep(SETTLE_S)
    kills = sum(fault.killed for fault in faults if isinstance(fault, Killed))
    observed = Observation(
        {"seconds": off_s, "operations_per_s": ratio(wanted.operations, off_s), "kills": float(kills)}
    )
    if faults:
        observed.spans = [Span("fault", ", ".join(spec.kind for spec in scene.experiment.fault), on_s, off_s)]
    return history, observed


def _measures(found: Anomalies) -> dict[str, float]:
    names = ("lost", "duplicated", "ghosts", "negative", "unbalanced", "total")
    return {("anomalies" if name == "total" else name): float(getattr(found, name)) for name in names}


def _with(observed: Observation, history: History, found: Anomalies) -> Observation:
    operations = history.operations
    observed.measures |= _measures(found)
    observed.measures |= {
        "operations": float(len(operations)),
        "attempts": float(sum(operation.attempts for operation in operations)),
        "unknown_share": ratio(history.count("info"), len(operations)),
        "acknowledged_share": ratio(history.count("ok"), len(operations)),
    }
    observed.examples = list(found.examples)
    return observed
