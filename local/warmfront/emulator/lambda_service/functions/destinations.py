"""Carries records of asynchronous invocations, and dead letters, to functions, queues, topics and event buses. Decides nothing."""

import json
from collections.abc import Callable

from warmfront.emulator.lambda_service.aws_clients import AwsClients, AwsUnavailable
from warmfront.emulator.lambda_service.types import ServiceError

Submit = Callable[[str, bytes], None]
"""Queue an event for a function named by name or ARN. Raises ServiceError."""


class Destinations:
    """The courier of the asynchronous invoker: what cannot be delivered is told with `note`."""

    def __init__(self, submit: Submit, aws: AwsClients | None, note: Callable[[str], None]) -> None:
        self._submit = submit
        self._aws = aws
        self._note = note

    async def deliver(self, arn: str, record: dict[str, object]) -> None:
        """A record of one event's end (docs: lambda/latest/dg/invocation-async-retain-records.html)."""
        body = json.dumps(record, separators=(",", ":"))
        try:
            match _service_of(arn):
                case "lambda":
                    self._submit(arn, body.encode())
                case "sqs":
                    await self._to_queue(arn, body, {})
                case "sns":
                    await self._clients().call("sns", "publish", TopicArn=arn, Message=body)
                case "events":
                    await self._to_bus(arn, body, record)
                case other:
                    self._note(f"destination {arn}: {other or 'this'} is not emulated, so the record is lost: {body}")
        except (AwsUnavailable, ServiceError) as error:
            self._note(f"destination {arn} did not take the record: {error}")

    async def bury(self, arn: str, event: bytes, attributes: dict[str, str | int]) -> None:
        """An event nobody could process, in the queue or topic of DeadLetterConfig."""
        text = event.decode(errors="replace")
        try:
            match _service_of(arn):
                case "sqs":
                    await self._to_queue(arn, text, attributes)
                case "sns":
                    await self._clients().call(
                        "sns", "publish", TopicArn=arn, Message=text, MessageAttributes=_attributes(attributes)
                    )
                case _:
                    self._note(f"dead-letter queue {arn}: only SQS and SNS can be one")
        except AwsUnavailable as error:
            self._note(f"dead-letter queue {arn} did not take the event: {error}")

    def _clients(self) -> AwsClients:
        if self._aws is None:
            raise AwsUnavailable("there is no AWS here; start with --aws local")
        return self._aws

    async def _to_queue(self, arn: str, body: str, attributes: dict[str, str | int]) -> None:
        clients = self._clients()
        url = await queue_url(clients, arn)
        await clients.call(
            "sqs", "send_message", QueueUrl=url, MessageBody=body, MessageAttributes=_attributes(attributes)
        )

    async def _to_bus(self, arn: str, body: str, record: dict[str, object]) -> None:
        context = record["requestContext"]
        assert isinstance(context, dict)
        outcome = "Success" if context["condition"] == "Success" else "Failure"
        entry = {
            "Source": "lambda",
            "DetailType": f"Lambda Function Invocation Result - {outcome}",
            "Detail": body,
            "Resources": [str(context["functionArn"]), arn],
            "EventBusName": arn.rpartition("/")[2],
        }
        answer = await self._clients().call("events", "put_events", Entries=[entry])
        if answer.get("FailedEntryCount"):
            raise AwsUnavailable(str(answer["Entries"]))


async def queue_url(clients: AwsClients, arn: str) -> str:
    """The address of a queue; queues of the account are found by name."""
    answer = await clients.call("sqs", "get_queue_url", QueueName=arn.rpartition(":")[2])
    return str(answer["QueueUrl"])


def _service_of(arn: str) -> str:
    parts = arn.split(":")
    return parts[2] if len(parts) > 5 and parts[0] == "arn" else ""


def _attributes(values: dict[str, str | int]) -> dict[str, dict[str, str]]:
    return {
        name: {"DataType": "Number" if isinstance(value, int) else "String", "StringValue": str(value)}
        for name, value in values.items()
        if value != ""
    }
