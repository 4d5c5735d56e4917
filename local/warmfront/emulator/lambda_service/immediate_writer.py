"""Bytes to a peer at once. Knows a transport and its socket, and nothing of what is said."""

import asyncio
import os
import socket


class PromptWriter:
    """`transport.write` that does not wait for the turn of the event loop to end.

    uvloop keeps what is written until all that had arrived was read (uvloop/handles/stream.pyx, `_queue_write`): with fifty
    connections, whoever could work on the first of it waits for the last. What the socket does not take is the transport's
    to send, and so is everything while the transport still has something, or is closing: order and errors stay its own.
    """

    __slots__ = ("_descriptor", "_transport")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        own: socket.socket | None = transport.get_extra_info("socket")
        self._transport = transport
        self._descriptor = -1 if own is None else own.fileno()

    def write(self, data: bytes) -> None:
        transport = self._transport
        if self._descriptor < 0 or transport.get_write_buffer_size() or transport.is_closing():
            transport.write(data)
            return
        try:
            sent = os.write(self._descriptor, data)
        except OSError:  # full, or broken: the transport will find the same
            sent = 0
        if sent < len(data):
            transport.write(data[sent:])
