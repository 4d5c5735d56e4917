"""Events that commit with their cause and are taken away in order, at least once. Knows no queue and no cause.

The order is kept for each aggregate: its next event is taken only when the one before it is out, by whichever of several
takers; events of different aggregates may overtake each other.
"""

from msgspec import Struct

from shared.kit.postgres import Connection, as_array

_TAKE = """
    SELECT id, type, aggregate_id, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS time,
           payload::text AS data
      FROM outbox o
     WHERE published_at IS NULL AND id <> ALL ($2::text[]::bigint[])
       AND NOT EXISTS (SELECT FROM outbox e
                        WHERE e.aggregate_id = o.aggregate_id AND e.id < o.id AND e.published_at IS NULL)
     ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED"""
_PUBLISHED = "UPDATE outbox SET published_at = now() WHERE id = ANY ($1::text[]::bigint[])"
_PENDING = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
# Skips what another purge is at; the index gives the oldest first.
_PURGE = """
    DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox WHERE published_at < now() - $1 * interval '1 hour'
         ORDER BY published_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1"""


class Event(Struct, frozen=True):
    id: int
    type: str
    aggregate_id: int
    time: str
    data: str  # JSON


def event(kind: str, *, of: str) -> str:
    """The CTE that stores one, of a CTE with `resource` (the aggregate's id) and `body` (JSON)."""
    return f"""event AS (
        INSERT INTO outbox (aggregate_id, type, payload)
        SELECT resource::bigint, '{kind}', body::jsonb FROM {of}
    )"""


async def take(connection: Connection, at_most: int, but: list[int]) -> list[Event]:
    """The oldest that nobody else has taken, theirs until the transaction ends."""
    return [Event(*row) for row in await connection.fetch(_TAKE, at_most, as_array(but))]


async def published(connection: Connection, event_ids: list[int]) -> None:
    await connection.execute(_PUBLISHED, as_array(event_ids))


async def pending(connection: Connection) -> int:
    count: int = await connection.fetchval(_PENDING)
    return count


async def purge(connection: Connection, keep_h: int, at_most: int) -> int:
    """Published ones older than that, and how many there were."""
    return len(await connection.fetch(_PURGE, keep_h, at_most))
