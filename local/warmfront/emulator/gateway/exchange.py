"""Types of a request and a response between HTTP and the payload formats, and what both formats share."""

import time
from base64 import b64encode
from binascii import b2a_base64
from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple
from urllib.parse import unquote_plus
from uuid import UUID

import msgspec

from warmfront.emulator.template import ACCOUNT_ID, Api, ApiKey, Route, api_id

# Never part of an event: they belong to the connection between client and gateway.
HOP_BY_HOP: Final = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect")
)
_APART: Final = HOP_BY_HOP | {"cookie"}
# What a handler may not set: the gateway writes them itself.
RESPONSE_OWNED: Final = frozenset(
    ("connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)
RAW_NAMES: Final = "warmfront.raw_names"
"""Key of the ASGI scope: header names as the client wrote them, where the server keeps them."""
ANSWER: Final = "warmfront.answer"
"""Key of the ASGI scope: takes that scope and a whole response, headers complete, where the server can; False: it did not."""
_IDS_AT_ONCE: Final = 256
_TEXT_TYPES: Final = frozenset(("application/json", "application/xml", "application/javascript"))


class Head(NamedTuple):
    """A request's headers, read in one pass. Shared by requests with equal headers, so it must not be changed."""

    fields: dict[str, str]
    """Lower-case names, duplicates joined with a comma; without cookies and what belongs to the connection."""
    cookies: list[str] | None
    size_bytes: int
    chunked: bool


def read_head(headers: list[tuple[bytes, bytes]]) -> Head:
    fields: dict[str, str] = {}
    cookies: list[str] | None = None
    size_bytes, chunked = 0, False
    for raw_name, raw_value in headers:
        size_bytes += len(raw_name) + len(raw_value)
        name = raw_name.decode("latin-1")
        if name in _APART:
            if name == "cookie":
                found = [part for cookie in raw_value.decode("latin-1").split(";") if (part := cookie.strip())]
                cookies = found if cookies is None else cookies + found
            elif name == "transfer-encoding":
                chunked = True
            continue
        value = raw_value.decode("latin-1")
        fields[name] = f"{fields[name]},{value}" if name in fields else value
    return Head(fields, cookies, size_bytes, chunked)


class Request(NamedTuple):
    """An HTTP request as it came in: path and query not decoded."""

    method: str
    path: str
    query: str
    headers: list[tuple[bytes, bytes]]
    """As the client wrote them, for format 1.0; lower case where the server does not keep them."""
    head: Head
    body: bytes
    source_ip: str
    port: int
    scheme: str = "http"
    protocol: str = "HTTP/1.1"


class Response(NamedTuple):
    """An HTTP response; header names in lower case, without content-length."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class ApiContext(NamedTuple):
    """What is the same for every event of an API."""

    api_id: str
    account_id: str
    stage: str
    stage_variables: dict[str, str] | None


def api_context(api: Api) -> ApiContext:
    # A function URL without IAM knows no account of the caller (docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html).
    account_id = "anonymous" if api.kind == "url" and not api.authorizers else ACCOUNT_ID
    return ApiContext(api_id(api.logical_id), account_id, api.stage, dict(api.stage_variables) or None)


class Call(NamedTuple):
    """One request on its way to one route, with everything an event is made of."""

    request: Request
    context: ApiContext
    route: Route
    path: str
    """The path below the stage."""
    path_parameters: dict[str, str] | None
    request_id: str
    trace_id: str
    time_text: str
    time_ms: int
    request_uuid: str = ""
    """REST APIs and function URLs have one; a REST API's `request_id` is then its extended id."""
    authorizer: dict[str, object] | None = None
    """What `requestContext.authorizer` says; None: the route is open."""
    api_key: ApiKey | None = None
    """The key that the request came with, where its method requires one."""
    path_overwritten: bool = False
    """Whether parameter mapping gave the request's path; the stage's name is then no part of it."""


class Stamps:
    """Times and ids of requests, from an injected clock and source of randomness; they need not be secret.

    Ids are made by the hundred: one at a time, each costs a walk through code that other processes have pushed out of
    the caches.
    """

    __slots__ = ("_random", "_request_ids", "_second", "_text", "_trace_ends", "_uuids", "clock")

    def __init__(self, clock: Callable[[], float] = time.time, random: Random | None = None) -> None:
        self.clock = clock
        self._random = random or Random()
        self._second = -1
        self._text = ""
        self._request_ids: list[str] = []
        self._trace_ends: list[str] = []
        self._uuids: list[str] = []

    def now(self) -> tuple[str, int]:
        """`12/Mar/2020:19:03:58 +0000` and milliseconds; the text is made once per second."""
        now = self.clock()
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second))
        return self._text, int(now * 1000)

    def request_id(self) -> str:
        """Sixteen characters such as `JKJaXmPLvHcESHA=` (an HTTP API's id, a REST API's extended id)."""
        if not self._request_ids:
            draw = self._random.randbytes
            self._request_ids = [b2a_base64(draw(11), newline=False).decode() for _ in range(_IDS_AT_ONCE)]
        return self._request_ids.pop()

    def uuid(self) -> str:
        if not self._uuids:
            draw = self._random.getrandbits
            self._uuids = [str(UUID(int=draw(128), version=4)) for _ in range(_IDS_AT_ONCE)]
        return self._uuids.pop()

    def trace_id(self) -> str:
        """docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader"""
        if not self._trace_ends:
            draw = self._random.getrandbits
            self._trace_ends = [f"{draw(96):024x}" for _ in range(_IDS_AT_ONCE)]
        return f"Root=1-{self._second & 0xFFFFFFFF:08x}-{self._trace_ends.pop()}"


def is_text(content_type: str) -> bool:
    """Whether a request body of this type travels as text: recorded on AWS for HTTP APIs (ministack pull request 766).

    Everything else is base64: form-urlencoded, multipart, octet-stream and a missing type too.
    """
    kind = content_type.partition(";")[0].strip().lower()
    return kind in _TEXT_TYPES or kind.startswith("text/")


def encode_body(body: bytes, *, text: bool) -> tuple[str, bool]:
    """The body as an event carries it, and `isBase64Encoded`."""
    if text:
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass  # declared as text, but it is not: base64 keeps its bytes
    return b64encode(body).decode(), True


def parse_query(query: str) -> list[tuple[str, str]]:
    """Decoded names and values in order; `a` and `a=` both have an empty value."""
    pairs = []
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            if "%" in part or "+" in part:
                name, value = unquote_plus(name), unquote_plus(value)
            pairs.append((name, value))
    return pairs


def header_text(value: object) -> str | None:
    """A handler's header value as it is sent, or None if it is none: numbers and booleans are written as JSON does."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return None


encode_json: Final = msgspec.json.Encoder().encode
