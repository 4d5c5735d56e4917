"""Renders requests as bytes: values drawn from a seed fill a workload's templates."""

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
    """One exchange to be sent: which request of the workload, what was drawn for it, and its first step as bytes."""

    __slots__ = ("first", "kind", "values")

    def __init__(self, kind: int, values: dict[str, str], first: bytes) -> None:
        self.kind = kind
        self.values = values
        self.first = first


class Cursors:
    """The cursor of every walked depth. Where the depth itself is the cursor, nothing was walked."""

    def __init__(self, walked: Sequence[str], rows: int, at_depth: Template | None = None) -> None:
        self._walked = walked
        self._rows = rows
        self._at_depth = at_depth

    def at(self, depth: int) -> str:
        """The cursor behind which page `depth` starts; depths between two walked pages fall back to the one before."""
        page = max(1, depth // self._rows)
        if self._at_depth is not None:
            return self._at_depth.render({PAGE_DEPTH: str(page * self._rows)})
        return self._walked[min(page, len(self._walked)) - 1]


class Renderer:
    """An endless supply of exchanges of one workload for one variant; one seed asks two variants the same."""

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
        return [self._exchange() for _ in range(count)]

    def step(self, step: Step, values: Mapping[str, str]) -> bytes:
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
            raise ValueError(f"{{{PAGE_DEPTH}}} was drawn before its cursors were walked")
        return self._cursors.at(number)


class _Bytes:
    """One step as the parts between its holes, encoded once: a request is then a join."""

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
    """The value at a dotted path; KeyError when it is not there. Numbers index arrays."""
    for part in path.split("."):
        if isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        elif isinstance(document, dict) and part in document:
            document = document[part]
        else:
            raise KeyError(path)
    return document


def body_is_right(step: Step, values: Mapping[str, str], body: bytes) -> bool:
    """Do the response's body checks hold? Text is searched, JSON values are compared as they are written."""
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
