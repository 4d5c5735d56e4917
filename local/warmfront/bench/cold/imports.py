"""Builds an import tree by package from a process's record, and finds the import to improve first.

A module's own time is what its import took less the imports it set off. Several processes are noted; each module counts with the
median of its times, so that one disturbed process draws no false picture.
"""

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from warmfront.results import Advice, ImportNode

Kind = Literal["own", "package", "standard", "runtime"]
SMALL_MS = 0.05
"""Packages below this are one line together, where they hang below the same parent."""


@dataclass(slots=True)
class Module:
    """One module of one init. `parent`: whose import set its own off; None: the handler itself, or the runtime client."""

    name: str
    parent: str | None
    kind: Kind
    self_ms: float
    memory_bytes: int = 0
    imports: set[str] = field(default_factory=set)
    """Everything it asks for, imported by it or before it."""
    lines: dict[str, int] = field(default_factory=dict)

    @property
    def package(self) -> str:
        """What it is counted under: our own code module by module, everybody else's by package."""
        return self.name if self.kind == "own" else self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Record:
    """What one process noted (local/warmfront/emulator/lambda_service/runtimes/anatomy.py writes it)."""

    imports: Sequence[Sequence[Any]]  # name, parent's place, start, end, memory before and after
    edges: Sequence[tuple[str, str, int]]
    origins: Mapping[str, str | None]
    standard: frozenset[str]
    handler: str
    handler_from: int
    handler_to: int
    began_ns: int
    imports_done_ns: int
    spans: Sequence[Mapping[str, Any]]
    structure: bool

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Record":
        known = {name: document[name] for name in cls.__slots__ if name not in ("edges", "standard")}
        edges = [(importer, name, line) for importer, name, line in document["edges"]]
        return cls(**known, edges=edges, standard=frozenset(document["standard"]))


def modules_of(timed: Sequence[Record], structure: Record) -> dict[str, Module]:
    """Name -> module of one init: times from the timed records, memory and who asks for whom from the structural one."""
    times = [_self_ms(record) for record in timed]
    tops = _Distributions()
    found: dict[str, Module] = {}
    own_memory = _self_values(structure, 4, 5)
    of_init = structure.imports if structure.handler_to < 0 else structure.imports[: structure.handler_to]
    for place, (name, parent, *_) in enumerate(of_init):
        if name in found:
            found[name].memory_bytes += own_memory[place]
            continue
        of_handler = structure.handler_from <= place < structure.handler_to
        known = [each[name] for each in times if name in each]
        found[name] = Module(
            name=name,
            parent=structure.imports[parent][0] if parent >= 0 else None,
            kind=_kind(name, structure, tops) if of_handler else "runtime",
            self_ms=median(known) if known else 0.0,
            memory_bytes=own_memory[place],
        )
    for importer, name, line in structure.edges:
        if importer in found:
            found[importer].imports.add(name)
            found[importer].lines.setdefault(name, line)
    for module in found.values():
        parent_package = module.name.rpartition(".")[0]
        if parent_package:
            module.imports.add(parent_package)
        if module.parent is not None:
            found[module.parent].imports.add(module.name)
    return found


def late_imports(record: Record) -> list[tuple[str, int, int]]:
    """What was imported after init: package, start and end."""
    late = record.imports[record.handler_to :] if record.handler_to >= 0 else ()
    return [(str(name), start, end) for name, parent, start, end, *_ in late if parent < 0]


def _self_ms(record: Record) -> dict[str, float]:
    times: dict[str, float] = {}
    for (name, *_), own in zip(record.imports, _self_values(record, 2, 3), strict=True):
        times[name] = times.get(name, 0.0) + own / 1e6
    return times


def _self_values(record: Record, first: int, last: int) -> list[int]:
    """The difference of two columns, less those of the imports below."""
    own = [row[last] - row[first] for row in record.imports]
    for row in record.imports:
        if row[1] >= 0:
            own[row[1]] -= row[last] - row[first]
    return own


class _Distributions:
    """Which top-level names of a folder an installer put there; the rest is somebody's own code."""

    def __init__(self) -> None:
        self._known: dict[Path, frozenset[str]] = {}

    def holds(self, folder: Path, top: str) -> bool:
        if folder not in self._known:
            self._known[folder] = frozenset(self._tops(folder))
        return top in self._known[folder]

    def _tops(self, folder: Path) -> Iterable[str]:
        for distribution in importlib.metadata.distributions(path=[str(folder)]):
            for file in distribution.files or ():
                yield file.parts[0].partition(".")[0]


def _kind(name: str, record: Record, tops: _Distributions) -> Kind:
    top = name.partition(".")[0]
    if top in record.standard:
        return "standard"
    origin = record.origins.get(name) or _origin_below(name, record)
    if origin is None or not origin.startswith("/"):
        return "package" if origin is None and name != record.handler.rpartition(".")[0] else "own"
    folder = Path(origin).parents[name.count(".") + (Path(origin).stem == "__init__")]
    return "package" if tops.holds(folder, top) else "own"


def _origin_below(name: str, record: Record) -> str | None:
    """A namespace package has no file; any module in it says where it lies."""
    for other, origin in record.origins.items():
        if other.startswith(f"{name}.") and origin:
            up = other.count(".") - name.count(".") + (Path(origin).stem == "__init__")
            return str(Path(origin).parents[up - 1] / "__init__.py")
    return None


# The tree


def tree_of(modules: Mapping[str, Module]) -> tuple[ImportNode, ...]:
    """The runtime client's imports and the handler's, each a node; below them packages by who asked for them first."""
    roots = []
    for name, kinds in (("runtime client", {"runtime"}), ("handler", {"own", "package", "standard"})):
        own = {each.name: each for each in modules.values() if each.kind in kinds}
        children = _children(None, own)
        if children:
            roots.append(_node(name, "runtime" if name == "runtime client" else "own", 0.0, 0, 0, children))
    return tuple(roots)


def _children(parent: str | None, modules: Mapping[str, Module]) -> list[ImportNode]:
    below: dict[str | None, list[Module]] = {}
    for module in modules.values():
        below.setdefault(module.parent if module.parent in modules else None, []).append(module)
    return _grouped(below[parent], below) if parent in below else []


def _grouped(first: Sequence[Module], below: Mapping[str | None, list[Module]]) -> list[ImportNode]:
    """Modules of one package that hang together are one node; what they asked for hangs below it."""
    nodes = []
    by_package: dict[str, list[Module]] = {}
    for module in first:
        by_package.setdefault(module.package, []).append(module)
    for package, members in by_package.items():
        queue, inside = list(members), []
        outside: list[Module] = []
        while queue:
            module = queue.pop()
            inside.append(module)
            for child in below.get(module.name, ()):
                (queue if child.package == package else outside).append(child)
        own_ms = sum(module.self_ms for module in inside)
        memory = sum(module.memory_bytes for module in inside)
        nodes.append(_node(package, inside[0].kind, own_ms, memory, len(inside), _grouped(outside, below)))
    return sorted(nodes, key=lambda node: -node.cumulative_ms)


def _node(
    name: str, kind: str, self_ms: float, memory: int, modules: int, children: Sequence[ImportNode]
) -> ImportNode:
    return ImportNode(
        name=name,
        kind=kind,
        self_ms=self_ms,
        cumulative_ms=self_ms + sum(child.cumulative_ms for child in children),
        modules=modules + sum(child.modules for child in children),
        memory_kb=(memory + 1024 * sum(child.memory_kb for child in children)) / 1024,
        children=tuple(children),
    )


def module_code_ms(modules: Mapping[str, Module]) -> float:
    """What the function's own modules took themselves: their module-level code, without their imports."""
    return sum(module.self_ms for module in modules.values() if module.kind == "own")


# What to look at first


def advice_of(modules: Mapping[str, Module], handler_module: str) -> Advice | None:
    """The package that our own code imports and without which the init would be shortest.

    It saves the modules that nothing else asks for: all that can no longer be reached from the handler once our own code asks
    for the package no more. What another import needs as well stays, and is not counted as saved.
    """
    ours = {each.name: each for each in modules.values() if each.kind not in ("runtime",)}
    own = [module for module in ours.values() if module.kind == "own"]
    asked = {ours[name].package for module in own for name in module.imports if name in ours}
    candidates = sorted(asked - {module.package for module in own})
    best: Advice | None = None
    for package in candidates:
        found = _without(package, ours, handler_module)
        if found is not None and (best is None or found.saves_ms > best.saves_ms):
            best = found
    return best


def _without(package: str, ours: Mapping[str, Module], handler_module: str) -> Advice | None:
    kept = _reachable(ours, handler_module, without=package)
    gone = [module for module in ours.values() if module.name not in kept]
    if not gone:
        return None
    importers = sorted(
        (name, line)
        for name, module in ours.items()
        if module.kind == "own"
        for target, line in module.lines.items()
        if target in ours and ours[target].package == package
    )
    return Advice(
        package=package,
        imported_by=tuple(dict.fromkeys(f"{name} line {line}" for name, line in importers)),
        cumulative_ms=sum(module.self_ms for module in ours.values() if module.name in _reachable(ours, package)),
        saves_ms=sum(module.self_ms for module in gone),
        saves_modules=len(gone),
        saves_memory_kb=sum(module.memory_bytes for module in gone) / 1024,
    )


def _reachable(ours: Mapping[str, Module], start: str, *, without: str | None = None) -> set[str]:
    """All that an import of `start` needs; `without`: the package that our own code does not ask for any more."""
    seen: set[str] = set()
    queue = [name for name in (start, *_parents(start)) if name in ours]
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        module = ours[name]
        queue += [
            target
            for target in module.imports
            if target in ours and not (module.kind == "own" and ours[target].package == without)
        ]
    return seen


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]
