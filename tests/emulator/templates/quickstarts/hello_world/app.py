"""The hello world of the REST quick start."""

import json
from typing import Any


def lambda_handler(event: Any, context: Any) -> Any:
    return {
        "statusCode": 200,
        "body": json.dumps({"message": "hello world", "path": event["path"], "method": event["httpMethod"]}),
    }
