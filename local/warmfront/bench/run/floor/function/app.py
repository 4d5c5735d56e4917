"""The silent hello-world: all that is measured around it is the emulator and the runtime client."""

from typing import Any

RESPONSE = {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": '{"hello": "world"}'}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG001
    return RESPONSE
