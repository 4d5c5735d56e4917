"""Reads and validates a workload file: TOML that defines the requests sent to each variant."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from . import workload_schema as schema

SHOP_WORKLOADS = Path(__file__).with_name("shop.toml")
GROWTH_WORKLOADS = Path(__file__).with_name("growth.toml")

# `{id:1..100000}` draws a number, `{id}` repeats the number drawn in this exchange; braces of JSON do not match this.
_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)(?::(-?\d+)\.\.(-?\d+))?\}")
PAGE_DEPTH = "page_depth"
UUID = "uuid"
VARIANTS = "{variants}"


class WorkloadError(Exception):
    """A workload file is invalid; the message names the file, the key and what to write instead."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A value drawn once per exchange: a number from `low` to `high`, a UUID, or a page depth."""

    name: str
    low: int = 0
    high: int = 0


@dataclass(frozen=True, slots=True)
class Template:
    """Text with placeholders: `literals[0] + value(names[0]) + literals[1] + ...`."""

    literals: tuple[str, ...]
    names: tuple[str, ...] = ()

    def render(self, values: dict[str, str]) -> str:
        if not self.names:
            return self.literals[0]
        parts = [self.literals[0]]
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            parts += (values[name], literal)
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Capture:
    """Takes a value from a response for a later step of the exchange: a header, or a dotted path into the JSON body."""

    name: str
    header: str | None
    json: str | None
    default: str | None
    """Used when the response has no such value; with None the exchange then fails."""


@dataclass(frozen=True, slots=True)
class Step:
    """One HTTP request of an exchange and the checks on its response."""

    method: str
    path: Template
    headers: tuple[tuple[str, Template], ...]
    body: Template | None
    expect: frozenset[int]
    contains: tuple[Template, ...]
    json: tuple[tuple[str, Template], ...]
    captures: tuple[Capture, ...]

    @property
    def checks_body(self) -> bool:
        return bool(self.contains or self.json)


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of exchange. Its last step is the request; earlier steps count in the same sample's time and CPU."""

    name: str
    weight: float
    steps: tuple[Step, ...]
    draws: tuple[Draw, ...]

    @property
    def page_depth(self) -> Draw | None:
        return next((draw for draw in self.draws if draw.name == PAGE_DEPTH), None)


@dataclass(frozen=True, slots=True)
class Walk:
    """How to find the cursor of a page depth: fetch page after page, before the timed blocks."""

    start: str
    next: Template
    cursor: str
    rows: int


@dataclass(frozen=True, slots=True)
class Invocation:
    """A function to invoke through the Invoke API before the load, to create or reset data."""

    function: str
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Variant:
    """One implementation of the API: its path prefix, and the function that answers there."""

    name: str
    prefix: str
    function: str
    description: str
    cursor_at_depth: Template | None
    """Renders the cursor from the depth, for an API whose cursor is an offset; with None the pages are walked."""
    complexity: str = ""
    best_for: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """A named set of requests with weights."""

    name: str
    description: str
    requests: tuple[Request, ...]
    counted: bool
    """True: gets `--requests` requests in `--blocks` blocks. False: runs for a fixed time, shared by the variants."""
    fresh: bool
    """The workload writes, so the setup runs again before it."""
    walk: Walk | None


@dataclass(frozen=True, slots=True)
class WorkloadFile:
    """A workload file after validation."""

    name: str
    path: Path
    setup: tuple[Invocation, ...]
    variants: tuple[Variant, ...]
    workloads: tuple[Workload, ...]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def deepest(self) -> int:
        """The largest page depth of all workloads, in rows; 0 without any."""
        requests = (request for workload in self.workloads for request in workload.requests)
        return max((request.page_depth.high for request in requests if request.page_depth), default=0)

    def variant(self, name: str) -> Variant:
        return _named(self.variants, name, f"{self.path}: variant")

    def workload(self, name: str) -> Workload:
        return _named(self.workloads, name, f"{self.path}: workload")

    def setup_for(self, variants: tuple[str, ...]) -> tuple[Invocation, ...]:
        """Return the setup invocations with `"{variants}"` replaced by the variant names of this run."""
        return tuple(
            Invocation(call.function, {k: list(variants) if v == VARIANTS else v for k, v in call.event.items()})
            for call in self.setup
        )


def _named[T: (Variant, Workload)](things: tuple[T, ...], name: str, what: str) -> T:
    for thing in things:
        if thing.name == name:
            return thing
    raise WorkloadError(f"{what} {name!r} does not exist; choose from {', '.join(thing.name for thing in things)}")


def load_workloads(path: Path) -> WorkloadFile:
    """Read a workload file.

    Raises:
        WorkloadError: the file cannot be read or is invalid; the message names the key and the fix.
    """
    try:
        raw = msgspec.toml.decode(path.read_bytes(), type=schema.File)
    except OSError as error:
        raise WorkloadError(f"{path} cannot be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise WorkloadError(f"{path}: {str(error).replace('`$.', '`')}") from error
    return _Reader(path, raw).read()


class _Reader:
    """Converts the decoded file into workloads and variants; errors name the key."""

    def __init__(self, path: Path, raw: schema.File) -> None:
        self._path = path
        self._raw = raw

    def read(self) -> WorkloadFile:
        raw = self._raw
        if not raw.variant:
            raise self._error("variant", "add at least one [[variant]] with a name and a path prefix")
        self._unique("variant", [variant.name for variant in raw.variant])
        workloads = self._workloads()
        self._unique("workload", [workload.name for workload in workloads])
        return WorkloadFile(
            name=raw.name or self._path.stem,
            path=self._path,
            setup=tuple(Invocation(call.function, call.event) for call in raw.setup),
            variants=tuple(self._variant(variant, f"variant[{i}]") for i, variant in enumerate(raw.variant)),
            workloads=workloads,
            headers=raw.headers,
        )

    def _workloads(self) -> tuple[Workload, ...]:
        raw = list(self._raw.workload)
        if self._raw.request:
            raw.append(schema.Workload(name=self._raw.name or self._path.stem, request=self._raw.request, counted=True))
        if not raw:
            raise self._error("workload", "nothing to send: add [[request]] or [[workload]] with its requests")
        requests: dict[str, tuple[Request, ...]] = {}
        for index, workload in enumerate(raw):
            key = "request" if workload.request is self._raw.request else f"workload[{index}].request"
            requests[workload.name] = tuple(
                self._request(request, f"{key}[{i}]", workload.name) for i, request in enumerate(workload.request)
            )
        return tuple(self._workload(workload, i, requests) for i, workload in enumerate(raw))

    def _workload(self, raw: schema.Workload, index: int, requests: dict[str, tuple[Request, ...]]) -> Workload:
        key = f"workload[{index}]"
        if bool(raw.request) == bool(raw.mix):
            raise self._error(key, f"workload {raw.name!r} needs either requests or a mix of other workloads")
        own = requests[raw.name] or self._mix(raw, key, requests)
        walk = self._walk() if any(request.page_depth for request in own) else None
        return Workload(raw.name, raw.description, own, raw.counted, raw.fresh, walk)

    def _mix(self, raw: schema.Workload, key: str, requests: dict[str, tuple[Request, ...]]) -> tuple[Request, ...]:
        mixed: list[Request] = []
        for name, weight in raw.mix.items():
            parts = requests.get(name)
            if not parts:
                raise self._error(f"{key}.mix.{name}", f"there is no workload {name!r} with requests of its own")
            total = sum(part.weight for part in parts)
            share = self._weight(weight, f"{key}.mix.{name}") / total
            mixed += [Request(part.name, share * part.weight, part.steps, part.draws) for part in parts]
        return tuple(mixed)

    def _request(self, raw: schema.Request, key: str, workload: str) -> Request:
        steps_raw: list[tuple[schema.Step, str]] = [(step, f"{key}.before[{i}]") for i, step in enumerate(raw.before)]
        steps_raw.append((raw, key))
        draws: dict[str, Draw] = {}
        captured: set[str] = set()
        steps = []
        for step, where in steps_raw:
            steps.append(self._step(step, where, draws, captured))
            captured |= step.capture.keys()
        weight = self._weight(raw.weight, f"{key}.weight")
        return Request(raw.name or workload, weight, tuple(steps), tuple(draws.values()))

    def _weight(self, weight: float, key: str) -> float:
        if not weight > 0:
            raise self._error(key, f"a weight must be above 0, not {weight}")
        return weight

    def _step(self, raw: schema.Step, key: str, draws: dict[str, Draw], captured: set[str]) -> Step:
        def template(text: str, where: str) -> Template:
            return self._template(text, f"{key}.{where}", draws, captured)

        if not raw.path.startswith("/"):
            raise self._error(
                f"{key}.path", f"a path must start with '/' (the variant's prefix is put before it), not {raw.path!r}"
            )
        if not raw.expect or any(not 100 <= status <= 599 for status in raw.expect):
            raise self._error(f"{key}.expect", f"list at least one HTTP status from 100 to 599, not {raw.expect}")
        headers = {name: template(value, f"headers.{name}") for name, value in raw.headers.items()}
        if raw.body is not None and not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = Template(("application/json",))
        return Step(
            method=raw.method.upper(),
            path=template(raw.path, "path"),
            headers=tuple(headers.items()),
            body=None if raw.body is None else template(raw.body, "body"),
            expect=frozenset(raw.expect),
            contains=tuple(template(text, f"contains[{i}]") for i, text in enumerate(raw.contains)),
            json=tuple((path, template(_plain(value), f"json.{path}")) for path, value in raw.json.items()),
            captures=tuple(self._capture(name, how, f"{key}.capture.{name}") for name, how in raw.capture.items()),
        )

    def _capture(self, name: str, source: dict[str, str], key: str) -> Capture:
        if len(source.keys() & {"header", "json"}) != 1 or not source.keys() <= {"header", "json", "default"}:
            raise self._error(key, 'write { header = "ETag" } or { json = "path.to.value" }, optionally with a default')
        return Capture(name, source.get("header"), source.get("json"), source.get("default"))

    def _template(self, text: str, key: str, draws: dict[str, Draw], captured: set[str]) -> Template:
        literals, names, end = [], [], 0
        for match in _PLACEHOLDER.finditer(text):
            self._declare(match, key, draws, captured)
            literals.append(text[end : match.start()])
            names.append(match[1])
            end = match.end()
        return Template((*literals, text[end:]), tuple(names))

    def _declare(self, match: re.Match[str], key: str, draws: dict[str, Draw], captured: set[str]) -> None:
        """Record what a placeholder draws; raise if it neither draws a value nor repeats one."""
        text, (name, low, high) = match.group(), match.groups()
        if low is not None and high is not None:
            draw = Draw(name, int(low), int(high))
            if draw.low > draw.high:
                raise self._error(key, f"the range of {text} is empty")
            if draws.setdefault(name, draw) != draw:
                raise self._error(
                    key, f"{text} has another range than before; write {{{name}}} to repeat the first value"
                )
        elif name == UUID:
            draws.setdefault(UUID, Draw(UUID))
        elif name not in draws and name not in captured:
            known = sorted({UUID, *draws, *captured})
            raise self._error(key, f"unknown {text}; write {{{name}:1..10}} to draw it, or use {', '.join(known)}")

    def _walk(self) -> Walk | None:
        raw = self._raw.walk
        if raw is None:
            if all(variant.cursor_at_depth for variant in self._raw.variant):
                return None
            raise self._error("walk", "{page_depth:...} needs a [walk] section to find the cursor of a depth")
        if raw.rows < 1:
            raise self._error("walk.rows", f"a page must have at least 1 row, not {raw.rows}")
        following = self._template(raw.next, "walk.next", {}, {"cursor"})
        if "cursor" not in following.names:
            raise self._error("walk.next", "the path of the next page must contain {cursor}")
        return Walk(raw.start, following, raw.cursor, raw.rows)

    def _variant(self, raw: schema.Variant, key: str) -> Variant:
        if raw.prefix and (not raw.prefix.startswith("/") or raw.prefix.endswith("/")):
            raise self._error(f"{key}.prefix", f"a prefix must start with '/' and not end with it, not {raw.prefix!r}")
        cursor = raw.cursor_at_depth
        template = None if cursor is None else self._template(cursor, f"{key}.cursor_at_depth", {}, {PAGE_DEPTH})
        return Variant(raw.name, raw.prefix, raw.function, raw.description, template, raw.complexity, raw.best_for)

    def _unique(self, key: str, names: list[str]) -> None:
        for name in names:
            if names.count(name) > 1:
                raise self._error(key, f"the name {name!r} is used twice")

    def _error(self, key: str, what: str) -> WorkloadError:
        return WorkloadError(f"{self._path}: {key}: {what}")


def _plain(value: str | float | bool) -> str:
    """Format a value as the JSON check compares it: numbers by `str`, booleans as in JSON."""
    return str(value).lower() if isinstance(value, bool) else str(value)
