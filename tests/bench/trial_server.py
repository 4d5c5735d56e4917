"""A server in a process of its own for trials: answers after a fixed piece of work or a wait, or stalls on a beat.

`python FILE SPINS WAIT_A_MS WAIT_B_MS STALL_S`: what lies under /b waits for the second time, everything else for the first.
"""

import asyncio
import os
import selectors
import sys
import time

BODY = b'{"id": "1"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Server(asyncio.Protocol):
    spins = 0
    wait_a_s = wait_b_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        total = 0
        for number in range(self.spins):
            total += number * number
        answer = ANSWER * data.count(b"\r\n\r\n")
        if wait_s := self.wait_b_s if data.startswith(b"GET /b/") else self.wait_a_s:
            asyncio.get_running_loop().call_later(wait_s, self.transport.write, answer)
        else:
            self.transport.write(answer)


async def stall(every_s: float, for_s: float) -> None:
    """Blocks the whole loop, as a stop of the world does."""
    while True:
        await asyncio.sleep(every_s - for_s)
        time.sleep(for_s)  # noqa: ASYNC251 - that is the point


async def main() -> None:
    Server.spins = int(sys.argv[1])
    Server.wait_a_s, Server.wait_b_s = float(sys.argv[2]) / 1000, float(sys.argv[3]) / 1000
    stall_s = float(sys.argv[4])
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    gone = asyncio.Event()
    stalling = asyncio.create_task(stall(1.0, stall_s)) if stall_s else None
    await asyncio.get_running_loop().connect_read_pipe(lambda: Ends(gone), sys.stdin)
    await gone.wait()
    del stalling  # held until here, or nobody would
    os._exit(0)  # connections are open and a stall may be under way: nothing of them is worth a goodbye


class Ends(asyncio.Protocol):
    """The parent process has ended."""

    def __init__(self, gone: asyncio.Event) -> None:
        self.gone = gone

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.gone.set()


# epoll waits for whole milliseconds, select for microseconds.
asyncio.run(main(), loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector()))
