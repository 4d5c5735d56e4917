"""Gives moto's FIFO queues the deduplication of SQS: per queue or message group, five minutes long, answered with the first send."""

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

WINDOW_MS = 300_000
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-key-terms.html: the deduplication interval"""
_numbers = itertools.count(time.time_ns())
"""20 digits that grow, as SQS promises within a group; moto's are random, and missing for content-based deduplication."""


@dataclass
class Sent:
    """What a queue took within the last five minutes; deleted messages count too, as they do in SQS."""

    first: dict[tuple[str | None, str], Any] = field(default_factory=dict)

    def take(self, message: Any, scope: str) -> bool:
        """Give the message its sequence number; a duplicate gets the first send's identity instead.

        Args:
            message: moto's message, with `deduplication_id`, `group_id` and `sent_timestamp` (ms) set.
            scope: the queue's DeduplicationScope, `queue` or `messageGroup`.

        Returns:
            False for a duplicate, which must not be delivered.
        """
        self._forget(message.sent_timestamp - WINDOW_MS)
        key = (message.group_id if scope == "messageGroup" else None, message.deduplication_id)
        first = self.first.setdefault(key, message)
        if first is not message:
            message.id, message.sequence_number = first.id, first.sequence_number
            return False
        message.sequence_number = f"{next(_numbers):020d}"
        return True

    def _forget(self, until_ms: float) -> None:
        """Messages come in the order of their time, so the old ones are at the front."""
        while self.first and next(iter(self.first.values())).sent_timestamp <= until_ms:
            del self.first[next(iter(self.first))]


def deduplicate_as_sqs() -> None:
    """Replace what moto does: it compares with the messages still in the queue, whatever their group.

    moto's own event source mappings are left out for FIFO queues: Warmfront polls queues itself.
    """
    from moto.sqs.models import Message, Queue

    add = Queue.add_message

    def add_message(self: Queue, message: Message) -> None:
        if not self.fifo_queue:
            add(self, message)
            return
        with self._messages_lock:
            moved_to_dead_letters = message.approximate_receive_count > 0
            if not moved_to_dead_letters:
                sent = self.__dict__.setdefault("_warmfront_sent", Sent())
                if not sent.take(message, self.attributes.get("DeduplicationScope", "queue")):
                    return
            self._messages.append(message)
            self._messages_lock.notify_all()

    Queue.add_message = add_message  # type: ignore[method-assign]
