"""Expands Fn::ForEach, in Resources, Conditions, Outputs and inside properties, before a template is read.

docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-foreach.html
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from warmfront.emulator.template.source import Items, Node, text
from warmfront.emulator.template.values import Resolver

PREFIX: Final = "Fn::ForEach::"
_PLACE: Final = re.compile(r"([$&])\{([A-Za-z0-9]+)\}")


def expand_loops(root: Node, resolver: Resolver) -> None:
    """Replace every loop of the template, in place. Raises TemplateError for a loop that is not written as one."""
    if not _has_loop(root):
        return
    for name in ("Conditions", "Resources", "Outputs"):
        section = root.get(name)
        if isinstance(section, Node):
            made = _expanded(section, {}, resolver)
            section.clear()
            section.update(made)
            section.lines = made.lines


def _has_loop(value: Any) -> bool:
    if isinstance(value, dict):
        return any(key.startswith(PREFIX) or _has_loop(entry) for key, entry in value.items())
    return isinstance(value, list) and any(map(_has_loop, value))


def _expanded(value: Any, bound: Mapping[str, str], resolver: Resolver) -> Any:
    if isinstance(value, Node):
        if len(value) == 1 and isinstance(name := value.get("Ref"), str) and name in bound:
            return bound[name]
        made = Node(line=value.line)
        for key, entry in value.items():
            if key.startswith(PREFIX):
                _add(made, _loop(key, entry, value.line_of(key), bound, resolver), resolver)
            else:
                name = _filled(key, bound)
                made[name] = _expanded(entry, bound, resolver)
                made.lines[name] = value.line_of(key)
        return made
    if isinstance(value, Items):
        return Items([_expanded(entry, bound, resolver) for entry in value], line=value.line)
    return _filled(value, bound) if isinstance(value, str) else value


def _loop(name: str, body: Any, line: int, bound: Mapping[str, str], resolver: Resolver) -> list[Node]:
    """What a loop makes, one mapping for each value of its collection."""
    if not isinstance(body, list) or len(body) != 3 or not isinstance(body[0], str) or not isinstance(body[2], Node):
        raise resolver.error(f"{name} must be a list of an identifier, a collection and a mapping", line)
    identifier, collection, output = body
    values = resolver.resolve(_expanded(collection, bound, resolver))
    if not isinstance(values, list):
        raise resolver.error(f"{name}: its collection must be a list of strings", line)
    return [_expanded(output, {**bound, identifier: text(value)}, resolver) for value in values]


def _add(made: Node, parts: list[Node], resolver: Resolver) -> None:
    for part in parts:
        for key, entry in part.items():
            if key in made:
                raise resolver.error(f"Fn::ForEach makes {key} twice", part.line_of(key))
            made[key] = entry
            made.lines[key] = part.line_of(key)


def _filled(template: str, bound: Mapping[str, str]) -> str:
    """`${Name}` becomes the value; `&{Name}` the value without what a logical id cannot hold."""

    def value_of(match: re.Match[str]) -> str:
        kind, name = match.groups()
        if name not in bound:
            return match.group(0)
        return bound[name] if kind == "$" else re.sub(r"[^A-Za-z0-9]", "", bound[name])

    return _PLACE.sub(value_of, template) if bound else template
