"""Finds free loopback ports for servers."""

import random
import socket
from collections.abc import Callable
from pathlib import Path

from .errors import BackingError, PortTakenError

LOOPBACK = "127.0.0.1"
LOWEST_PORT = 15_000
RACES_MAX = 5
PROBES_MAX = 200


def free_port(pick: Callable[[range], int] = random.choice) -> int:
    """Return a loopback port that is free now. Another process may still take it first: see `on_free_port`.

    Raises:
        BackingError: no probe found a free port.
    """
    candidates = _outside_ephemeral_range()
    for _ in range(PROBES_MAX):
        port = pick(candidates)
        if _can_bind(port):
            return port
    raise BackingError(
        f"no free port on {LOOPBACK}: {PROBES_MAX} probes between {candidates[0]} and {candidates[-1]} failed; "
        "stop a server that you do not need"
    )


def on_free_port[T](start: Callable[[int], T], pick: Callable[[range], int] = random.choice) -> T:
    """Return `start(port)` for a free port; try other ports while it raises PortTakenError.

    Raises:
        PortTakenError: other processes took the port five times in a row.
        BackingError: no free port was found.
    """
    for _ in range(RACES_MAX - 1):
        try:
            return start(free_port(pick))
        except PortTakenError:
            continue
    return start(free_port(pick))


def _outside_ephemeral_range() -> range:
    # Binding to port 0 gives a port of the ephemeral range. While the server restarts, any outgoing connection could
    # take such a port, and a client that keeps connecting to it can even end up connected to itself.
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    low, high = (int(part) for part in text.split())
    below, above = range(LOWEST_PORT, low), range(high + 1, 65_536)
    widest = max(below, above, key=len)
    return widest if len(widest) >= 1_000 else range(LOWEST_PORT, 65_536)


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
