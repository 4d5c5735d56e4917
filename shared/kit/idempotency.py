"""The Idempotency-Key row that commits with the effect. Knows nothing of what the effect is.

Key, effect and stored answer are one statement, so one transaction and one round trip: there is no moment at which the
effect exists without its key or the key without its effect, whatever is killed when. `once` wraps the effect's SQL:

    known    the row of this key, if there is one
    gate     open: do it. known: somebody did. busy: somebody is doing it now (an advisory lock that ends with them)
    ...      the effect, which reads `gate` and ends in a CTE `answer(status, resource, body)`
    record   the row; a unique violation here (they finished after our snapshot was taken) undoes the effect as well

draft-ietf-httpapi-idempotency-key-header-08: 409 in flight, 422 for another request, else the stored answer. Refusals
are not stored: they changed nothing, and a retry may fare better.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from asyncpg import UniqueViolationError
from msgspec import Struct

from shared.kit.postgres import Connection
from shared.kit.problems import KeyInFlight, KeyReused

PARAMETERS = 4  # taken by the wrapper: the effect's own start at $5

_FORGET = "DELETE FROM idempotency_keys WHERE scope = $1 AND key = $2 AND expires_at <= now()"
_PURGE = """
    DELETE FROM idempotency_keys WHERE (scope, key) IN (
        SELECT scope, key FROM idempotency_keys WHERE expires_at <= now()
         ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING 1"""


class Claim(Struct, frozen=True):
    """One request's claim to be the one that a key stands for. Without a key, every request is its own."""

    scope: str
    key: str | None
    fingerprint: bytes
    ttl_h: int

    @classmethod
    def of(cls, scope: str, key: str | None, content: bytes, *, ttl_h: int) -> "Claim":
        return cls(scope, key, hashlib.sha256(content).digest(), ttl_h)


class Answer(Struct, frozen=True):
    status: int
    resource: str
    body: str
    replayed: bool
    aside: str | None = None  # what the effect says to its caller and not to the client; never stored


def once(effect: str, *, aside: str = "NULL") -> str:
    """`aside` is SQL over `answer`."""
    return f"""
    WITH known AS MATERIALIZED (
        SELECT fingerprint, status, resource, body, expires_at > now() AS live
          FROM idempotency_keys WHERE scope = $1 AND key = $2::text
    ), gate AS MATERIALIZED (
        SELECT CASE WHEN $2::text IS NULL THEN 'open'
                    WHEN EXISTS (SELECT FROM known) THEN 'known'
                    WHEN pg_try_advisory_xact_lock(hashtextextended($2::text, hashtextextended($1, 0))) THEN 'open'
                    ELSE 'busy' END AS state
    ), {effect}, record AS (
        INSERT INTO idempotency_keys (scope, key, fingerprint, status, resource, body, expires_at)
        SELECT $1, $2::text, $3::bytea, status, resource, body, now() + $4 * interval '1 hour'
          FROM answer WHERE $2::text IS NOT NULL
    )
    SELECT gate.state, known.live, known.fingerprint, coalesce(known.status, answer.status) AS status,
           coalesce(known.resource, answer.resource) AS resource, coalesce(known.body, answer.body) AS body,
           {aside} AS aside
      FROM gate LEFT JOIN known ON true LEFT JOIN answer ON true"""


async def run(connection: Connection, statement: str, claim: Claim, *args: Any) -> Answer | None:
    """What the effect answered, now or the first time. None: the effect found nothing to do and left no answer."""
    repeat: Callable[[], Awaitable[Any]] = lambda: connection.fetchrow(  # noqa: E731
        statement, claim.scope, claim.key, claim.fingerprint, claim.ttl_h, *args
    )
    try:
        row = await repeat()
    except UniqueViolationError:
        row = await repeat()
    if row["state"] == "known" and not row["live"]:
        await connection.execute(_FORGET, claim.scope, claim.key)
        row = await repeat()
    return _answer(claim, row)


async def purge(connection: Connection, at_most: int) -> int:
    """Expired ones, and how many there were."""
    return len(await connection.fetch(_PURGE, at_most))


def _answer(claim: Claim, row: Any) -> Answer | None:
    state = row["state"]
    if state == "busy":
        raise KeyInFlight("The first request with this key has not finished yet.", headers={"retry-after": "1"})
    if state == "known" and row["fingerprint"] != claim.fingerprint:
        raise KeyReused("It was first used with a different body; a new request needs a new key.")
    if row["status"] is None:
        return None
    return Answer(row["status"], row["resource"], row["body"], state == "known", row["aside"])
