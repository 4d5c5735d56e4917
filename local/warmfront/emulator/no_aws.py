"""Rejects handlers' calls to AWS where no AWS is emulated, so that none leaves this machine by accident."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator

MESSAGE = (
    "no AWS is emulated here: start with --aws local for a local one, or with --aws real for yours (service {service})"
)
CODE = "NoAwsHere"
HEAD_BYTES_MAX = 65_536
_SERVICE = re.compile(rb"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_XML_SERVICES = {b"s3", b"s3control", b"route53", b"cloudfront"}


@contextlib.asynccontextmanager
async def refusing_aws() -> AsyncIterator[str]:
    """The endpoint to give to clients of AWS: every call to it fails with the code `NoAwsHere` and says what to do."""
    server = await asyncio.start_server(_refuse, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        remaining = int(length[1]) if length else 0
        while remaining > 0 and (chunk := await reader.read(min(remaining, 65_536))):
            remaining -= len(chunk)
        writer.write(answer(head))
        await writer.drain()
    writer.close()


def answer(head: bytes) -> bytes:
    """The HTTP answer to a request with this head, in the shape that the client of its service reads.

    501 is a status that botocore does not try again.
    """
    found = _SERVICE.search(head)
    service = found[1] if found else b"unknown"
    text = MESSAGE.format(service=service.decode("latin-1"))
    if b"application/x-www-form-urlencoded" in head:
        kind = b"text/xml"
        body = f"<ErrorResponse><Error><Code>{CODE}</Code><Message>{text}</Message></Error></ErrorResponse>".encode()
    elif service in _XML_SERVICES:
        kind = b"application/xml"
        body = f"<Error><Code>{CODE}</Code><Message>{text}</Message></Error>".encode()
    else:
        kind = b"application/json"
        body = json.dumps({"__type": CODE, "message": text}).encode()
    return (
        b"HTTP/1.1 501 Not Implemented\r\nContent-Type: %b\r\nx-amzn-errortype: %b\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n%b" % (kind, CODE.encode(), len(body), body)
    )
