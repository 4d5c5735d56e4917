"""A handler that says how its environment started, with hooks of both kinds."""

import asyncio
import os
import random
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from snapshot_restore_py import register_after_restore, register_before_snapshot

calls: list[str] = []
at_init = uuid.uuid4()
random.seed(1)
scratch = Path(os.environ.get("TMPDIR", "/tmp")) / "from-init"
scratch.write_text("left by init")
loop = asyncio.new_event_loop() if os.environ.get("KEEP_LOOP") else None

if peer := os.environ.get("OPEN_TO"):
    import socket

    host, _, port = peer.partition(":")
    connection = socket.create_connection((host, int(port)))
if os.environ.get("KEEP_THREAD"):
    threading.Thread(target=threading.Event().wait, name="heartbeat", daemon=True).start()


def note(what: str) -> None:
    calls.append(what)
    print(f"hook {what}")
    if os.environ.get("FAIL_IN") == what:
        raise ValueError(f"no {what}")


for each in ("first", "second"):
    register_before_snapshot(note, f"before {each}")
    register_after_restore(note, f"after {each}")
print("init ran", flush=True)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    if (seconds := (event or {}).get("sleep_s")) is not None:
        time.sleep(seconds)
    if (status := (event or {}).get("exit")) is not None:
        os._exit(status)
    print("handled")
    return {
        "calls": calls,
        "pid": os.getpid(),
        "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
        "version": context.function_version,
        "arn": context.invoked_function_arn,
        "log_stream": context.log_stream_name,
        "uuid": str(uuid.uuid4()),
        "at_init": str(at_init),
        "random": random.random(),
        "scratch": (Path(os.environ.get("TMPDIR", "/tmp")) / "from-init").read_text(),
        "loop": loop.run_until_complete(asyncio.wait_for(in_thread(loop), 5)) if loop is not None else None,
        "socket_alive": alive() if peer else None,
        "max_concurrency": os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY"),
        "modules": len(sys.modules),
    }


async def in_thread(running: asyncio.AbstractEventLoop) -> str:
    """Wants the loop's own wake-up pipe to work: environments that shared it would take each other's bytes."""
    for _ in range(40):
        await running.run_in_executor(None, time.sleep, 0.002)
    return "woken"


def alive() -> bool:
    try:
        connection.sendall(b"x")
    except OSError:
        return False
    return True
