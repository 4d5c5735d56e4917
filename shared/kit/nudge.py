"""Wakes a consumer of the outbox after a commit, so that events leave within seconds and not with its next scheduled run.

A nudge is a message without content in an SQS queue, whose event source invokes the consumer. It says nothing that the
outbox does not: one that is lost costs the time to the next scheduled run, so it is sent after the transaction, is bounded
by about a second, and never fails the request. While the queue fails, a circuit breaker skips it.
"""

import asyncio
from random import SystemRandom

from shared.kit import guard, telemetry
from shared.kit.aws_request import JsonService, NoAnswer, ServiceError
from shared.kit.breaker import BreakerSettings, CircuitBreaker
from shared.kit.circuit import CircuitOpen
from shared.kit.clock import FreezeSafeClock
from shared.kit.deadline import Deadline

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 0.2, 0.3
LONGEST_S = 2 * (CONNECT_TIMEOUT_S + READ_TIMEOUT_S)  # a kept connection may have ended: then once more on a new one
BREAKER = BreakerSettings(slow_s=LONGEST_S, call_timeout_s=2 * LONGEST_S, calls_min=3)


class Nudge:
    """Sends nudges to the queue at `queue_url`, on one connection that is kept. Belongs to one loop."""

    def __init__(self, queue_url: str) -> None:
        self._queue_url = queue_url
        self._sqs = JsonService(
            "sqs", connect_timeout_s=CONNECT_TIMEOUT_S, read_timeout_s=READ_TIMEOUT_S, keep_connection=True
        )
        self.breaker = CircuitBreaker("nudge", BREAKER, clock=FreezeSafeClock(), rng=SystemRandom().random)

    async def send(self, deadline: Deadline) -> bool:
        """Whether the queue has it. Raises nothing, and takes no time that the response needs."""
        remaining_s = deadline.remaining_s()
        if remaining_s < BREAKER.call_timeout_s:
            return False  # cut off in the middle, a thread would go on with the connection
        try:
            await guard.call(
                self.breaker,
                lambda: asyncio.to_thread(self._send),
                remaining_s=remaining_s,
                failures=(NoAnswer, ServiceError),
            )
        except (NoAnswer, ServiceError, TimeoutError) as error:
            telemetry.logger.warning(telemetry.NUDGE_FAILED, error_type=type(error).__name__, reason=str(error))
            return False
        except CircuitOpen:
            return False
        return True

    async def aclose(self) -> None:
        self._sqs.close()

    def _send(self) -> None:
        self._sqs.call("SendMessage", {"QueueUrl": self._queue_url, "MessageBody": "nudge"})
