"""Takes events from the outbox to the queue: at least once, in order for each aggregate. Knows no event's meaning.

A batch is read, sent and noted in one transaction. Killed in between, it is sent again: the queue drops what it has seen
within five minutes (the event's id is its deduplication id), and consumers know an event by its id after that. What the
queue refuses stays in the outbox and keeps back the later events of its own aggregate only; the next run tries it again.

Messages are CloudEvents 1.0 in JSON. After the events it purges what is kept for nobody: published ones, expired keys.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import boto3
from botocore.config import Config
from msgspec import Raw, Struct
from msgspec.json import Encoder

from shared.kit import environment, idempotency, outbox, telemetry
from shared.kit.deadline import Deadline
from shared.kit.outbox import Event
from shared.kit.postgres import Connection, Database
from shared.shop import settings
from shared.shop.settings import BadSetting

SETTINGS = settings.current()
BATCH = 10  # what SQS takes at once
BATCH_S = 10.0  # with less time than this no batch is begun
PURGE_S = 2.0  # and with less than this nothing is purged
MESSAGE_TYPE = "application/cloudevents+json"
# Two attempts within BATCH_S, and far below the time after which Postgres ends an idle transaction.
CLIENT = Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
PATIENCE = (
    f"SET LOCAL statement_timeout = {SETTINGS.statement_timeout_ms};"
    f"SET LOCAL idle_in_transaction_session_timeout = {SETTINGS.idle_in_transaction_timeout_ms}"
)

encode = Encoder().encode


class Message(Struct, frozen=True):
    id: str
    source: str
    type: str
    subject: str
    time: str
    data: Raw
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


def queue_url() -> str:
    if SETTINGS.events_queue_url is None:
        raise BadSetting("SHOP_EVENTS_QUEUE_URL is not set; it must be the URL of the queue to send to.")
    return SETTINGS.events_queue_url


QUEUE_URL = queue_url()


def database() -> Database:
    return environment.keep(open_database)


def open_database() -> Database:
    return Database(SETTINGS)


def sqs() -> Any:
    return environment.keep(open_sqs)


def open_sqs() -> Any:
    return boto3.client("sqs", config=CLIENT)


@telemetry.logger.inject_lambda_context
@telemetry.metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    del event
    report = environment.run(relay(Deadline.of(context, reserve_ms=SETTINGS.deadline_reserve_ms)))
    for name, value in report.items():
        telemetry.measure(METRICS[name], value)
    return report


METRICS = {
    "published": telemetry.EVENTS_PUBLISHED,
    "refused": telemetry.EVENTS_REFUSED,
    "pending": telemetry.EVENTS_PENDING,
    "purged": telemetry.ROWS_PURGED,
}


async def relay(deadline: Deadline) -> dict[str, int]:
    """Until nothing is left that can be sent, or there is no time for another batch."""
    published = 0
    refused: list[int] = []  # in this run; without them the oldest would be all that is ever tried
    while deadline.remaining_s() > BATCH_S:
        sent = await database().write(deadline, carry, refused)
        if sent is None:
            break
        published += sent
    pending = await database().read(deadline, outbox.pending)
    purged = await purge(deadline)
    return {"published": published, "refused": len(refused), "pending": pending, "purged": purged}


async def purge(deadline: Deadline) -> int:
    """Rows that nobody will ask for again, in small deletions while there is time; events come first."""
    purges: list[Callable[[Connection], Awaitable[int]]] = [
        lambda connection: outbox.purge(connection, SETTINGS.outbox_keep_h, SETTINGS.purge_batch),
        lambda connection: idempotency.purge(connection, SETTINGS.purge_batch),
    ]
    purged = 0
    for work in purges:
        count = SETTINGS.purge_batch
        while count == SETTINGS.purge_batch and deadline.remaining_s() > PURGE_S:
            count = await database().write(deadline, work)
            purged += count
    return purged


async def carry(connection: Connection, refused: list[int]) -> int | None:
    """One batch; None if there is none. Adds what was refused to `refused`."""
    async with connection.transaction():
        if SETTINGS.db_mode == "proxy":  # the role's time-outs are the shop's, and too short for a wait for the queue
            await connection.execute(PATIENCE)
        events = await outbox.take(connection, BATCH, refused)
        if not events:
            return None
        sent = await asyncio.to_thread(send, sqs(), events)
        await outbox.published(connection, sent)
    refused += {event.id for event in events}.difference(sent)
    return len(sent)


def send(client: Any, events: list[Event]) -> list[int]:
    """The ids of those that the queue has taken. Raises if it took none because it could not be asked."""
    answer = client.send_message_batch(QueueUrl=QUEUE_URL, Entries=[entry(event) for event in events])
    for failure in answer.get("Failed", ()):
        telemetry.logger.warning(
            telemetry.EVENT_REFUSED, event_id=failure["Id"], code=failure["Code"], our_fault=failure["SenderFault"]
        )
    return [int(success["Id"]) for success in answer.get("Successful", ())]


def entry(event: Event) -> dict[str, Any]:
    message = Message(str(event.id), "/shop", event.type, str(event.aggregate_id), event.time, Raw(event.data.encode()))
    attribute = {"DataType": "String", "StringValue": MESSAGE_TYPE}
    return {
        "Id": str(event.id),
        "MessageBody": encode(message).decode(),
        "MessageAttributes": {"content-type": attribute},
        "MessageGroupId": f"{event.type.partition('.')[0]}-{event.aggregate_id}",
        "MessageDeduplicationId": str(event.id),
    }
