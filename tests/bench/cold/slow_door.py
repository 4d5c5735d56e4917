"""A door before Postgres that lets connections to one database wait before their first byte is handed on."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

DELAY_S = 0.05
STARTUP_BYTES = 4096


@contextlib.contextmanager
def slow_door(port: int, database: str) -> Iterator[int]:
    """The port to connect to instead. Runs on a thread of its own until the test is done."""
    loop = asyncio.new_event_loop()
    listening: list[int] = []
    ready = threading.Event()
    stop = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(STARTUP_BYTES)
        if b"database\0" + database.encode() + b"\0" in first:
            await asyncio.sleep(DELAY_S)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        server_writer.write(first)
        await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        listening.append(server.sockets[0].getsockname()[1])
        ready.set()
        await stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    try:
        assert ready.wait(10)
        yield listening[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
