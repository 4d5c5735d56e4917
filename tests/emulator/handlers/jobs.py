"""Takes batches from a queue, and sends to one."""

import json
import os
from typing import Any


def handler(event: Any, context: Any) -> Any:
    """Notes every message; those that say so fail."""
    failed = []
    with open(os.environ["NOTES"], "a", encoding="utf-8") as file:
        for record in event["Records"]:
            file.write(
                json.dumps({"body": record["body"], "count": record["attributes"]["ApproximateReceiveCount"]}) + "\n"
            )
            if record["body"].startswith("fail"):
                failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def send(event: Any, context: Any) -> Any:
    """With boto3 and no address of its own: the emulator has set AWS_ENDPOINT_URL."""
    import boto3

    boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=event)
    return "sent"
