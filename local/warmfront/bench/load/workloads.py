"""Reads and checks a workload file: TOML that says which requests each variant gets."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

OURS = Path(__file__).with_name("shop.toml")
GROWTH = Path(__file__).with_name("growth.toml")

# `{id:1..100000}` draws a number, `{id}` repeats what this exchange drew; JSON's own braces never look like this.
_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)(?::(-?\d+)\.\.(-?\d+))?\}")
PAGE_DEPTH = "page_depth"
UUID = "uuid"
VARIANTS = "{variants}"


class WorkloadError(Exception):
    """A workload file that cannot be used; the message names the file, the key and what to write instead."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A value drawn once per exchange: a number in a range, a UUID, or a depth of paging."""

    name: str
    low: int = 0
    high: int = 0


@dataclass(frozen=True, slots=True)
class Template:
    """Text with holes: `literals[0] + value(names[0]) + literals[1] + ...`."""

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
    """A value of a response for a later step of the same exchange: a header, or a dotted path into the JSON body."""

    name: str
    header: str | None
    json: str | None
    default: str | None
    """Used when the response has no such value; without it, that is an error of the exchange."""


@dataclass(frozen=True, slots=True)
class Step:
    """One HTTP request of an exchange and what its response must be."""

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
    """One kind of exchange. Its last step is the request; those before it belong to the same sample, time and CPU."""

    name: str
    weight: float
    steps: tuple[Step, ...]
    draws: tuple[Draw, ...]

    @property
    def page_depth(self) -> Draw | None:
        return next((draw for draw in self.draws if draw.name == PAGE_DEPTH), None)


@dataclass(frozen=True, slots=True)
class Walk:
    """How the cursor of a page depth is found: page by page, before anything is timed."""

    start: str
    next: Template
    cursor: str
    rows: int


@dataclass(frozen=True, slots=True)
class Invocation:
    """A function invoked through the Invoke API before the load: schema, seed, a fresh copy."""

    function: str
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    prefix: str
    function: str
    description: str
    cursor_at_depth: Template | None
    """The cursor of a depth, for an API whose cursor is an offset; without it the pages are walked."""
    complexity: str = ""
    best_for: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    description: str
    requests: tuple[Request, ...]
    counted: bool
    """Gets `--requests` requests in `--blocks` blocks; the others share a time box."""
    fresh: bool
    """Writes, so the setup runs again before it."""
    walk: Walk | None


@dataclass(frozen=True, slots=True)
class WorkloadFile:
    name: str
    path: Path
    setup: tuple[Invocation, ...]
    variants: tuple[Variant, ...]
    workloads: tuple[Workload, ...]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def deepest(self) -> int:
        """The largest depth of paging that any workload asks for."""
        requests = (request for workload in self.workloads for request in workload.requests)
        return max((request.page_depth.high for request in requests if request.page_depth), default=0)

    def variant(self, name: str) -> Variant:
        return _named(self.variants, name, f"{self.path}: variant")

    def workload(self, name: str) -> Workload:
        return _named(self.workloads, name, f"{self.path}: workload")

    def setup_for(self, variants: tuple[str, ...]) -> tuple[Invocation, ...]:
        """The setup with `"{variants}"` replaced by the names that this run compares."""
        return tuple(
            Invocation(call.function, {k: list(variants) if v == VARIANTS else v for k, v in call.event.items()})
            for call in self.setup
        )


def _named[T: (Variant, Workload)](things: tuple[T, ...], name: str, what: str) -> T:
    for thing in things:
        if thing.name == name:
            return thing
    raise WorkloadError(f"{what} {name!r} is not there; there are {', '.join(thing.name for thing in things)}")


# The file as written. msgspec refuses unknown keys and wrong types and says where.


class _Step(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str | None = None
    expect: list[int] = msgspec.field(default_factory=lambda: [200])
    contains: list[str] = []
    json: dict[str, str | int | float | bool] = {}
    capture: dict[str, dict[str, str]] = {}


class _Request(_Step, forbid_unknown_fields=True):
    name: str = ""
    weight: float = 1.0
    before: list[_Step] = []
    workload: str = ""


class _Walk(msgspec.Struct, forbid_unknown_fields=True):
    start: str
    next: str
    cursor: str
    rows: int


class _Setup(msgspec.Struct, forbid_unknown_fields=True):
    function: str
    event: dict[str, Any] = {}


class _Variant(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    prefix: str = ""
    function: str = ""
    description: str = ""
    cursor_at_depth: str | None = None
    complexity: str = ""
    best_for: str = ""


class _Workload(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str = ""
    request: list[_Request] = []
    mix: dict[str, float] = {}
    counted: bool = False
    fresh: bool = False


class _File(msgspec.Struct, forbid_unknown_fields=True):
    variant: list[_Variant]
    name: str = ""
    headers: dict[str, str] = {}
    setup: list[_Setup] = []
    workload: list[_Workload] = []
    request: list[_Request] = []
    walk: _Walk | None = None


def load_workloads(path: Path) -> WorkloadFile:
    try:
        raw = msgspec.toml.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise WorkloadError(f"{path} cannot be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise WorkloadError(f"{path}: {str(error).replace('`$.', '`')}") from error
    return _Reader(path, raw).read()


class _Reader:
    """Turns the file as written into what the load generator renders, and names the place of every mistake."""

    def __init__(self, path: Path, raw: _File) -> None:
        self._path = path
        self._raw = raw

    def read(self) -> WorkloadFile:
        raw = self._raw
        if not raw.variant:
            raise self._error("variant", "at least one [[variant]] with a name and a path prefix is needed")
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
            raw.append(_Workload(name=self._raw.name or self._path.stem, request=self._raw.request, counted=True))
        if not raw:
            raise self._error("workload", "nothing to send: add [[request]] or [[workload]] with its requests")
        requests: dict[str, tuple[Request, ...]] = {}
        for index, workload in enumerate(raw):
            key = "request" if workload.request is self._raw.request else f"workload[{index}].request"
            requests[workload.name] = tuple(
                self._request(request, f"{key}[{i}]", workload.name) for i, request in enumerate(workload.request)
            )
        return tuple(self._workload(workload, i, requests) for i, workload in enumerate(raw))

    def _workload(self, raw: _Workload, index: int, requests: dict[str, tuple[Request, ...]]) -> Workload:
        key = f"workload[{index}]"
        if bool(raw.request) == bool(raw.mix):
            raise self._error(key, f"workload {raw.name!r} needs either requests or a mix of other workloads")
        own = requests[raw.name] or self._mix(raw, key, requests)
        walk = self._walk() if any(request.page_depth for request in own) else None
        return Workload(raw.name, raw.description, own, raw.counted, raw.fresh, walk)

    def _mix(self, raw: _Workload, key: str, requests: dict[str, tuple[Request, ...]]) -> tuple[Request, ...]:
        mixed: list[Request] = []
        for name, weight in raw.mix.items():
            parts = requests.get(name)
            if not parts:
                raise self._error(f"{key}.mix.{name}", f"there is no workload {name!r} with requests of its own")
            total = sum(part.weight for part in parts)
            share = self._weight(weight, f"{key}.mix.{name}") / total
            mixed += [Request(part.name, share * part.weight, part.steps, part.draws) for part in parts]
        return tuple(mixed)

    def _request(self, raw: _Request, key: str, workload: str) -> Request:
        steps_raw: list[tuple[_Step, str]] = [(step, f"{key}.before[{i}]") for i, step in enumerate(raw.before)]
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
            raise self._error(key, f"a weight is a number above 0, not {weight}")
        return weight

    def _step(self, raw: _Step, key: str, draws: dict[str, Draw], captured: set[str]) -> Step:
        def template(text: str, where: str) -> Template:
            return self._template(text, f"{key}.{where}", draws, captured)

        if not raw.path.startswith("/"):
            raise self._error(
                f"{key}.path", f"a path starts with '/' (the variant's prefix goes before it): {raw.path!r}"
            )
        if not raw.expect or any(not 100 <= status <= 599 for status in raw.expect):
            raise self._error(f"{key}.expect", f"HTTP statuses are expected, not {raw.expect}")
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
            raise self._error(
                key, 'a capture is { header = "ETag" } or { json = "path.to.value" }, with or without default'
            )
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
        """Notes what a placeholder draws; one that neither draws nor repeats is a mistake."""
        text, (name, low, high) = match.group(), match.groups()
        if low is not None and high is not None:
            draw = Draw(name, int(low), int(high))
            if draw.low > draw.high:
                raise self._error(key, f"the range of {text} is empty")
            if draws.setdefault(name, draw) != draw:
                raise self._error(key, f"{text} was drawn before from another range; write {{{name}}} to repeat it")
        elif name == UUID:
            draws.setdefault(UUID, Draw(UUID))
        elif name not in draws and name not in captured:
            known = sorted({UUID, *draws, *captured})
            raise self._error(key, f"unknown {text}; {{{name}:1..10}} would draw it, known here are {', '.join(known)}")

    def _walk(self) -> Walk | None:
        raw = self._raw.walk
        if raw is None:
            if all(variant.cursor_at_depth for variant in self._raw.variant):
                return None
            raise self._error("walk", "{page_depth:...} needs a [walk] that finds the cursor of a depth")
        if raw.rows < 1:
            raise self._error("walk.rows", f"the rows of a page are at least 1, not {raw.rows}")
        following = self._template(raw.next, "walk.next", {}, {"cursor"})
        if "cursor" not in following.names:
            raise self._error("walk.next", "the path of the next page must hold {cursor}")
        return Walk(raw.start, following, raw.cursor, raw.rows)

    def _variant(self, raw: _Variant, key: str) -> Variant:
        if raw.prefix and (not raw.prefix.startswith("/") or raw.prefix.endswith("/")):
            raise self._error(f"{key}.prefix", f"a prefix starts with '/' and does not end with it: {raw.prefix!r}")
        cursor = raw.cursor_at_depth
        template = None if cursor is None else self._template(cursor, f"{key}.cursor_at_depth", {}, {PAGE_DEPTH})
        return Variant(raw.name, raw.prefix, raw.function, raw.description, template, raw.complexity, raw.best_for)

    def _unique(self, key: str, names: list[str]) -> None:
        for name in names:
            if names.count(name) > 1:
                raise self._error(key, f"two are named {name!r}")

    def _error(self, key: str, what: str) -> WorkloadError:
        return WorkloadError(f"{self._path}: {key}: {what}")


def _plain(value: str | float | bool) -> str:
    """A value as the JSON check compares it: what `str` gives for numbers, JSON's words for booleans."""
    return str(value).lower() if isinstance(value, bool) else str(value)
