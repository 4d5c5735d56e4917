"""The architecture diagram as a test: who may import whom, and what no module may do."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRST_PARTY = {"functions", "shared", "local"}
MAY_IMPORT_TOP = {"functions": {"functions", "shared"}, "shared": {"shared"}, "local": {"local"}}

# Inside local: part -> the parts it may import besides itself. What composes (cli, serve, emulator) may import everything.
MAY_IMPORT_LOCAL: dict[str, set[str]] = {
    "template": set(),
    "lambda_service": {"template"},
    "gateway": {"lambda_service", "template"},
    "backing": set(),
    "results": set(),
    "report": {"results"},
    "bench": {"results", "backing"},
    "lab": {"bench", "results", "backing"},
    "observe": {"gateway", "lambda_service", "template"},
    "doctor": {"template"},
}
# Modules of the kit that still read the shop's settings or contract; each leaves this list with its own settings object.
KIT_STILL_IMPORTS_SHOP = {"cache", "endpoint", "limiter", "postgres", "redis", "secrets"}
COMPOSERS = {"cli", "serve", "cold", "emulator", "measure", "__init__"}


def source_files() -> list[Path]:
    return sorted(path for top in FIRST_PARTY for path in (ROOT / top).rglob("*.py"))


def first_party_imports(path: Path) -> set[str]:
    """Dotted names of ours that a file imports, relative imports resolved."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in FIRST_PARTY}


def violations(path: Path, imports: set[str]) -> list[str]:
    """Imports of `path` that go against an arrow."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    found = [name for name in imports if name.split(".")[0] not in MAY_IMPORT_TOP[parts[0]]]
    if parts[0] == "functions" and len(parts) > 2:
        found += [name for name in imports if name.startswith("functions.") and name.split(".")[1] != parts[1]]
    if parts[:2] == ("shared", "kit") and parts[-1] not in KIT_STILL_IMPORTS_SHOP:
        found += [name for name in imports if name.startswith("shared.shop")]
    if parts[0] == "local" and parts[1] not in COMPOSERS:
        allowed = MAY_IMPORT_LOCAL[parts[1]] | {parts[1]}
        found += [name for name in imports if name.startswith("local.") and name.split(".")[1] not in allowed]
    return found


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    assert violations(path, first_party_imports(path)) == []


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("functions/pooled/app.py", "local.template"),
        ("functions/pooled/app.py", "functions.naive.app"),
        ("shared/kit/postgres.py", "functions.pooled.app"),
        ("shared/kit/breaker.py", "shared.shop.settings"),
        ("local/template/reader.py", "shared.shop.settings"),
        ("local/template/reader.py", "local.gateway.app"),
        ("local/report/terminal.py", "local.bench.session"),
        ("local/bench/session.py", "local.lambda_service.service"),
        ("local/gateway/app.py", "local.backing.postgres"),
        ("local/gateway/app.py", "local.observe.observatory"),
        ("local/lambda_service/function.py", "local.observe.observatory"),
    ],
)
def test_a_planted_wrong_import_is_found(path: str, planted: str) -> None:
    assert violations(ROOT / path, {planted}) == [planted]


def test_first_party_modules_have_no_import_cycles() -> None:
    modules = {module_name(path): path for path in source_files()}
    graph = {
        name: {target for wanted in first_party_imports(path) if (target := owner(wanted, modules)) and target != name}
        for name, path in modules.items()
    }
    assert find_cycle(graph) is None


def test_a_cycle_is_found() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) is not None


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_opens_with_what_it_owns(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text)), (
        "a module opens with one sentence: what it owns and refuses to know"
    )
