"""Traces for X-Ray: Powertools' Tracer over a small provider, with spans for Postgres and Redis.

Powertools' default provider is the X-Ray SDK, in maintenance since February 2026
(docs.aws.amazon.com/xray/latest/devguide/xray-sdk-daemon-timeline.html). In Lambda it would be used for one thing, to
send a subsegment to the daemon, and costs for it 250 further modules (botocore and urllib3 among them, for a sampler
that Lambda never asks), 60 to 100 ms of cold start and 50 us per invocation. So the tracer gets a provider that sends
the same document, as docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html describes it.

Where Lambda does not trace (no daemon address, or POWERTOOLS_TRACE_DISABLED) nothing of this is made at all.
"""

import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec
from aws_lambda_powertools import Tracer
from aws_lambda_powertools.tracing.base import BaseProvider, BaseSegment

from shared.kit import telemetry

HEADER = b'{"format":"json","version":1}\n'
DATAGRAM_BYTES_MAX = 63_000  # the daemon reads at most 64 kB
# Name of the time that telemetry.spend is told of -> name and namespace of its subsegment.
SPANS = {"db": ("postgres", "remote"), "redis": ("redis", "remote"), "wait": ("wait for a connection", "local")}
_DISABLED_VALUES = ("1", "true", "yes", "on")
_encode = msgspec.json.Encoder(enc_hook=repr).encode


class Subsegment(BaseSegment):
    """One piece of work; sent when it ends."""

    __slots__ = ("document",)

    def __init__(self, name: str, trace_id: str, parent_id: str, **members: Any) -> None:
        self.document: dict[str, Any] = {
            "name": name,
            "id": os.urandom(8).hex(),
            "trace_id": trace_id,
            "parent_id": parent_id,
            "type": "subsegment",
            "namespace": "local",
            "in_progress": False,
            "start_time": time.time(),
            **members,
        }

    @property
    def id(self) -> str:
        identity: str = self.document["id"]
        return identity

    def close(self, end_time: float | None = None) -> None:
        self.document["end_time"] = time.time() if end_time is None else end_time

    def put_annotation(self, key: str, value: Any) -> None:
        self.document.setdefault("annotations", {})[key] = value

    def put_metadata(self, key: str, value: Any, namespace: str = "default") -> None:
        self.document.setdefault("metadata", {}).setdefault(namespace, {})[key] = value

    def add_exception(self, exception: BaseException, stack: Any = None, remote: bool = False) -> None:
        """The type only: messages of a database driver quote the values of a row."""
        del stack
        self.document["fault"] = True
        cause = {"id": os.urandom(8).hex(), "type": type(exception).__name__, "remote": remote}
        self.document["cause"] = {"exceptions": [cause]}

    def add_subsegment(self, subsegment: Any) -> None:
        """Children are sent by themselves and name their parent, so there is nothing to add."""

    def remove_subsegment(self, subsegment: Any) -> None:
        """See add_subsegment."""


class _NotSampled(Subsegment):
    """Stands in for a subsegment of an invocation that X-Ray did not choose."""

    def __init__(self) -> None:
        self.document = {}

    def close(self, end_time: float | None = None) -> None: ...

    def put_annotation(self, key: str, value: Any) -> None: ...

    def put_metadata(self, key: str, value: Any, namespace: str = "default") -> None: ...

    def add_exception(self, exception: BaseException, stack: Any = None, remote: bool = False) -> None: ...


_NOT_SAMPLED = _NotSampled()
_current: ContextVar[Subsegment] = ContextVar("subsegment", default=_NOT_SAMPLED)


class XRayProvider(BaseProvider):
    """Sends each subsegment as one datagram. A lost datagram is a lost trace, never a failed request."""

    def __init__(self, daemon: tuple[str, int], environ: Mapping[str, str] = os.environ) -> None:
        self._daemon = daemon
        self._environ = environ
        self._socket: socket.socket | None = None

    @contextmanager
    def in_subsegment(self, name: str | None = None, **members: Any) -> Iterator[Subsegment]:
        subsegment = self._begin(name or "", members)
        token = _current.set(subsegment)
        try:
            yield subsegment
        except BaseException as error:
            subsegment.add_exception(error)
            raise
        finally:
            _current.reset(token)
            self._end(subsegment)

    @asynccontextmanager
    async def in_subsegment_async(self, name: str | None = None, **members: Any) -> AsyncIterator[Subsegment]:
        with self.in_subsegment(name, **members) as subsegment:
            yield subsegment

    def put_annotation(self, key: str, value: Any) -> None:
        _current.get().put_annotation(key, value)

    def put_metadata(self, key: str, value: Any, namespace: str = "default") -> None:
        _current.get().put_metadata(key, value, namespace)

    def add_span(self, name: str, spent_s: float, failed: bool) -> None:
        """A subsegment of the current one, for work that has just ended; nothing if X-Ray did not choose this invocation."""
        parent = _current.get()
        if parent is _NOT_SAMPLED or name not in SPANS:
            return
        name, namespace = SPANS[name]
        members = {"namespace": namespace, **({"fault": True} if failed else {})}
        span = Subsegment(name, parent.document["trace_id"], parent.id, **members)
        span.document["start_time"] -= spent_s
        self._end(span)

    def patch(self, modules: Any) -> None:
        """Nothing is patched: what is worth a subsegment opens one."""

    def patch_all(self) -> None:
        """See patch."""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _begin(self, name: str, members: Mapping[str, Any]) -> Subsegment:
        parent = _current.get()
        if parent is not _NOT_SAMPLED:
            return Subsegment(name, parent.document["trace_id"], parent.id, **members)
        if not chosen(self._environ):
            return _NOT_SAMPLED
        header = self._environ["_X_AMZN_TRACE_ID"]
        fields = dict(part.partition("=")[::2] for part in header.split(";"))
        if "Root" not in fields or "Parent" not in fields:
            return _NOT_SAMPLED
        return Subsegment(name, fields["Root"], fields["Parent"], **members)

    def _end(self, subsegment: Subsegment) -> None:
        if subsegment is _NOT_SAMPLED:
            return
        subsegment.close()
        datagram = HEADER + _encode(subsegment.document)
        if len(datagram) > DATAGRAM_BYTES_MAX:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto(datagram, self._daemon)
        except OSError:
            pass


type LambdaHandler = Callable[[dict[str, Any], Any], Any]


def chosen(environ: Mapping[str, str]) -> bool:
    """Whether X-Ray takes the invocation that is served now."""
    # Set anew by the runtime client for each invocation: Root=1-...;Parent=...;Sampled=1
    return "Sampled=1" in environ.get("_X_AMZN_TRACE_ID", "")


def tracer_for(environ: Mapping[str, str], service: str) -> Tracer | None:
    """None where nothing traces."""
    address = environ.get("AWS_XRAY_DAEMON_ADDRESS", "")
    if not address or environ.get("POWERTOOLS_TRACE_DISABLED", "").lower() in _DISABLED_VALUES:
        return None
    # "host:port", or "tcp:host:port udp:host:port" where the two differ
    for part in address.split():
        if not part.startswith("tcp:"):
            address = part.removeprefix("udp:")
    host, _, port = address.rpartition(":")
    provider = XRayProvider((host, int(port)), environ)
    telemetry.on_spend = provider.add_span
    return Tracer(service=service, auto_patch=False, disabled=False, provider=provider)
