"""The handler behind every golden case: records the event it sees, then does what the case under way says.

GOLDEN_CASES is a folder of the runner's: `case.json` is the case, `events` gets one line per invocation, `gate` is a FIFO.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["GOLDEN_CASES"])


def handler(event: dict[str, Any], context: Any) -> object:
    case = json.loads((FOLDER / "case.json").read_text())
    with (FOLDER / "events").open("a") as events:
        events.write(json.dumps({"function": context.function_name, "event": event}) + "\n")
    spec = case.get("authorizer" if "methodArn" in event or "routeArn" in event else "handler", {})
    for deed, act in DEEDS.items():
        if deed in spec:
            act(spec[deed])
    if "body_bytes" in spec:
        return {"statusCode": 200, "body": "x" * spec["body_bytes"]}
    if "payload" in spec:
        return spec["payload"].encode()  # the runtime client sends bytes as they are
    if "unserializable" in spec:
        return {1, 2}
    return spec.get("returns", {"statusCode": 200, "body": json.dumps(event)})


def _exit(status: int) -> None:
    sys.stdout.flush()
    os._exit(status)


def _raise(message: str) -> None:
    raise Exception(message)


def _kill(name: str) -> None:
    os.kill(os.getpid(), signal.Signals[name])
    time.sleep(60)


def _close_output(wanted: bool) -> None:
    for descriptor in (1, 2) if wanted else ():
        with contextlib.suppress(OSError):  # an earlier invocation has closed it
            os.close(descriptor)


def _wait(wanted: bool) -> None:
    if wanted:
        (FOLDER / "gate").read_bytes()


DEEDS: dict[str, Callable[[Any], object]] = {
    "sleeps_s": time.sleep,
    "times_out": lambda _: time.sleep(60),
    "waits": _wait,
    "prints_bytes": lambda size: print("x" * size),
    "forks_s": lambda seconds: subprocess.Popen(["/bin/sleep", str(seconds)], start_new_session=True),
    "closes_output": _close_output,
    "allocates_mb": lambda size: b"x" * (size * 1_000_000),
    "exits": _exit,
    "calls_exit": sys.exit,
    "dies_of": _kill,
    "raises": _raise,
}
