"""Whether an event matches a filter pattern, as event source mappings and EventBridge rules read them. Pure.

docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html, eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

import fnmatch
import operator
from collections.abc import Callable, Mapping
from typing import Any

_MISSING = object()
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def matches(pattern: Mapping[str, Any], event: object) -> bool:
    """Every key of the pattern must match; `$or` holds alternatives of them."""
    if not isinstance(event, Mapping):
        return False
    for key, wanted in pattern.items():
        if key == "$or" and isinstance(wanted, list):
            if not any(matches(alternative, event) for alternative in wanted):
                return False
            continue
        value = event.get(key, _MISSING)
        if isinstance(wanted, Mapping):
            if not matches(wanted, value):
                return False
        elif not _any_matches(wanted, value):
            return False
    return True


def _any_matches(rules: Any, value: Any) -> bool:
    """One of the rules holds for the value, or for one element of it when it is a list."""
    values = value if isinstance(value, list) else [value]
    return any(_matches_one(rule, each) for rule in rules for each in (values or [_MISSING]))


def _matches_one(rule: Any, value: Any) -> bool:
    if not isinstance(rule, Mapping):
        return value is not _MISSING and type(rule) is type(value) and bool(rule == value)
    if "exists" in rule:
        return bool(rule["exists"]) == (value is not _MISSING)
    if value is _MISSING:
        return False
    ((name, wanted),) = rule.items()
    if name == "anything-but":
        return not _is_one_of(wanted, value)
    if name == "numeric":
        return _numeric(wanted, value)
    return _text(name, wanted, value)


def _is_one_of(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, Mapping):
        ((name, rule),) = wanted.items()
        return any(_text(name, each, value) for each in (rule if isinstance(rule, list) else [rule]))
    return value in (wanted if isinstance(wanted, list) else [wanted])


def _text(name: str, rule: Any, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    text, wanted = value, str(rule)
    if isinstance(rule, Mapping):  # {"prefix": {"equals-ignore-case": "a"}}
        text, wanted = value.lower(), str(rule.get("equals-ignore-case", "")).lower()
    match name:
        case "prefix":
            return text.startswith(wanted)
        case "suffix":
            return text.endswith(wanted)
        case "equals-ignore-case":
            return text.lower() == wanted.lower()
        case "wildcard":
            return fnmatch.fnmatchcase(text, wanted.replace("[", "[[]").replace("?", "[?]"))
    return False


def _numeric(conditions: list[Any], value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return all(_COMPARE[conditions[i]](value, conditions[i + 1]) for i in range(0, len(conditions) - 1, 2))
