"""The fidelity table of docs/fidelity.md against the cases it is generated from, and the tests that its rows name."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from tools.blocks import read_block, replace_block
from tools.fidelity import BLOCK, CASES, PAGE, ROOT, TESTS, Case, gateway_rows, read_cases, read_rows, render

SERVICE_ROWS: list[dict[str, Any]] = json.loads((ROOT / CASES / "rows" / "lambda_service.json").read_text())
NAMED = sorted({test for row in SERVICE_ROWS for test in row.get("tests", [])})


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_the_page_has_the_generated_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert replace_block(text, BLOCK, render()) == text, "run: python -m tools.fidelity --write"


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_a_row_names_exists(named: str) -> None:
    file, _, test = named.partition("::")
    assert test in functions_of(ROOT / TESTS / file)


def test_a_row_names_tests_unless_its_status_is_absent() -> None:
    for row in SERVICE_ROWS:
        assert row["status"] in ("emulated", "simplified", "absent"), row["behaviour"]
        assert bool(row.get("tests")) == (row["status"] != "absent"), row["behaviour"]


def test_every_case_is_in_one_row_and_the_table_stays_readable() -> None:
    rows = read_rows()
    service_tests = sum(len(row.get("tests", [])) for row in SERVICE_ROWS)
    assert sum(row.cases for row in rows) == len(read_cases()) + service_tests
    assert len(rows) <= 80
    assert all("|" not in cell and "\n" not in cell for row in rows for cell in row.cells())


def test_a_case_without_a_row_and_a_row_without_cases_are_named() -> None:
    case = Case("payload9-new", "Something new", "emulated", True, "somewhere", Path("new.json"))
    with pytest.raises(ValueError, match="payload9-new is of no group"):
        list(gateway_rows([{"behaviour": "Old", "cases": ["payload1-*"]}], [case]))
    with pytest.raises(ValueError, match="no case is of the group 'Old'"):
        list(gateway_rows([{"behaviour": "Old", "cases": ["payload1-*"]}], []))


def test_the_most_specific_pattern_takes_a_case_and_each_status_makes_a_row() -> None:
    groups = [{"behaviour": "A", "cases": ["a-*"]}, {"behaviour": "B: of A", "cases": ["a-b-*"]}]
    cases = [
        Case("a-1", "one", "emulated", True, "s", Path("a.json")),
        Case("a-b-1", "two", "emulated", False, "s", Path("a.json")),
        Case("a-b-2", "three", "simplified", True, "t", Path("a.json")),
    ]
    rows = list(gateway_rows(groups, cases))
    assert [(row.behaviour, row.status, row.cases, row.confirmed) for row in rows] == [
        ("A", "emulated", 1, 1),
        ("B: of A", "emulated", 1, 0),
        ("B: three", "simplified", 1, 1),
    ]


@pytest.mark.parametrize("text", ["# Something else", "<!-- fidelity -->\nold\n<!-- /fidelity -->\n" * 2])
def test_a_page_without_exactly_one_such_block_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        replace_block(text, "fidelity", "table")
    with pytest.raises(ValueError, match="needs the lines"):
        read_block(text, "fidelity")


def test_a_block_is_replaced_and_read_back() -> None:
    page = "before\n<!-- b -->\nold\n<!-- /b -->\nafter"
    assert replace_block(page, "b", "```\nnew\n```") == "before\n<!-- b -->\n```\nnew\n```\n<!-- /b -->\nafter"
    assert read_block(page, "b") == "old"
    assert read_block(replace_block(page, "b", "```toml\nnew\n```"), "b") == "new"
