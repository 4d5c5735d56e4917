"""Sends events from the outbox to the queue: at least once, in order within each aggregate.

A batch is claimed, sent and noted, each by itself: while the queue is slow, no transaction is open and no call of the
database is running. Killed in between, the batch is sent again when its claim is over; the queue drops what it has seen
within five minutes (the event's id is its deduplication id), and consumers know an event by its id after that. What the
queue refuses stays in the outbox and keeps back the later events of its own aggregate only; the next run tries it again.

Messages are CloudEvents 1.0 in JSON. After that it deletes old rows: published events, expired keys.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import boto3
from botocore.config import Config
from msgspec import Raw, Struct
from msgspec.json import Encoder

from shared.kit import environment, idempotency, outbox, telemetry
from shared.kit.deadline import Deadline
from shared.kit.outbox import Event
from shared.kit.pool import Connection
from shared.kit.postgres import Database
from shared.kit.settings import BadSetting
from shared.shop import settings

SETTINGS = settings.current()
BATCH = 10  # what SQS takes at once
BATCH_S = 10.0  # with less time than this no batch is begun
PURGE_S = 2.0  # and with less than this nothing is purged
MESSAGE_TYPE = "application/cloudevents+json"
CLIENT = Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
SEND_S = 9.0  # the most that one sending takes: two attempts and the pause between them
LEASE_S = 30.0  # of a claim; far above SEND_S, and below the time to the next run
PURGE_ROWS = 500

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


@environment.resource
def database() -> Database:
    return Database(SETTINGS.postgres)


@environment.resource
def sqs() -> Any:
    return boto3.client("sqs", config=CLIENT)


@telemetry.logger.inject_lambda_context
@telemetry.metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Invoked by a schedule, and by nudges in a queue after orders. Neither says anything that the outbox does not."""
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
        events = await database().run_idempotent(deadline, claim, refused)
        if not events:
            break
        sent = await send_claimed(deadline, events, time.time())
        refused += {event.id for event in events}.difference(sent)
        published += len(sent)
    pending = await database().run_idempotent(deadline, outbox.pending)
    purged = await purge(deadline)
    return {"published": published, "refused": len(refused), "pending": pending, "purged": purged}


async def claim(connection: Connection, refused: list[int]) -> list[Event]:
    return await outbox.claim(connection, BATCH, without=refused, lease_s=LEASE_S)


async def send_claimed(deadline: Deadline, events: list[Event], claimed_at_s: float) -> list[int]:
    """The ids of those that the queue has taken; the claim of all of them is over. Raises if the queue did not answer."""
    sent: list[int] = []
    try:
        # Stopped for longer than the claim, this process would send what another has sent since, in the wrong order.
        if time.time() - claimed_at_s < LEASE_S - SEND_S:
            sent = await asyncio.to_thread(send, sqs(), events)
        return sent
    finally:
        await database().run_idempotent(deadline, outbox.settle, [event.id for event in events], sent)


async def purge(deadline: Deadline) -> int:
    """Deletes published events and expired keys, a few at a time while there is time."""
    purges: list[Callable[[Connection], Awaitable[int]]] = [
        lambda connection: outbox.purge(connection, outbox.KEEP_H, PURGE_ROWS),
        lambda connection: idempotency.purge(connection, PURGE_ROWS),
    ]
    purged = 0
    for work in purges:
        count = PURGE_ROWS
        while count == PURGE_ROWS and deadline.remaining_s() > PURGE_S:
            count = await database().run_idempotent(deadline, work)
            purged += count
    return purged


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
        "MessageGroupId": f"{event.aggregate_type}-{event.aggregate_id}",
        "MessageDeduplicationId": str(event.id),
    }
