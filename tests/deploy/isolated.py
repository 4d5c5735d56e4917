"""Run by a bare interpreter (-I -S): imports one built handler as Lambda would, calls it, and says what it saw.

argv: the handler, where to write, and the only folders to import from besides the standard library.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


class Context:
    """What Lambda's context object gives a handler."""

    def __init__(self, number: int, function: str) -> None:
        self.aws_request_id = f"00000000-0000-4000-8000-{number:012d}"
        self.function_name = function
        self.function_version = "1"
        self.invoked_function_arn = f"arn:aws:lambda:us-east-1:123456789012:function:{function}"
        self.memory_limit_in_mb = "1024"
        self.log_group_name, self.log_stream_name = f"/aws/lambda/{function}", "1"
        self._ends_s = time.monotonic() + float(os.environ["TIMEOUT_S"])

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends_s - time.monotonic()) * 1000)


def main() -> None:
    handler_name, output, *folders = sys.argv[1:]
    sys.path[:0] = folders
    module_name, _, attribute = handler_name.rpartition(".")
    module = importlib.import_module(module_name.replace("/", "."))
    handler = getattr(module, attribute)
    answers: list[Any] = []
    for number, event in enumerate(json.load(sys.stdin)):
        try:
            answers.append(handler(event, Context(number, os.environ["AWS_LAMBDA_FUNCTION_NAME"])))
        except Exception as error:  # what Lambda would report as a function error
            answers.append({"errorType": type(error).__name__, "errorMessage": str(error)})
    origins = {name: str(module.__file__) for name, module in sys.modules.items() if getattr(module, "__file__", None)}
    hooks = sys.modules.get("snapshot_restore_py")
    before = [hook.__qualname__ for hook, _, _ in hooks.get_before_snapshot()] if hooks else []
    Path(output).write_text(json.dumps({"answers": answers, "origins": origins, "before_snapshot": before}))


main()
