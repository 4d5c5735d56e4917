"""Idempotency keys: a row that commits together with the effect of a request, and stores its answer.

Key, effect and stored answer are one statement, so one transaction and one round trip: there is no moment at which the
effect exists without its key or the key without its effect, whatever is killed when. `once` frames the effect's SQL:

    known    the row of this key, if there is one
    gate     open: do it. known: it was done. busy: another request is doing it now (an advisory lock that ends with it)
    ...      the effect, which reads `gate` and ends in a CTE `answer(status, resource, body)`
    record   the row; a unique violation here (the other finished after our snapshot was taken) undoes the effect as well

draft-ietf-httpapi-idempotency-key-header-08: 409 in flight, 422 for another request, else the stored answer. Refusals
are not stored: they changed nothing, and a retry may fare better.

    CREATE TABLE idempotency_keys (
        scope text NOT NULL, key text NOT NULL, fingerprint bytea NOT NULL,
        status integer NOT NULL, resource text NOT NULL, body text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL,
        PRIMARY KEY (scope, key)
    );
    CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from asyncpg import UniqueViolationError
from msgspec import Struct

from shared.kit.pool import Connection
from shared.kit.problems import KeyInFlight, KeyReused

PARAMETERS = 4  # taken by the frame: the effect's own start at $5
PURGE_ROWS = 500  # of one deletion: few, because it locks them

_FORGET = "DELETE FROM idempotency_keys WHERE scope = $1 AND key = $2 AND expires_at <= now()"
_PURGE = """
    DELETE FROM idempotency_keys WHERE (scope, key) IN (
        SELECT scope, key FROM idempotency_keys WHERE expires_at <= now()
         ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING 1"""


class Claim(Struct, frozen=True):
    """One request's claim to be the one that a key stands for."""

    scope: str
    key: str
    fingerprint: bytes
    ttl_h: int

    @classmethod
    def of(cls, scope: str, key: str, content: bytes, *, ttl_h: int) -> "Claim":
        """`scope` is whose key it is and for what, `content` what the key may not be reused with a different one of."""
        return cls(scope, key, hashlib.sha256(content).digest(), ttl_h)


class Answer(Struct, frozen=True):
    status: int
    resource: str
    body: str
    replayed: bool
    note: str | None = None  # from the effect to its caller, not to the client; never stored


def once(effect: str, *, note: str = "NULL") -> str:
    """The whole statement. `effect` is SQL as above, its parameters from $5 on; `note` is an SQL expression."""
    return f"""
    WITH known AS MATERIALIZED (
        SELECT fingerprint, status, resource, body, expires_at > now() AS live
          FROM idempotency_keys WHERE scope = $1 AND key = $2
    ), gate AS MATERIALIZED (
        SELECT CASE WHEN EXISTS (SELECT FROM known) THEN 'known'
                    WHEN pg_try_advisory_xact_lock(hashtextextended($2, hashtextextended($1, 0))) THEN 'open'
                    ELSE 'busy' END AS state
    ), {effect}, record AS (
        INSERT INTO idempotency_keys (scope, key, fingerprint, status, resource, body, expires_at)
        SELECT $1, $2, $3::bytea, status, resource, body, now() + $4 * interval '1 hour' FROM answer
    )
    SELECT gate.state, known.live, known.fingerprint, coalesce(known.status, answer.status) AS status,
           coalesce(known.resource, answer.resource) AS resource, coalesce(known.body, answer.body) AS body,
           {note} AS note
      FROM gate LEFT JOIN known ON true LEFT JOIN answer ON true"""


async def run(connection: Connection, statement: str, claim: Claim, *args: Any) -> Answer | None:
    """What the effect answered, now or the first time; None if it found nothing to do and left no answer.

    Run it with Database.run_with_key. Raises KeyInFlight and KeyReused.
    """
    attempt: Callable[[], Awaitable[Any]] = lambda: connection.fetchrow(  # noqa: E731
        statement, claim.scope, claim.key, claim.fingerprint, claim.ttl_h, *args
    )
    try:
        row = await attempt()
    except UniqueViolationError:
        row = await attempt()
    if row["state"] == "known" and not row["live"]:
        await connection.execute(_FORGET, claim.scope, claim.key)
        row = await attempt()
    return _answer(claim, row)


async def purge(connection: Connection, at_most: int) -> int:
    """Deletes expired keys, at most so many, and returns how many there were."""
    return len(await connection.fetch(_PURGE, at_most))


def _answer(claim: Claim, row: Any) -> Answer | None:
    state = row["state"]
    if state == "busy":
        raise KeyInFlight("The first request with this key has not finished yet.", headers={"retry-after": "1"})
    if state == "known" and row["fingerprint"] != claim.fingerprint:
        raise KeyReused("It was first used with a different body; a new request needs a new key.")
    if row["status"] is None:
        return None
    return Answer(row["status"], row["resource"], row["body"], state == "known", row["note"])
