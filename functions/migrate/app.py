"""Schema and seed: applies the steps, makes the data once in a template, and each variant's database as its copy.

    {"action": "apply" | "seed" | "reset" | "purge", "databases": ["naive", "pooled"], "products": 100000, "orders": 100000}

apply brings the schema of each database up to date and touches no data. seed makes the template if it is not the one
asked for, then does as reset: each database anew as a copy of the template, and nothing of the old one in the cache.
Both are refused in production. purge deletes the idempotency keys that have expired, in small deletions while there is
time; where there is an outbox, its relay does so already.
"""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct, convert, structs

from functions.migrate import schema, seed
from functions.migrate.role import Role, keep_role, let_in
from shared.kit import environment, idempotency, telemetry
from shared.kit.deadline import Deadline
from shared.kit.pool import Connection
from shared.kit.postgres_connect import connect, logins_for, role_settings
from shared.shop import settings

SETTINGS = settings.current()
TEMPLATE = "shop_template"
LOGGED_COPY_BYTES_MAX = 32 * 1024 * 1024
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_RESERVED = frozenset({TEMPLATE, "postgres", "template0", "template1"})
# Any number, the same for everybody: two migrations at a time take turns.
_LOCK = 7_221_904
PURGE_S = 2.0  # with less time than this no deletion is begun: as in Relay
PURGE_ROWS = idempotency.PURGE_ROWS
REPLACING = frozenset({"seed", "reset"})


class Event(Struct, frozen=True, forbid_unknown_fields=True):
    action: Literal["apply", "seed", "reset", "purge"]
    databases: list[str]
    products: int = 100_000
    orders: int = 100_000


class Refused(Exception):
    """What was asked for is not done, and why."""


@telemetry.logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    request = convert(event, Event)
    _check(request)
    deadline = Deadline.of(context, reserve_ms=SETTINGS.deadline_reserve_ms)
    return environment.run(purge(request.databases, deadline) if request.action == "purge" else migrate(request))


def _check(request: Event) -> None:
    if request.action in REPLACING and SETTINGS.stage == "prod":
        raise Refused(f"{request.action} replaces data and is refused while SHOP_STAGE is prod.")
    if not request.databases:
        raise Refused("databases names none.")
    for name in request.databases:
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise Refused(f"{name!r} is no name for a variant's database.")
    if request.products < 1 or request.orders < 0:
        raise Refused("products must be at least 1 and orders at least 0.")


async def migrate(request: Event) -> dict[str, Any]:
    begun_s = time.perf_counter()
    report: dict[str, Any] = {"action": request.action, "schema": schema.VERSION, "databases": {}}
    async with connected() as admin:
        await admin.execute("SELECT pg_advisory_lock($1)", _LOCK)
        role = await _restricted_role()
        if role is not None:
            report["role"] = {"name": role.name, "made": await keep_role(admin, role)}
        if request.action == "seed":
            report["template"] = await make_template(admin, request.products, request.orders)
        for name in request.databases:
            step_s = time.perf_counter()
            done = await (apply(admin, name, role) if request.action == "apply" else copy(admin, name, role))
            if request.action != "apply" and SETTINGS.redis is not None:
                done["forgotten"] = await empty_cache(name)
            report["databases"][name] = {**done, "seconds": _since(step_s)}
    report["seconds"] = _since(begun_s)
    telemetry.logger.info("migrated", **report)
    return report


async def purge(databases: list[str], deadline: Deadline) -> dict[str, Any]:
    """Whoever writes meanwhile waits for a few rows at most; what there is no time for is left to the next run."""
    purged = dict.fromkeys(databases, 0)
    for name in databases:
        async with connected(name) as connection:
            count = PURGE_ROWS
            while count == PURGE_ROWS and deadline.remaining_s() > PURGE_S:
                count = await idempotency.purge(connection, PURGE_ROWS)
                purged[name] += count
    telemetry.logger.info("purged", databases=purged)
    return {"action": "purge", "purged": purged}


async def apply(admin: Connection, name: str, role: Role | None) -> dict[str, Any]:
    created = not await _exists(admin, name)
    if created:
        await admin.execute(f'CREATE DATABASE "{name}"')
    async with connected(name) as connection:
        steps = await _apply_steps(connection)
        if name not in schema.UNCHECKED_DATABASES:
            await _add_constraints(connection)
        if role is not None:
            await let_in(connection, name, role)
    return {"created": created, "steps": steps}


async def make_template(admin: Connection, products: int, orders: int) -> dict[str, Any]:
    """Anew, unless it is what is asked for: its comment, written last, says what it holds."""
    begun_s = time.perf_counter()
    content = f"schema={schema.VERSION} products={products} orders={orders}"
    existing = await admin.fetchval(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1", TEMPLATE
    )
    if existing == content:
        return {"made": False, "products": products, "orders": orders, "seconds": _since(begun_s)}
    await admin.execute(f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")
    await admin.execute(f"CREATE DATABASE {TEMPLATE}")
    async with connected(TEMPLATE) as connection:
        await _apply_steps(connection)
        lines = await _fill(connection, products, orders)
        await _add_constraints(connection)
        # Now, so that no measurement pays for it: statistics for the plans, hint bits and all-visible pages.
        await connection.execute("VACUUM (FREEZE, ANALYZE)")
    await admin.execute(f"COMMENT ON DATABASE {TEMPLATE} IS '{content}'")
    return {"made": True, "products": products, "orders": orders, "order_lines": lines, "seconds": _since(begun_s)}


async def copy(admin: Connection, name: str, role: Role | None) -> dict[str, Any]:
    """Replaces the database by a copy of the template; open connections to it are closed."""
    if not await _exists(admin, TEMPLATE):
        raise Refused("There is no template to copy; run the action seed first.")
    await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    # Through the log, the default, a large copy takes several times as long as file by file. A small one is ready in a
    # third of the time: file by file means two checkpoints, and each file is written to disk.
    size = await admin.fetchval("SELECT pg_database_size($1)", TEMPLATE)
    strategy = "FILE_COPY" if size > LOGGED_COPY_BYTES_MAX else "WAL_LOG"
    await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE {TEMPLATE} STRATEGY {strategy}')
    dropped = 0
    async with connected(name) as connection:
        if name in schema.UNCHECKED_DATABASES:
            dropped = await _drop_constraints(connection)
        if role is not None:
            await let_in(connection, name, role)
    return {"copied": True, "constraints_dropped": dropped}


async def empty_cache(name: str) -> int:
    """Versions restart after a reset, so cached entries must be dropped."""
    from shared.kit.cache import forget  # only where there is a cache

    return await forget(SETTINGS.required_redis(), SETTINGS.namespace_of(name))


async def _restricted_role() -> Role | None:
    """Whom the handlers log in as. The look-up of its password is Secrets Manager's to bound, not the database's."""
    if SETTINGS.db_role is None:
        return None
    if SETTINGS.db_role_secret is None:
        # By IAM, behind a proxy: nobody may set time-outs for a session there, so they are the role's.
        return Role(SETTINGS.db_role, None, role_settings(SETTINGS.postgres))
    by_secret = structs.replace(SETTINGS.postgres, login="secret", secret=SETTINGS.db_role_secret)
    from shared.kit import secrets  # imports boto3

    login = await secrets.logins(by_secret).known(by_secret.look_up_timeout_s)
    if login.user != SETTINGS.db_role:
        raise Refused(f"The secret of SHOP_DB_ROLE_SECRET must have the username {SETTINGS.db_role!r}.")
    # Sessions set their own time-outs, but for naive's, which are to have none.
    return Role(SETTINGS.db_role, login.password, dict.fromkeys(role_settings(SETTINGS.postgres)))


async def _apply_steps(connection: Connection) -> list[int]:
    async with connection.transaction():
        await connection.execute(schema.NOTES)
        await connection.execute("LOCK TABLE schema_steps IN EXCLUSIVE MODE")
        applied = {row["step"] for row in await connection.fetch("SELECT step FROM schema_steps")}
        pending = [(number, sql) for number, sql in schema.STEPS if number not in applied]
        for number, sql in pending:
            await connection.execute(sql)
            await connection.execute("INSERT INTO schema_steps (step) VALUES ($1)", number)
    return [number for number, _ in pending]


async def _fill(connection: Connection, products: int, orders: int) -> int:
    await connection.execute("SET synchronous_commit = off")
    await connection.execute(seed.PRODUCTS, products)
    await connection.execute(seed.ORDER_LINES, products, orders)
    await connection.execute(seed.ORDERS)
    for table in ("products", "orders"):
        await connection.execute(seed.NEXT_IDENTITY.format(table=table), table)
    lines: int = await connection.fetchval("SELECT count(*) FROM order_lines")
    return lines


async def _constraints(connection: Connection) -> dict[str, str]:
    rows = await connection.fetch(
        "SELECT conname, conrelid::regclass::text AS tablename FROM pg_constraint "
        "WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace"
    )
    return {row["conname"]: row["tablename"] for row in rows}


async def _add_constraints(connection: Connection) -> None:
    present = await _constraints(connection)
    for name, sql in schema.CONSTRAINTS.items():
        if name not in present:
            await connection.execute(sql)


async def _drop_constraints(connection: Connection) -> int:
    present = await _constraints(connection)
    for name, table in present.items():
        await connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
    return len(present)


async def _exists(admin: Connection, name: str) -> bool:
    return bool(await admin.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name))


@environment.resource
def logins() -> Any:
    return logins_for(SETTINGS.postgres)


@asynccontextmanager
async def connected(name: str | None = None) -> AsyncIterator[Connection]:
    """To another database of the same server. No statement timeout: only Lambda's own ends a migration."""
    parts = urlsplit(SETTINGS.postgres.url)
    url = None if name is None else urlunsplit(parts._replace(path=f"/{name}"))
    patient = {
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
    }  # whatever the role is held to
    connection = await connect(
        SETTINGS.postgres, logins(), timeout_s=SETTINGS.postgres.connecting_s, url=url, server_settings=patient
    )
    try:
        yield connection
    finally:
        await connection.close()


def _since(begun_s: float) -> float:
    return round(time.perf_counter() - begun_s, 3)
