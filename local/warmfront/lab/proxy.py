"""The TCP proxy in front of the backing services: its listeners, and the commands that control it.

It is a process of its own, so that a busy experiment cannot delay it. `python -m warmfront.lab.proxy` reads one JSON
command per line from stdin, answers each with a line on stdout, and ends when stdin ends. `proxy_process` is its client.
"""

import asyncio
import contextlib
import json
import selectors
import socket
import sys
from collections.abc import Callable
from typing import Any

from warmfront.lab.proxy_connection import ActiveFault, Carried, Connection
from warmfront.lab.tcp_faults import FaultError, TcpFault

CONNECTIONS_MAX = 480  # two sockets each, and select() cannot use descriptors above 1023


def bound_socket() -> socket.socket:
    """Return a socket that keeps its port over shutdown() and a second listen().

    On shutdown, Linux releases a port that it chose itself, but keeps one that was bound by number. So one socket gets a
    number from Linux, and another binds it by number while the first still holds it.
    """
    with socket.socket() as chooser, contextlib.ExitStack() as on_error:
        chooser.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        chooser.bind(("127.0.0.1", 0))
        chosen = on_error.enter_context(socket.socket())
        chosen.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        chosen.setblocking(False)
        chosen.bind(chooser.getsockname())
        on_error.pop_all()
        return chosen


class Proxy:
    """One listener in front of one backing service, with the faults that are applied to its connections."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.connections: dict[int, Connection] = {}
        self.faults: dict[str, ActiveFault] = {}
        self.carried: Carried = {"upstream": 0, "downstream": 0}
        self.accepted = self.open_max = self.dial_errors = self.over_limit = 0
        self._accepting = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = bound_socket()
        self._listen()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def add(self, name: str, fault: TcpFault) -> None:
        """Apply a fault to open and future connections. A fault of the same name is replaced."""
        self.remove(name)
        active = self.faults[name] = ActiveFault(name, fault)
        if active.kind.whole_listener:
            self._refuse()
        for connection in tuple(self.connections.values()):
            connection.hit(active)

    def remove(self, name: str) -> None:
        """Clear a fault. Data that it held back continues at once; connections that it ended stay closed."""
        active = self.faults.pop(name, None)
        if active is None:
            return
        for connection in self.connections.values():
            connection.forget(active)
        active.clear()
        if active.kind.whole_listener and not any(other.kind.whole_listener for other in self.faults.values()):
            self._listen()

    def clear(self) -> None:
        for name in tuple(self.faults):
            self.remove(name)

    def stats(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "open": len(self.connections),
            "open_max": self.open_max,
            "dial_errors": self.dial_errors,
            "over_limit": self.over_limit,
            "bytes": dict(self.carried),
            "faults": {
                name: {"kind": active.fault.kind, "connections_hit": active.connections_hit}
                for name, active in self.faults.items()
            },
        }

    def reset_stats(self) -> None:
        self.accepted = self.dial_errors = self.over_limit = 0
        self.open_max = len(self.connections)
        self.carried.update({"upstream": 0, "downstream": 0})

    def close(self) -> None:
        self._refuse()
        for connection in tuple(self.connections.values()):
            connection.reset()
        self._listener.close()

    def _listen(self) -> None:
        if not self._accepting:
            self._listener.listen(512)
            asyncio.get_running_loop().add_reader(self._listener, self._accept)
            self._accepting = True

    def _refuse(self) -> None:
        # Shut down instead of closed: the port stays bound, and Linux lets the socket listen again.
        if self._accepting:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.shutdown(socket.SHUT_RDWR)
            self._accepting = False

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            if len(self.connections) >= CONNECTIONS_MAX:
                self.over_limit += 1
                accepted.close()
                continue
            self._welcome(accepted)

    def _welcome(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        self.accepted += 1
        connection = Connection(self.accepted, self.carried, self._forget)
        self.connections[connection.number] = connection
        self.open_max = max(self.open_max, len(self.connections))
        for active in self.faults.values():
            connection.hit(active)
        task = asyncio.get_running_loop().create_task(self._start(connection, accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            await connection.start(accepted, self.upstream)
        except OSError:
            self.dial_errors += 1

    def _forget(self, connection: Connection) -> None:
        self.connections.pop(connection.number, None)


class Control:
    """The commands of the control pipe. Each returns a dict; an invalid command returns one with `error`."""

    def __init__(self) -> None:
        self.proxies: dict[str, Proxy] = {}
        self.commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "listen": self._listen,
            "redirect": self._redirect,
            "add": self._add,
            "remove": self._remove,
            "clear": self._clear,
            "stats": self._stats,
            "reset_stats": self._reset_stats,
        }

    def answer(self, line: bytes) -> dict[str, Any]:
        try:
            command = json.loads(line)
            return self.commands[command.pop("command")](command)
        except (FaultError, ValueError, TypeError) as problem:
            return {"error": str(problem)}
        except KeyError as missing:
            return {"error": f"unknown or missing {missing} in {line.decode(errors='replace').strip()}"}

    def _listen(self, command: dict[str, Any]) -> dict[str, Any]:
        proxy = self.proxies[command["proxy"]] = Proxy((command["host"], command["port"]))
        return {"port": proxy.port}

    def _redirect(self, command: dict[str, Any]) -> dict[str, Any]:
        self.proxies[command["proxy"]].upstream = (command["host"], command["port"])
        return {}

    def _add(self, command: dict[str, Any]) -> dict[str, Any]:
        self.proxies[command["proxy"]].add(command["name"], TcpFault(**command["fault"]))
        return {}

    def _remove(self, command: dict[str, Any]) -> dict[str, Any]:
        self.proxies[command["proxy"]].remove(command["name"])
        return {}

    def _clear(self, command: dict[str, Any]) -> dict[str, Any]:
        self.proxies[command["proxy"]].clear()
        return {}

    def _stats(self, command: dict[str, Any]) -> dict[str, Any]:
        return self.proxies[command["proxy"]].stats()

    def _reset_stats(self, command: dict[str, Any]) -> dict[str, Any]:
        self.proxies[command["proxy"]].reset_stats()
        return {}


async def serve_control() -> None:
    """Execute commands from stdin until it ends, which also happens when the parent dies."""
    control = Control()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    while line := await reader.readline():
        sys.stdout.write(json.dumps(control.answer(line)) + "\n")
        sys.stdout.flush()
    for proxy in control.proxies.values():
        proxy.close()


def new_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop on select(), because epoll rounds every timer up to a whole millisecond."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve_control())
