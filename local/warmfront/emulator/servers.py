"""Listening sockets and the uvicorn servers behind them."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, cast

import uvicorn

from warmfront.emulator.gateway.backlog import Backlog
from warmfront.emulator.gateway.http_protocol import OneWriteProtocol
from warmfront.emulator.options import EmulatorOptions, StartError


def bind(options: EmulatorOptions, count: int) -> list[socket.socket]:
    """One listening socket per API, on the ports from --port on (any free ones for port 0)."""
    sockets: list[socket.socket] = []
    for index in range(max(count, 1)):
        port = options.port + index if options.port else 0
        each = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            each.bind((options.host, port))
        except OSError as error:
            each.close()
            for other in sockets:
                other.close()
            reason = error.strerror or str(error)
            raise StartError(f"{options.host}:{port} cannot be used ({reason}); choose another with --port") from None
        each.listen(1024)
        sockets.append(each)
    return sockets


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the command owns signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(apps: Sequence[Callable[..., Any]], sockets: list[socket.socket]) -> AsyncIterator[None]:
    servers = []
    tasks = []
    protocol = functools.partial(OneWriteProtocol, backlog=Backlog(asyncio.get_running_loop()))
    for app, each in zip(apps, sockets, strict=False):
        config = uvicorn.Config(
            app,
            http=cast(type[OneWriteProtocol], protocol),
            ws="none",
            lifespan="off",
            loop="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # X-Forwarded-For is the client's word and no address of ours
            timeout_graceful_shutdown=1,
            timeout_keep_alive=75,
            backlog=1024,
        )
        server = _Server(config)
        servers.append(server)
        tasks.append(asyncio.create_task(server.serve(sockets=[each])))
    try:
        yield
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
