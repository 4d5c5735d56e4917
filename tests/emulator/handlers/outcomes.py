"""Handlers that return, raise or end in every way the tests look at."""

import json
import os
import signal
import sys
import threading
import time
from typing import Any


def echo(event: Any, context: Any) -> Any:
    return event


def raises(event: Any, context: Any) -> Any:
    raise ValueError("boom")


def raises_runtime_error(event: Any, context: Any) -> Any:
    raise RuntimeError("not the client's")


def nothing(event: Any, context: Any) -> Any:
    return None


def constant(event: Any, context: Any) -> Any:
    return {"string": "text", "integer": 3, "list": ["hello", 3, True], "false": False, "empty": ""}[event]


def raw(event: Any, context: Any) -> Any:
    return b"\x00\xff"


def unserializable(event: Any, context: Any) -> Any:
    return {1, 2}


def coroutine(event: Any, context: Any) -> Any:
    async def answer() -> int:
        return 1

    made = answer()
    made.close()
    return made


def large(event: Any, context: Any) -> Any:
    return "x" * event


def ends(event: Any, context: Any) -> Any:
    print("before the end", flush=True)
    if event == "sys.exit":
        sys.exit(3)
    if event == "os._exit(0)":
        os._exit(0)
    if event == "segfault":
        import ctypes

        ctypes.string_at(0)
    if isinstance(event, int):
        os._exit(event)
    os.kill(os.getpid(), getattr(signal, event))
    time.sleep(60)


def sleeps(event: Any, context: Any) -> Any:
    print("asleep", flush=True)
    time.sleep(event)
    return "awake"


def pid(event: Any, context: Any) -> Any:
    return os.getpid()


def slow_pid(event: Any, context: Any) -> Any:
    time.sleep(event)
    return os.getpid()


def either(event: Any, context: Any) -> Any:
    """A process id, or what `ends` does."""
    return os.getpid() if event is None else ends(event, context)


def prints(event: Any, context: Any) -> Any:
    sys.stdout.write("x" * (event - 1) + "\n")
    return "printed"


def closes_stdout(event: Any, context: Any) -> Any:
    os.close(1)
    os.close(2)
    return "still here"


def forks(event: Any, context: Any) -> Any:
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    return child


def says(event: Any, context: Any) -> Any:
    print("one")
    print("two", file=sys.stderr)
    return json.dumps(event)


def prints_late(event: Any, context: Any) -> Any:
    """A thread prints when the answer is on its way, or has left."""
    threading.Timer(0.002, print, ["late"], {"flush": True}).start()


calls = 0


def counts(event: Any, context: Any) -> Any:
    global calls
    calls += 1
    if event == "raise":
        raise ValueError("counted")
    return calls
