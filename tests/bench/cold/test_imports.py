"""The tree of imports and the advice, from processes that were made up: every figure can be added up by hand."""

from typing import Any

import pytest
from warmfront.bench.cold.imports import Record, advice_of, late_imports, module_code_ms, modules_of, tree_of
from warmfront.results import ImportNode

MS = 1_000_000

# name, parent's place, own ms, own memory; a module's import holds those of its children.
CLIENT = [("client", -1, 5, 10), ("json", 0, 3, 4)]
HANDLER = [
    ("app", -1, 2, 1),
    ("heavy", 2, 10, 20),
    ("heavy.core", 3, 30, 30),
    ("common", 4, 7, 5),
    ("light", 2, 4, 2),
    ("app_settings", 2, 6, 3),
    ("only_heavy", 4, 20, 8),
]
LATE = [("lazy", -1, 9, 0)]
EDGES = [
    ("app", "heavy", 1),
    ("app", "light", 2),
    ("app", "app_settings", 3),
    ("app_settings", "light", 1),
    ("light", "common", 1),  # heavy asked first, light needs it as well
    ("heavy.core", "only_heavy", 9),
]


def record(*, slower: float = 1.0) -> Record:
    """The modules above as a process notes them."""
    rows: list[list[Any]] = []
    modules = [*CLIENT, *HANDLER, *LATE]
    children: dict[int, list[int]] = {}
    for place, (_, parent, _, _) in enumerate(modules):
        children.setdefault(parent, []).append(place)

    def lay(place: int, start: int, memory: int) -> tuple[int, int]:
        name, parent, own_ms, own_memory = modules[place]
        row = [name, parent, start, 0, memory, 0]
        rows_by_place[place] = row
        at, held = start + int(own_ms * slower * MS), memory + own_memory
        for child in children.get(place, []):
            at, held = lay(child, at, held)
        row[3], row[5] = at, held
        return at, held

    rows_by_place: dict[int, list[Any]] = {}
    at = 0
    for place in children[-1]:
        at, _ = lay(place, at, 0)
    rows = [rows_by_place[place] for place in range(len(modules))]
    return Record(
        imports=rows,
        edges=EDGES,
        origins={"app": "/task/app.py", "app_settings": "/task/app_settings.py"},
        standard=frozenset({"json", "common"}),
        handler="app.handler",
        handler_from=len(CLIENT),
        handler_to=len(CLIENT) + len(HANDLER),
        began_ns=0,
        imports_done_ns=at,
        spans=(),
        structure=True,
    )


def node(nodes: tuple[ImportNode, ...], *path: str) -> ImportNode:
    found = next(each for each in nodes if each.name == path[0])
    return node(found.children, *path[1:]) if len(path) > 1 else found


def test_a_module_has_its_own_time_and_a_package_that_of_all_below_it() -> None:
    tree = tree_of(modules_of([record()], record()))
    assert [each.name for each in tree] == ["runtime client", "handler"]
    assert tree[0].cumulative_ms == pytest.approx(8)
    assert tree[1].cumulative_ms == pytest.approx(2 + 10 + 30 + 7 + 4 + 6 + 20)
    heavy = node(tree, "handler", "app", "heavy")  # heavy and heavy.core are one
    assert (heavy.modules, heavy.kind) == (4, "package")
    assert heavy.self_ms == pytest.approx(40)
    assert heavy.cumulative_ms == pytest.approx(67)
    assert heavy.memory_kb == pytest.approx((20 + 30 + 5 + 8) / 1024)
    assert {each.name for each in heavy.children} == {"common", "only_heavy"}


def test_a_disturbed_process_does_not_count() -> None:
    tree = tree_of(modules_of([record(), record(slower=9), record()], record()))
    assert node(tree, "handler", "app", "heavy").self_ms == pytest.approx(40)


def test_the_advice_saves_what_nothing_else_asks_for() -> None:
    advice = advice_of(modules_of([record()], record()), "app")
    assert advice is not None
    assert (advice.package, advice.imported_by) == ("heavy", ("app line 1",))
    assert advice.cumulative_ms == pytest.approx(67)
    assert advice.saves_ms == pytest.approx(60)  # common stays: light needs it
    assert advice.saves_modules == 3


def test_a_package_that_another_module_of_ours_asks_for_saves_only_when_both_stop() -> None:
    found = modules_of([record()], record())
    found["heavy"].self_ms = found["heavy.core"].self_ms = found["only_heavy"].self_ms = 0.1
    advice = advice_of(found, "app")
    assert advice is not None
    assert advice.package == "light"
    assert advice.imported_by == ("app line 2", "app_settings line 1")
    assert advice.saves_ms == pytest.approx(4)


def test_a_package_that_another_package_asks_for_saves_nothing() -> None:
    found = modules_of([record()], record())
    found["light"].imports.add("heavy")
    advice = advice_of(found, "app")
    assert advice is not None
    assert advice.package == "light"
    assert advice.saves_ms == pytest.approx(4)


def test_own_code_is_what_no_installer_put_there() -> None:
    found = modules_of([record()], record())
    assert {name for name, module in found.items() if module.kind == "own"} == {"app", "app_settings"}
    assert module_code_ms(found) == pytest.approx(8)


def test_what_is_imported_after_init_is_no_part_of_it() -> None:
    assert "lazy" not in modules_of([record()], record())
    assert [(name, end - start) for name, start, end in late_imports(record())] == [("lazy", 9 * MS)]
