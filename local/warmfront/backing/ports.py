"""Free loopback ports for servers. Knows nothing of what listens on them."""

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
    """A loopback port nobody listens on now. The server that takes it can still lose a race: see `on_free_port`."""
    candidates = _outside_ephemeral_range()
    for _ in range(PROBES_MAX):
        port = pick(candidates)
        if _can_bind(port):
            return port
    raise BackingError(
        f"no free port on {LOOPBACK}: {PROBES_MAX} probes between {candidates[0]} and {candidates[-1]} failed; "
        "stop a server that is not needed"
    )


def on_free_port[T](start: Callable[[int], T], pick: Callable[[range], int] = random.choice) -> T:
    """Runs `start(port)`, with another port when it raises PortTakenError."""
    for _ in range(RACES_MAX - 1):
        try:
            return start(free_port(pick))
        except PortTakenError:
            continue
    return start(free_port(pick))


def _outside_ephemeral_range() -> range:
    # A port from the ephemeral range (which is what binding to port 0 gives) could be taken by any outgoing connection
    # while the server restarts; a client that hammers the dead port can even be connected to itself.
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
