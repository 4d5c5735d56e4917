"""Renders HTTP requests as bytes by filling a workload's templates with values from a seeded random generator."""

import json
import random
import uuid
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any
from urllib.parse import quote

from .workloads import PAGE_DEPTH, UUID, Draw, Step, Template, Workload


class Exchange:
    """One exchange to send: the index of its request in the workload, the values drawn for it, and its first step as bytes."""

    __slots__ = ("first", "kind", "values")

    def __init__(self, kind: int, values: dict[str, str], first: bytes) -> None:
        self.kind = kind
        self.values = values
        self.first = first


class Cursors:
    """Maps a page depth to the cursor to request it with.

    Args:
        walked: the cursor after each fetched page, in order.
        rows: rows per page.
        at_depth: renders the cursor from the depth itself, for an API whose cursor is an offset.
    """

    def __init__(self, walked: Sequence[str], rows: int, at_depth: Template | None = None) -> None:
        self._walked = walked
        self._rows = rows
        self._at_depth = at_depth

    def at(self, depth: int) -> str:
        """Return the cursor for a depth in rows, rounded down to a whole page."""
        page = max(1, depth // self._rows)
        if self._at_depth is not None:
            return self._at_depth.render({PAGE_DEPTH: str(page * self._rows)})
        return self._walked[min(page, len(self._walked)) - 1]


class Renderer:
    """Renders any number of exchanges of one workload for one variant. Variants with the same seed get the same requests.

    Args:
        workload: the requests, with weights.
        prefix: the path before every request's own: base path and variant prefix.
        host: value of the Host header.
        headers: sent with every request.
        seed: seeds the choice of requests and values.
        cursors: cursors of page depths, where the workload draws `{page_depth:...}`.
        keep_alive: False adds `Connection: close`.
    """

    def __init__(
        self,
        workload: Workload,
        prefix: str,
        *,
        host: str,
        headers: Mapping[str, str],
        seed: str,
        cursors: Cursors | None = None,
        keep_alive: bool = True,
    ) -> None:
        self.requests = workload.requests
        self._random = random.Random(seed)
        self._cursors = cursors
        self._upto = list(accumulate(request.weight for request in workload.requests))
        self._steps = {
            step: _Bytes(step, prefix, host=host, headers=headers, keep_alive=keep_alive)
            for request in workload.requests
            for step in request.steps
        }

    def exchanges(self, count: int) -> list[Exchange]:
        """Draw and render the next `count` exchanges."""
        return [self._exchange() for _ in range(count)]

    def step(self, step: Step, values: Mapping[str, str]) -> bytes:
        """Render a later step of an exchange from its drawn and captured values."""
        return self._steps[step].render(values)

    def _exchange(self) -> Exchange:
        kind = 0
        if len(self._upto) > 1:
            kind = bisect_right(self._upto, self._random.random() * self._upto[-1], hi=len(self._upto) - 1)
        request = self.requests[kind]
        values = {draw.name: self._draw(draw) for draw in request.draws}
        return Exchange(kind, values, self._steps[request.steps[0]].render(values))

    def _draw(self, draw: Draw) -> str:
        if draw.name == UUID:
            return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        number = draw.low + int(self._random.random() * (draw.high - draw.low + 1))
        if draw.name != PAGE_DEPTH:
            return str(number)
        if self._cursors is None:
            raise ValueError(f"{{{PAGE_DEPTH}}} needs cursors: walk the pages before rendering")
        return self._cursors.at(number)


class _Bytes:
    """One step split at its placeholders once, so that rendering a request is a join of strings."""

    __slots__ = ("_body", "_body_holes", "_head_holes", "_literals")

    def __init__(self, step: Step, prefix: str, *, host: str, headers: Mapping[str, str], keep_alive: bool) -> None:
        lines = [f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if not keep_alive:
            lines.append("Connection: close")
        head = _Text()
        head.literal(f"{step.method} {prefix}")
        head.template(step.path, _in_path)
        head.literal(" HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines))
        for name, value in step.headers:
            head.literal(f"{name}: ")
            head.template(value, str)
            head.literal("\r\n")
        if step.body is None:
            head.literal("Content-Length: 0\r\n\r\n" if step.method in ("POST", "PUT", "PATCH") else "\r\n")
        self._literals = head.literals()
        self._head_holes = head.holes
        self._body = step.body
        self._body_holes = () if step.body is None else tuple((name, _in_json) for name in step.body.names)

    def render(self, values: Mapping[str, str]) -> bytes:
        parts = [self._literals[0]]
        for (name, escape), literal in zip(self._head_holes, self._literals[1:], strict=True):
            parts.append(escape(values[name]))
            parts.append(literal)
        if self._body is not None:
            body = self._body.render({name: escape(values[name]) for name, escape in self._body_holes}).encode()
            return f"{''.join(parts)}Content-Length: {len(body)}\r\n\r\n".encode() + body
        return "".join(parts).encode()


class _Text:
    def __init__(self) -> None:
        self._pieces: list[str] = [""]
        self.holes: list[tuple[str, Any]] = []

    def literal(self, text: str) -> None:
        self._pieces[-1] += text

    def template(self, template: Template, escape: Any) -> None:
        self._pieces[-1] += template.literals[0]
        for name, literal in zip(template.names, template.literals[1:], strict=True):
            self.holes.append((name, escape))
            self._pieces.append(literal)

    def literals(self) -> list[str]:
        return self._pieces


def _in_path(value: str) -> str:
    return value if value.isalnum() else quote(value, safe="")


def _in_json(value: str) -> str:
    return value if value.isalnum() else json.dumps(value)[1:-1]


def pick(document: object, path: str) -> object:
    """Return the value at a dotted path of a JSON document. Numbers index arrays.

    Raises:
        KeyError: nothing is at that path.
    """
    for part in path.split("."):
        if isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        elif isinstance(document, dict) and part in document:
            document = document[part]
        else:
            raise KeyError(path)
    return document


def body_is_right(step: Step, values: Mapping[str, str], body: bytes) -> bool:
    """Tell whether a response body passes the step's checks.

    Text must occur in the body; JSON values are compared as text.
    """
    filled = dict(values)
    if any(text.render(filled).encode() not in body for text in step.contains):
        return False
    if not step.json:
        return True
    try:
        document = json.loads(body)
        return all(_written(pick(document, path)) == expected.render(filled) for path, expected in step.json)
    except (ValueError, KeyError):
        return False


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
