"""The architecture diagram as a test: who may import whom, and what no module may do."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPS = {"functions": ROOT / "functions", "shared": ROOT / "shared", "warmfront": ROOT / "local" / "warmfront"}
MAY_IMPORT_TOP = {"functions": {"functions", "shared"}, "shared": {"shared"}, "warmfront": {"warmfront"}}

# Package of warmfront -> the packages it may import besides itself; the longest prefix of a module decides.
# `cli` composes and may import everything; nothing imports `cli`.
_EMULATOR = "warmfront.emulator"
_LAMBDA = f"{_EMULATOR}.lambda_service"
_BENCH = "warmfront.bench"
MAY_IMPORT: dict[str, set[str]] = {
    "warmfront.backing": set(),
    "warmfront.results": set(),
    "warmfront.provenance": set(),
    "warmfront.report": {"warmfront.results"},
    "warmfront.doctor": {f"{_EMULATOR}.template"},
    "warmfront.lab": {_BENCH, "warmfront.results", "warmfront.backing"},
    # Its modules compose the parts: compose.py, options.py, start_table.py.
    _EMULATOR: {_EMULATOR, "warmfront.backing"},
    f"{_EMULATOR}.template": set(),
    f"{_EMULATOR}.resources": {f"{_EMULATOR}.template"},
    f"{_EMULATOR}.dependencies": {f"{_EMULATOR}.template"},
    f"{_EMULATOR}.gateway": {_LAMBDA, f"{_EMULATOR}.template"},
    f"{_EMULATOR}.observe": {f"{_EMULATOR}.gateway", _LAMBDA, f"{_EMULATOR}.template"},
    # service.py composes the parts of the Lambda service; types.py, invocation.py and others are its leaves.
    _LAMBDA: {_LAMBDA, f"{_EMULATOR}.template"},
    f"{_LAMBDA}.runtimes": {_LAMBDA},
    f"{_LAMBDA}.environments": {_LAMBDA, f"{_LAMBDA}.runtimes", f"{_EMULATOR}.template"},
    f"{_LAMBDA}.logs": {_LAMBDA, f"{_LAMBDA}.environments", f"{_LAMBDA}.runtimes", f"{_EMULATOR}.template"},
    f"{_LAMBDA}.functions": {_LAMBDA, f"{_LAMBDA}.environments", f"{_LAMBDA}.logs", f"{_EMULATOR}.template"},
    f"{_LAMBDA}.event_sources": {_LAMBDA, f"{_EMULATOR}.template"},
    f"{_LAMBDA}.api": {_LAMBDA, f"{_LAMBDA}.functions", f"{_EMULATOR}.template"},
    f"{_BENCH}.load": set(),
    f"{_BENCH}.statistics": {"warmfront.results"},
    f"{_BENCH}.sizing": {"warmfront.results"},
    f"{_BENCH}.run": {
        *(f"{_BENCH}.{part}" for part in ("load", "statistics", "sizing")),
        "warmfront.results",
        "warmfront.provenance",
        "warmfront.backing",
    },
    f"{_BENCH}.cold": {
        *(f"{_BENCH}.{part}" for part in ("load", "statistics", "run")),
        "warmfront.results",
        "warmfront.provenance",
        "warmfront.backing",
    },
    f"{_BENCH}.overhead": {f"{_BENCH}.{part}" for part in ("load", "statistics", "run")},
}
# Modules of these packages that the package's own parts may import: the rest composes and is imported from above only.
LEAVES = {_LAMBDA: {"failures", "task_set", "types", "invocation", "trace_header", "aws_clients", "immediate_writer"}}


def source_files() -> list[Path]:
    return sorted(path for folder in TOPS.values() for path in folder.rglob("*.py"))


def module_name(path: Path) -> str:
    root = ROOT / "local" if path.is_relative_to(TOPS["warmfront"]) else ROOT
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def first_party_imports(path: Path) -> set[str]:
    """Dotted names of ours that a file imports, relative imports resolved."""
    module = module_name(path)
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{source}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in TOPS}


def room(name: str) -> str | None:
    """The package of MAY_IMPORT that a dotted name belongs to, or None."""
    parts = name.split(".")
    return next((room for n in range(len(parts), 0, -1) if (room := ".".join(parts[:n])) in MAY_IMPORT), None)


def violations(module: str, imports: set[str]) -> list[str]:
    """Imports of `module` that go against an arrow."""
    parts = module.split(".")
    found = [name for name in imports if name.split(".")[0] not in MAY_IMPORT_TOP[parts[0]]]
    if parts[0] == "functions" and len(parts) > 2:
        found += [name for name in imports if name.startswith("functions.") and name.split(".")[1] != parts[1]]
    if parts[:2] == ["shared", "kit"]:
        found += [name for name in imports if name.startswith("shared.shop")]
    if parts[0] == "warmfront" and parts[1:2] not in (["cli"], ["__main__"]):
        found += [name for name in imports if name.startswith("warmfront.") and not allowed(module, name)]
    return found


def allowed(module: str, name: str) -> bool:
    """Whether a module of warmfront outside cli may import `name`."""
    own, other = room(module), room(name)
    if own is None or other is None:
        return False
    if own == other:
        return True
    if own.startswith(f"{other}."):  # the package that composes this part: only its leaves
        leaf = name.removeprefix(f"{other}.").split(".")[0]
        return leaf in LEAVES.get(other, set()) | COMPOSED_FROM.get(own, set())
    rooms = {each for each in MAY_IMPORT[own] if own != each and not own.startswith(f"{each}.")}
    composes = {own} if own in MAY_IMPORT[own] else set()
    return any(other == each or other.startswith(f"{each}.") for each in rooms | composes)


# The Lambda API and the event sources stand before the composed service.
COMPOSED_FROM = {f"{_LAMBDA}.{part}": {"service"} for part in ("api", "event_sources")}


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_imports_follow_the_arrows(path: Path) -> None:
    assert violations(module_name(path), first_party_imports(path)) == []


@pytest.mark.parametrize(
    ("module", "planted"),
    [
        ("functions.pooled.app", "warmfront.emulator.template"),
        ("functions.pooled.app", "functions.naive.app"),
        ("shared.kit.postgres", "functions.pooled.app"),
        ("shared.kit.breaker", "shared.shop.settings"),
        ("warmfront.emulator.template.reader", "shared.shop.settings"),
        ("warmfront.emulator.template.reader", "warmfront.emulator.gateway.app"),
        ("warmfront.report.terminal", "warmfront.bench.run.session"),
        ("warmfront.bench.run.session", "warmfront.emulator.lambda_service.service"),
        ("warmfront.bench.load.generator", "warmfront.bench.run.session"),
        ("warmfront.emulator.gateway.app", "warmfront.backing.postgres"),
        ("warmfront.emulator.gateway.app", "warmfront.emulator.observe.observatory"),
        ("warmfront.emulator.lambda_service.functions.function", "warmfront.emulator.observe.observatory"),
        ("warmfront.emulator.lambda_service.functions.function", "warmfront.emulator.lambda_service.service.Service"),
        ("warmfront.emulator.lambda_service.environments.phases", "warmfront.emulator.lambda_service.logs.sinks"),
        ("warmfront.emulator.compose", "warmfront.cli.main"),
    ],
)
def test_a_planted_wrong_import_is_found(module: str, planted: str) -> None:
    assert violations(module, {planted}) == [planted]


def test_first_party_modules_have_no_import_cycles() -> None:
    modules = {module_name(path): path for path in source_files()}
    graph = {
        name: {target for wanted in first_party_imports(path) if (target := owner(wanted, modules)) and target != name}
        for name, path in modules.items()
    }
    assert find_cycle(graph) is None


def test_a_cycle_is_found() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) is not None


def owner(wanted: str, modules: dict[str, Path]) -> str | None:
    """The module that holds `wanted`, which may name an attribute."""
    if wanted in modules:
        return wanted
    parent = wanted.rpartition(".")[0]
    return parent if parent in modules else None


def find_cycle(graph: dict[str, set[str]]) -> list[str] | None:
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str] | None:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return None
        for target in sorted(graph.get(name, ())):
            cycle = visit(target, [*trail, name])
            if cycle:
                return cycle
        done.add(name)
        return None

    for name in sorted(graph):
        cycle = visit(name, [])
        if cycle:
            return cycle
    return None


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_every_module_opens_with_what_it_owns(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text)), (
        "a module opens with one sentence: what it owns and refuses to know"
    )
