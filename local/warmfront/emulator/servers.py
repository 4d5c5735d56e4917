"""Opens the listening sockets of an emulator and runs a server behind each."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import uvicorn

from warmfront.emulator.gateway.backlog import Backlog
from warmfront.emulator.gateway.http_protocol import OneWriteProtocol, SignallessServer
from warmfront.emulator.options import EmulatorOptions, StartError

BACKLOG = 1024
PORT_TRIES = 10
"""Attempts to find a port that is free on all addresses of a name."""


@dataclass(frozen=True, slots=True)
class Listener:
    """The sockets of one API: one for each address of the host's name, all on one port."""

    sockets: tuple[socket.socket, ...]
    url: str

    @property
    def port(self) -> int:
        return int(self.sockets[0].getsockname()[1])

    def close(self) -> None:
        for each in self.sockets:
            each.close()


def bind(options: EmulatorOptions, count: int) -> list[Listener]:
    """One listener for each API, on the ports from --port on (any free ones for port 0).

    `localhost` listens on its IPv4 and its IPv6 address, where the machine has both. Raises StartError.
    """
    listeners: list[Listener] = []
    try:
        for index in range(max(count, 1)):
            listeners += [_listener(options.host, options.port + index if options.port else 0)]
    except StartError:
        for each in listeners:
            each.close()
        raise
    return listeners


def _listener(host: str, port: int) -> Listener:
    addresses = _addresses(host)
    for last in [False] * (PORT_TRIES - 1) + [True]:
        sockets: list[socket.socket] = []
        try:
            for family, address in addresses:
                wanted = sockets[0].getsockname()[1] if sockets else port
                sockets.append(_socket(family, address, wanted))
        except OSError as error:
            for each in sockets:
                each.close()
            if port or last or not sockets:
                reason = error.strerror or str(error)
                raise StartError(f"{host}:{port} cannot be used ({reason}); choose another with --port") from None
            continue
        name = f"[{host}]" if ":" in host else host
        return Listener(tuple(sockets), f"http://{name}:{sockets[0].getsockname()[1]}")
    raise AssertionError("the last try returns or raises")


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """Family and address of each address of a name that this machine can listen on."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartError(f"--host {host}: {error.strerror or error}") from None
    named = [(family, str(address[0])) for family, _, _, _, address in found]
    if host == "localhost":  # some machines resolve it to only one of the two
        named = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    addresses: list[tuple[socket.AddressFamily, str]] = list(dict.fromkeys(named))
    usable = [each for each in addresses if _is_usable(*each)]
    return usable or addresses  # binding then raises the error to report


def _is_usable(family: socket.AddressFamily, address: str) -> bool:
    try:
        _socket(family, address, 0).close()
    except OSError:
        return False
    return True


def _socket(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.bind((address, port))
        found.listen(BACKLOG)
    except OSError:
        found.close()
        raise
    return found


@contextlib.asynccontextmanager
async def serving(apps: Sequence[Callable[..., Any]], listeners: Sequence[Listener]) -> AsyncIterator[None]:
    """Serve each application on its listener until the block ends."""
    servers = []
    tasks = []
    protocol = functools.partial(OneWriteProtocol, backlog=Backlog(asyncio.get_running_loop()))
    for app, listener in zip(apps, listeners, strict=False):
        config = uvicorn.Config(
            app,
            http=cast(type[OneWriteProtocol], protocol),
            ws="none",
            lifespan="off",
            loop="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # X-Forwarded-For is set by the client and not to be trusted
            timeout_graceful_shutdown=1,
            timeout_keep_alive=75,
            backlog=BACKLOG,
        )
        server = SignallessServer(config)
        servers.append(server)
        tasks.append(asyncio.create_task(server.serve(sockets=list(listener.sockets))))
    try:
        yield
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
