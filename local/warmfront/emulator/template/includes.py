"""Expands Fn::Transform with AWS::Include: the content of a local file takes its place in the template.

docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-include.html
"""

from pathlib import Path
from typing import Any, Final

from warmfront.emulator.template.source import Items, Node, read
from warmfront.emulator.template.values import Resolver

KEY: Final = "Fn::Transform"
NAME: Final = "AWS::Include"
_REMOTE: Final = ("s3://", "https://", "http://")


def expand_includes(root: Node, resolver: Resolver, folder: Path) -> None:
    """Replace every AWS::Include of a local file, in place. One that cannot be read is a problem or a warning."""
    for section in root.values():
        if isinstance(section, Node) and _has_transform(section):
            made = _expanded(section, resolver, folder)
            section.clear()  # in place: the resolver holds the sections
            section.update(made)
            section.lines = made.lines


def _has_transform(value: Any) -> bool:
    if isinstance(value, dict):
        return KEY in value or any(map(_has_transform, value.values()))
    return isinstance(value, list) and any(map(_has_transform, value))


def _expanded(value: Any, resolver: Resolver, folder: Path) -> Any:
    if isinstance(value, Items):
        return Items([_expanded(entry, resolver, folder) for entry in value], line=value.line)
    if not isinstance(value, Node):
        return value
    made = Node(line=value.line)
    for key, entry in value.items():
        calls = entry if isinstance(entry, list) else [entry]
        if key != KEY or not all(isinstance(call, Node) and call.get("Name") == NAME for call in calls):
            made[key] = _expanded(entry, resolver, folder)
            made.lines[key] = value.line_of(key)
            continue
        for call in calls:
            content = resolver.attempt(_content, call, resolver, folder, value.line_of(key))
            for name, included in (content or Node()).items():
                made[name] = included
                made.lines[name] = value.line_of(key)  # a line of the template, where somebody will look first
    return made


def _content(call: Node, resolver: Resolver, folder: Path, line: int) -> Node | None:
    parameters = resolver.resolve(call.get("Parameters"))
    location = parameters.get("Location") if isinstance(parameters, dict) else None
    if not isinstance(location, str) or not location:
        raise resolver.error("AWS::Include needs Parameters with a Location", line)
    if location.startswith(_REMOTE):
        resolver.warn(f"AWS::Include of {location} is left out; name a file beside the template instead", line)
        return None
    path = folder / location
    if not path.is_file():
        raise resolver.error(f"AWS::Include names {path}, which does not exist", line)
    content, _ = read(path)
    expanded: Node = _expanded(content, resolver, path.parent)
    return expanded
