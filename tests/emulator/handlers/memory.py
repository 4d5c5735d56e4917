"""Handlers that hold memory."""

import os
import subprocess
import sys
import threading
import time
from typing import Any

held: list[Any] = []


def hold(event: Any, context: Any) -> Any:
    """Hold so many MB, for so long."""
    held.append(b"x" * (event["mb"] << 20))
    time.sleep(event.get("seconds", 0))
    return len(held)


def spike(event: Any, context: Any) -> Any:
    """Hold so many MB for a moment."""
    b"x" * (event << 20)
    return "given back"


def grow(event: Any, context: Any) -> Any:
    """Take memory until somebody stops it."""
    while True:
        held.append(b"x" * (16 << 20))


def child(event: Any, context: Any) -> Any:
    """A child process holds it."""
    pid = os.fork()
    if pid == 0:
        held.append(b"x" * (event << 20))
        time.sleep(60)
        os._exit(0)
    os.waitpid(pid, 0)
    return "child is gone"


def child_of_a_thread(event: Any, context: Any) -> Any:
    """The same, started by a thread that waits for it."""
    script = f"held = b'x' * ({event} << 20); import time; time.sleep(60)"
    thread = threading.Thread(target=subprocess.run, args=([sys.executable, "-c", script],))
    thread.start()
    thread.join()
    return "child is gone"
