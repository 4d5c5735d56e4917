"""Resolves the names in Ref and Fn::GetAtt that are calls themselves, such as `!GetAtt [!Sub "Q${Name}", Arn]`.

AWS::LanguageExtensions allows them:
docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-languageextensions.html
"""

from typing import Any

from warmfront.emulator.template.source import Items, Node, TemplateError
from warmfront.emulator.template.values import Resolver


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
