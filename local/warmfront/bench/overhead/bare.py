"""A bare Starlette route under uvicorn with the emulator's server settings, for comparison."""

import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def hello(request: Request) -> Response:  # noqa: ARG001
    return Response(b'{"hello":"world"}', media_type="application/json")


def main() -> None:
    app = Starlette(routes=[Route("/silent/hello", hello), Route("/printing/hello", hello)])
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app, http="httptools", loop="auto", ws="none", lifespan="off", access_log=False, log_config=None
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
