"""Filter patterns, with the examples of the Lambda and EventBridge guides."""

from typing import Any

import pytest
from warmfront.emulator.lambda_service.event_sources.event_pattern import matches

EVENT: dict[str, Any] = {
    "body": {
        "Location": "New York",
        "Day": "Monday",
        "price": 10.5,
        "count": 3,
        "flag": True,
        "nothing": None,
        "empty": "",
        "tags": ["red", "green"],
        "nested": {"deep": "yes"},
    },
    "plain": "text",
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({}, True),
        ({"Location": ["New York"]}, True),
        ({"Location": ["Boston", "New York"]}, True),
        ({"Location": ["new york"]}, False),
        ({"Location": ["New York"], "Day": ["Monday"]}, True),
        ({"Location": ["New York"], "Day": ["Tuesday"]}, False),
        ({"$or": [{"Location": ["Boston"]}, {"Day": ["Monday"]}]}, True),
        ({"$or": [{"Location": ["Boston"]}, {"Day": ["Tuesday"]}]}, False),
        ({"Location": [{"prefix": "New"}]}, True),
        ({"Location": [{"prefix": "Old"}]}, False),
        ({"Location": [{"prefix": {"equals-ignore-case": "NEW"}}]}, True),
        ({"Location": [{"suffix": "York"}]}, True),
        ({"Location": [{"equals-ignore-case": "NEW YORK"}]}, True),
        ({"Location": [{"wildcard": "N*k"}]}, True),
        ({"Location": [{"wildcard": "N*x"}]}, False),
        ({"Location": [{"anything-but": ["Boston"]}]}, True),
        ({"Location": [{"anything-but": ["New York"]}]}, False),
        ({"Location": [{"anything-but": "New York"}]}, False),
        ({"Location": [{"anything-but": {"prefix": "New"}}]}, False),
        ({"missing": [{"anything-but": ["x"]}]}, False),
        ({"Location": [{"exists": True}]}, True),
        ({"missing": [{"exists": True}]}, False),
        ({"missing": [{"exists": False}]}, True),
        ({"missing": ["x"]}, False),
        ({"price": [{"numeric": ["=", 10.5]}]}, True),
        ({"price": [{"numeric": [">", 10, "<=", 20]}]}, True),
        ({"price": [{"numeric": [">", 10.5]}]}, False),
        ({"flag": [{"numeric": ["=", 1]}]}, False),
        ({"count": [3]}, True),
        ({"count": ["3"]}, False),
        ({"flag": [True]}, True),
        ({"flag": [1]}, False),
        ({"nothing": [None]}, True),
        ({"empty": [""]}, True),
        ({"tags": ["green"]}, True),
        ({"tags": ["blue"]}, False),
        ({"nested": {"deep": ["yes"]}}, True),
        ({"nested": {"deep": ["no"]}}, False),
        ({"Location": {"deep": ["yes"]}}, False),
    ],
)
def test_a_pattern(pattern: dict[str, Any], expected: bool) -> None:
    assert matches({"body": pattern}, EVENT) is expected


def test_a_value_that_is_no_object_matches_no_object() -> None:
    assert matches({"plain": ["text"]}, EVENT)
    assert not matches({"body": {"a": ["b"]}}, {"body": "text"})
