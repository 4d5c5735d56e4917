"""Checks the names of intrinsic functions, and resolves names in Ref and Fn::GetAtt that are calls themselves.

AWS::LanguageExtensions allows such calls, for example `!GetAtt [!Sub "Q${Name}", Arn]`:
docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-languageextensions.html
"""

import difflib
from typing import Any, Final

from warmfront.emulator.template.source import Items, Node, TemplateError
from warmfront.emulator.template.values import Resolver

FUNCTIONS: Final = (
    "And",
    "Base64",
    "Cidr",
    "Contains",
    "EachMemberEquals",
    "EachMemberIn",
    "Equals",
    "FindInMap",
    "GetAZs",
    "GetAtt",
    "GetStackOutput",
    "If",
    "ImportValue",
    "Join",
    "Length",
    "Not",
    "Or",
    "RefAll",
    "Select",
    "Split",
    "Sub",
    "ToJsonString",
    "Transform",
    "ValueOf",
    "ValueOfAll",
)
"""Every Fn:: of CloudFormation, those of Rules among them; Fn::ForEach::NAME has been expanded."""


def check_functions(value: Any, resolver: Resolver) -> None:
    """Report every call of a function that CloudFormation does not have, such as `!Nope x`."""
    if isinstance(value, Node):
        for key, entry in value.items():
            prefix, _, name = key.partition("::")
            if prefix == "Fn" and name not in FUNCTIONS and not name.startswith("ForEach::"):
                close = difflib.get_close_matches(name, [*FUNCTIONS, "Ref", "Condition"], 1)
                hint = f"; !{close[0]}, if that is meant" if close else ""
                resolver.problem(
                    resolver.error(f"!{name} ({key}) is no function of CloudFormation{hint}", value.line_of(key))
                )
            check_functions(entry, resolver)
    elif isinstance(value, list):
        for entry in value:
            check_functions(entry, resolver)


def resolve_names(root: Node, resolver: Resolver) -> None:
    """Replace each such name by its text, in place, so that every reader of references finds a plain name.

    A name that cannot be resolved stays; the error is raised where its value is used.
    """
    for section in root.values():
        _resolve(section, resolver)


def _resolve(value: Any, resolver: Resolver) -> None:
    if isinstance(value, Node):
        for key in ("Ref", "Fn::GetAtt"):
            if len(value) == 1 and key in value:
                value[key] = _plain(value[key], resolver)
        for entry in value.values():
            _resolve(entry, resolver)
    elif isinstance(value, list):
        for entry in value:
            _resolve(entry, resolver)


def _plain(name: Any, resolver: Resolver) -> Any:
    if isinstance(name, Items):
        return Items([_plain(part, resolver) for part in name], line=name.line)
    if not isinstance(name, Node):
        return name
    try:
        return resolver.resolve(name)
    except TemplateError:
        return name
