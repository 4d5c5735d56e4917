"""What CloudFormation checks of parameters before it makes anything, and moto does not: values, patterns, and the template's Rules.

docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any


def broken(template: Mapping[str, Any], given: Mapping[str, str]) -> list[str]:
    """One message for each parameter or assertion that CloudFormation would refuse; `given` without the defaults."""
    declared: dict[str, Any] = template.get("Parameters", {})
    values = {name: str(given.get(name, each.get("Default"))) for name, each in declared.items()}
    found = [
        f"Parameter {name} must have a value"
        for name in declared
        if name not in given and "Default" not in declared[name]
    ]
    found += [f"Parameter {name} does not exist in the template" for name in given if name not in declared]
    for name, each in declared.items():
        if "AllowedValues" in each and values[name] not in map(str, each["AllowedValues"]):
            found.append(f"Parameter {name} must be one of {each['AllowedValues']}")
        if "AllowedPattern" in each and not re.fullmatch(each["AllowedPattern"], values[name]):
            found.append(f"Parameter {name} must match {each['AllowedPattern']}")
    return [*found, *_broken_rules(template, values)]


def _broken_rules(template: Mapping[str, Any], values: Mapping[str, str]) -> Iterator[str]:
    for rule in template.get("Rules", {}).values():
        if _holds(rule.get("RuleCondition", True), values):
            for assertion in rule["Assertions"]:
                if not _holds(assertion["Assert"], values):
                    yield assertion["AssertDescription"]


def _holds(expression: Any, values: Mapping[str, str]) -> bool:
    """Only what CloudFormation allows in a rule; it knows no conditions there, for one."""
    match expression:
        case bool():
            return expression
        case {"Fn::Not": [one]}:
            return not _holds(one, values)
        case {"Fn::And": list(each)}:
            return all(_holds(one, values) for one in each)
        case {"Fn::Or": list(each)}:
            return any(_holds(one, values) for one in each)
        case {"Fn::Equals": [left, right]}:
            return _text(left, values) == _text(right, values)
        case _:
            raise AssertionError(f"a rule cannot say {expression!r}")


def _text(value: Any, values: Mapping[str, str]) -> str:
    match value:
        case {"Ref": str(name)}:
            return values[name]
        case str():
            return value
        case _:
            raise AssertionError(f"a rule cannot compare {value!r}; numbers need quotes")
