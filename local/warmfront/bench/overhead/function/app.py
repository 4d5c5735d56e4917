"""Hello world, silent and printing: what an invocation costs when the handler does nothing."""

import typing

ANSWER = {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": '{"hello":"world"}'}


def silent(event: object, context: object) -> dict[str, typing.Any]:  # noqa: ARG001
    return ANSWER


def printing(event: object, context: object) -> dict[str, typing.Any]:  # noqa: ARG001
    print("one line of log")
    return ANSWER
