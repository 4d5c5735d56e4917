"""Parses a template's YAML or JSON, with CloudFormation's short tags, into mappings and lists that remember their line."""

import functools
import sys
from pathlib import Path
from typing import Any


class TemplateError(Exception):
    """One line for the person who wrote the template: where, what, and the fix."""


class Node(dict[str, Any]):
    """A mapping of the template; `line` is where it begins, `lines` where each of its keys stands."""

    __slots__ = ("line", "lines")

    def __init__(self, *args: Any, line: int = 0, lines: dict[str, int] | None = None) -> None:
        super().__init__(*args)
        self.line = line
        self.lines: dict[str, int] = lines if lines is not None else {}

    def line_of(self, key: str) -> int:
        return self.lines.get(key, self.line)


class Items(list[Any]):
    """A list of the template that remembers its line."""

    __slots__ = ("line",)

    def __init__(self, *args: Any, line: int = 0) -> None:
        super().__init__(*args)
        self.line = line


def line_of(value: Any, default: int = 0) -> int:
    return value.line if isinstance(value, Node | Items) else default


def text(value: Any) -> str:
    """A scalar as CloudFormation would write it where it wants a string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def is_intrinsic(value: Any) -> bool:
    """Whether a value is a call of an intrinsic function, such as {"Ref": ...}."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    key = str(next(iter(value)))
    return key == "Ref" or key.startswith("Fn::")


def read(path: Path) -> tuple[Node, list[str]]:
    """The template's root and warnings about its text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise TemplateError(f"{path}: no such file; name your template with --template") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path}: cannot be read: {error}") from None
    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")  # JSON is YAML but for tabs, which JSON strings cannot hold raw
    return parse(text, str(path))


def parse(text: str, name: str) -> tuple[Node, list[str]]:
    import yaml  # imported here: `warmfront report` and friends never read a template

    loader = _loader_class()(text)
    loader.duplicates = []
    try:
        root = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise TemplateError(f"{where}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise TemplateError(f"{name}: not valid YAML: {error}") from None
    finally:
        loader.dispose()
    if not isinstance(root, Node):
        raise TemplateError(f"{name}:1: a template is a mapping with a Resources section")
    return root, [f"{name}:{line}: key {key} is given twice; the last one counts" for key, line in loader.duplicates]


@functools.cache
def _loader_class() -> Any:
    """PyYAML's C loader where it is built in, taught line numbers and CloudFormation's tags."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        duplicates: list[tuple[str, int]]

    def mapping(loader: Any, node: Any) -> Node:
        loader.flatten_mapping(node)
        result = Node(line=node.start_mark.line + 1)
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1  # as written: On is a name here, not true
            if key in result.lines:
                loader.duplicates.append((key, line))
            result[sys.intern(key)] = loader.construct_object(value_node, deep=True)
            result.lines[key] = line
        return result

    def sequence(loader: Any, node: Any) -> Items:
        values = [loader.construct_object(child, deep=True) for child in node.value]
        return Items(values, line=node.start_mark.line + 1)

    def short_tag(loader: Any, suffix: str, node: Any) -> Node:
        if isinstance(node, yaml.ScalarNode):
            value: Any = node.value
        elif isinstance(node, yaml.SequenceNode):
            value = sequence(loader, node)
        else:
            value = mapping(loader, node)
        if suffix == "GetAtt" and isinstance(value, str):
            value = Items(value.split(".", 1), line=node.start_mark.line + 1)
        name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
        line = node.start_mark.line + 1
        return Node({name: value}, line=line, lines={name: line})

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    Loader.add_constructor("tag:yaml.org,2002:seq", sequence)
    # Dates stay text: 2010-09-09 is a version's name here, as CloudFormation takes it.
    Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _loader, node: node.value)
    Loader.add_multi_constructor("!", short_tag)
    return Loader
