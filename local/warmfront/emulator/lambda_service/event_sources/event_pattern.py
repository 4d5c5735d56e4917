"""Matches events against patterns, as event source mappings and EventBridge rules do.

A pattern is checked when it is read: one with an operator that is not known here is refused with PatternError, never
taken for a pattern that matches nothing, because what an event source mapping filters out is deleted.

docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html, eventbridge/latest/userguide/eb-create-pattern-operators.html;
fields of objects in lists and missing parents as github.com/aws/event-ruler describes them.
"""

import ipaddress
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Rule = Callable[[Any], bool]
"""Whether one leaf value matches; the value is MISSING where the event has no such field."""
Matcher = Callable[[object], bool]
"""Whether an event, or the part of it under one key, matches."""

MISSING: Any = object()
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATORS = ("anything-but", "cidr", "equals-ignore-case", "exists", "numeric", "prefix", "suffix", "wildcard")
_TEXT_OPERATORS = ("equals-ignore-case", "prefix", "suffix", "wildcard")


class PatternError(ValueError):
    """A pattern that AWS would refuse, or one with an operator that is not known here; the message names the place."""


def matches(pattern: Mapping[str, Any], event: object) -> bool:
    """Whether the event matches. Raises PatternError; to match many events, use compile_pattern once."""
    return compile_pattern(pattern)(event)


def compile_pattern(pattern: object) -> Matcher:
    """The matcher of a pattern, given as a mapping or as JSON text. Raises PatternError."""
    if isinstance(pattern, str):
        try:
            pattern = json.loads(pattern)
        except ValueError as error:
            raise PatternError(f"not valid JSON: {error}") from None
    if not isinstance(pattern, Mapping):
        raise PatternError("a pattern is a JSON object")
    return _object(pattern, "")


def _object(pattern: Mapping[str, Any], path: str) -> Matcher:
    """Every key must match; `$or` holds alternatives."""
    parts: list[Matcher] = []
    for key, wanted in pattern.items():
        where = f"{path}.{key}" if path else key
        if key == "$or" and _is_alternatives(wanted):
            parts.append(_any([_object(each, where) for each in wanted]))
        elif isinstance(wanted, Mapping):
            parts.append(_field(key, _nested(_object(wanted, where))))
        elif isinstance(wanted, list):
            parts.append(_field(key, _leaf([_rule(each, where) for each in wanted], where)))
        else:
            raise PatternError(f"{where} must be a list of values or an object, not {json.dumps(wanted)}")
    return lambda event: all(part(event) for part in parts)


def _is_alternatives(wanted: object) -> bool:
    """As event-ruler tells `$or` from a field of that name: a list of objects whose keys are no operators."""
    return (
        isinstance(wanted, list)
        and len(wanted) > 0
        and all(isinstance(each, Mapping) and each and not set(each) & set(OPERATORS) for each in wanted)
    )


def _any(matchers: Iterable[Matcher]) -> Matcher:
    alternatives = list(matchers)
    return lambda event: any(each(event) for each in alternatives)


def _field(key: str, matcher: Matcher) -> Matcher:
    return lambda event: matcher(event.get(key, MISSING) if isinstance(event, Mapping) else MISSING)


def _nested(matcher: Matcher) -> Matcher:
    """An object, or one object of a list; where there is none, its fields are missing, which `exists: false` matches."""

    def match(value: object) -> bool:
        if isinstance(value, list):
            objects = [each for each in value if isinstance(each, Mapping)]
            return any(matcher(each) for each in objects) if objects else matcher({})
        return matcher(value if isinstance(value, Mapping) else {})

    return match


def _leaf(rules: list[Rule], path: str) -> Matcher:
    """One rule holds for the value, or for one element of it. An object is no leaf: to `exists` its field is missing."""
    if not rules:
        raise PatternError(f"{path} is an empty list")

    def match(value: object) -> bool:
        values = _flat(value) or [MISSING]
        return any(rule(each) for rule in rules for each in values)

    return match


def _flat(value: object) -> list[object]:
    if isinstance(value, list):
        return [leaf for each in value for leaf in _flat(each)]
    return [] if isinstance(value, Mapping) else [value]


def _rule(rule: object, path: str) -> Rule:
    if isinstance(rule, list):
        raise PatternError(f"{path} holds a list in a list")
    if not isinstance(rule, Mapping):
        return lambda value: _is_same(rule, value)
    if len(rule) != 1:
        raise PatternError(f"{path}: an operator stands alone in its object, not {json.dumps(rule)}")
    ((name, wanted),) = rule.items()
    match name:
        case "exists":
            if not isinstance(wanted, bool):
                raise PatternError(f"{path}: exists must be true or false, not {json.dumps(wanted)}")
            return lambda value: wanted == (value is not MISSING)
        case "anything-but":
            return _anything_but(wanted, path)
        case "numeric":
            return _numeric(wanted, path)
        case "cidr":
            return _cidr(wanted, path)
    return _text(name, wanted, path)


def _is_same(wanted: object, value: object) -> bool:
    """300, 300.0 and 3.0e2 are one number; a number is no string and no boolean."""
    if _is_number(wanted) and _is_number(value):
        return wanted == value
    return value is not MISSING and type(wanted) is type(value) and wanted == value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _anything_but(wanted: object, path: str) -> Rule:
    if isinstance(wanted, Mapping):
        if len(wanted) != 1:
            raise PatternError(f"{path}: anything-but takes one operator, not {json.dumps(wanted)}")
        ((name, texts),) = wanted.items()
        refused = [_text(name, each, path) for each in (texts if isinstance(texts, list) else [texts])]
    else:
        values = wanted if isinstance(wanted, list) else [wanted]
        if not values or not all(isinstance(each, str) or _is_number(each) for each in values):
            raise PatternError(f"{path}: anything-but takes strings and numbers, not {json.dumps(wanted)}")
        refused = [_rule(each, path) for each in values]
    return lambda value: value is not MISSING and not any(rule(value) for rule in refused)


def _numeric(wanted: object, path: str) -> Rule:
    problem = PatternError(f'{path}: numeric takes one or two comparisons, such as [">", 0, "<=", 5]')
    if not isinstance(wanted, list) or len(wanted) not in (2, 4):
        raise problem
    comparisons = list(zip(wanted[::2], wanted[1::2], strict=True))
    if not all(isinstance(name, str) and name in _COMPARE and _is_number(limit) for name, limit in comparisons):
        raise problem
    return lambda value: _is_number(value) and all(_COMPARE[name](value, limit) for name, limit in comparisons)


def _cidr(wanted: object, path: str) -> Rule:
    try:
        network = ipaddress.ip_network(str(wanted), strict=False)
    except ValueError as error:
        raise PatternError(f"{path}: cidr: {error}") from None

    def match(value: object) -> bool:
        try:
            return isinstance(value, str) and ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return match


def _text(name: object, wanted: object, path: str) -> Rule:
    """prefix, suffix, equals-ignore-case, wildcard; prefix and suffix also around {"equals-ignore-case": ...}."""
    if name not in _TEXT_OPERATORS:
        raise PatternError(f"{path}: operator {name!r} is not known (known: {', '.join(OPERATORS)})")
    folded = name == "equals-ignore-case"
    if isinstance(wanted, Mapping) and name in ("prefix", "suffix") and list(wanted) == ["equals-ignore-case"]:
        folded, wanted = True, wanted["equals-ignore-case"]
    if not isinstance(wanted, str):
        raise PatternError(f"{path}: {name} takes a string, not {json.dumps(wanted)}")
    text = wanted.casefold() if folded else wanted
    test: Callable[[str], bool]
    match name:
        case "prefix":
            test = lambda value: value.startswith(text)  # noqa: E731 - four tests of one shape, side by side
        case "suffix":
            test = lambda value: value.endswith(text)  # noqa: E731
        case "wildcard":
            test = _wildcard(text, path)
        case _:
            test = lambda value: value == text  # noqa: E731
    return lambda value: isinstance(value, str) and test(value.casefold() if folded else value)


def _wildcard(text: str, path: str) -> Callable[[str], bool]:
    r"""`*` stands for any characters; `\*` and `\\` for themselves."""
    if "**" in re.sub(r"\\.", "", text):
        raise PatternError(f"{path}: wildcard {text!r} has two * in a row")
    parts = re.findall(r"\\[*\\]|\*|[^*\\]+|\\", text)
    pattern = "".join(
        ".*" if part == "*" else re.escape(part[1:] if len(part) == 2 and part[0] == "\\" else part) for part in parts
    )
    compiled = re.compile(pattern, re.DOTALL)
    return lambda value: compiled.fullmatch(value) is not None
