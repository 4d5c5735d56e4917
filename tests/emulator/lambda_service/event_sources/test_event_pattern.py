"""Filter patterns, with the examples of the Lambda and EventBridge guides."""

from typing import Any

import pytest
from warmfront.emulator.lambda_service.event_sources.event_pattern import PatternError, compile_pattern, matches

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


@pytest.mark.parametrize(
    ("pattern", "event", "expected"),
    [
        # exists: false under parents that are missing, empty, no objects, or full
        ({"a": {"b": {"c": [{"exists": False}]}}}, {}, True),
        ({"a": {"b": {"c": [{"exists": False}]}}}, {"a": {}}, True),
        ({"a": {"b": {"c": [{"exists": False}]}}}, {"a": "text"}, True),
        ({"a": {"b": {"c": [{"exists": False}]}}}, {"a": {"b": {"c": None}}}, False),
        ({"a": {"b": [{"exists": True}]}}, {}, False),
        # an object is no leaf
        ({"a": [{"exists": True}]}, {"a": {"b": 1}}, False),
        ({"a": [{"exists": False}]}, {"a": {"b": 1}}, True),
        ({"a": [{"exists": False}]}, {"a": []}, True),
        # objects in lists: one of them must match as a whole
        ({"a": {"b": ["x"]}}, {"a": [{"b": "y"}, {"b": "x"}]}, True),
        ({"a": {"b": ["x"], "c": ["y"]}}, {"a": [{"b": "x"}, {"c": "y"}]}, False),
        ({"a": {"b": [{"exists": False}]}}, {"a": []}, True),
        ({"a": ["x"]}, {"a": [["y"], ["x"]]}, True),
        # $or, nested and beside other keys; a field of that name
        ({"a": {"$or": [{"b": [1]}, {"c": [2]}]}}, {"a": {"c": 2}}, True),
        ({"$or": [{"a": ["x"]}, {"b": {"c": [{"exists": False}]}}]}, {}, True),
        ({"d": ["z"], "$or": [{"a": [1]}, {"b": [2]}]}, {"b": 2}, False),
        ({"$or": [{"prefix": "x"}]}, {"$or": "xy"}, True),
        # numbers are numbers however they are written, and are no strings and no booleans
        ({"a": [300]}, {"a": 300.0}, True),
        ({"a": [1]}, {"a": True}, False),
        ({"a": [{"numeric": ["=", 3]}]}, {"a": "3"}, False),
        ({"a": [{"anything-but": [1, 2]}]}, {"a": 3}, True),
        ({"a": [{"anything-but": [1, 2]}]}, {"a": 2.0}, False),
        ({"a": [{"anything-but": {"suffix": [".png", ".jpg"]}}]}, {"a": "x.jpg"}, False),
        ({"a": [{"anything-but": {"wildcard": "*/tmp/*"}}]}, {"a": "x/y"}, True),
        ({"a": [{"anything-but": {"equals-ignore-case": ["ADMIN", "root"]}}]}, {"a": "admin"}, False),
        ({"a": [{"cidr": "10.0.0.0/24"}]}, {"a": "10.0.0.255"}, True),
        ({"a": [{"cidr": "10.0.0.0/24"}]}, {"a": "10.0.1.0"}, False),
        ({"a": [{"cidr": "2001:db8::/32"}]}, {"a": "2001:db8::1"}, True),
        ({"a": [{"cidr": "10.0.0.0/24"}]}, {"a": "no address"}, False),
        ({"a": [{"wildcard": "a\\*b*"}]}, {"a": "a*b and more"}, True),
        ({"a": [{"wildcard": "a?[b]*"}]}, {"a": "axb"}, False),
        ({"a": [{"prefix": ""}]}, {"a": "any"}, True),
        ({"a": [{"prefix": ""}]}, {"a": 1}, False),
    ],
)
def test_as_event_ruler_matches(pattern: dict[str, Any], event: dict[str, Any], expected: bool) -> None:
    assert matches(pattern, event) is expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ({"a": [{"begins-with": "x"}]}, "a: operator 'begins-with' is not known"),
        ({"a": {"b": [{"anything-but": {"cidr": "10.0.0.0/8"}}]}}, "a.b: operator 'cidr' is not known"),
        ({"a": "x"}, 'a must be a list of values or an object, not "x"'),
        ({"a": []}, "a is an empty list"),
        ({"a": [["x"]]}, "a holds a list in a list"),
        ({"a": [{"exists": "no"}]}, "exists must be true or false"),
        ({"a": [{"prefix": "x", "suffix": "y"}]}, "an operator stands alone"),
        ({"a": [{"numeric": [">"]}]}, "numeric takes one or two comparisons"),
        ({"a": [{"numeric": ["!=", 1]}]}, "numeric takes one or two comparisons"),
        ({"a": [{"numeric": [["="], 1]}]}, "numeric takes one or two comparisons"),
        ({"a": [{"prefix": 1}]}, "prefix takes a string"),
        ({"a": [{"cidr": "10.0.0.0/99"}]}, "cidr"),
        ({"a": [{"wildcard": "a**"}]}, "two \\* in a row"),
        ({"$or": [{"a": [{"contains": "x"}]}, {"b": [1]}]}, "\\$or.a: operator 'contains'"),
        ("{", "not valid JSON"),
        ("[]", "a pattern is a JSON object"),
    ],
)
def test_what_is_not_understood_is_refused_when_the_pattern_is_read(pattern: Any, message: str) -> None:
    with pytest.raises(PatternError, match=message):
        compile_pattern(pattern)
