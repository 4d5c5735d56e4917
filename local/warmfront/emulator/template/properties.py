"""Typed access to one resource's properties, with Globals merged in."""

from typing import Any, Final

from warmfront.emulator.template.source import Items, Node, TemplateError, is_intrinsic, line_of, text
from warmfront.emulator.template.values import NO_VALUE, Resolver

_REPLACED_NOT_MERGED: Final = {"Architectures"}
"""SAM's one exception among the properties that are read here: a function's list takes the place of the global one."""


def merge_globals(resource_type: str, properties: Node, globals_section: Any, ignore: Any) -> Node:
    """Globals under a resource's own properties: mappings merge, lists join, anything else is the resource's."""
    section = resource_type.removeprefix("AWS::Serverless::")
    if section == resource_type or not isinstance(globals_section, Node) or ignore == "*":
        return properties
    shared = globals_section.get(section)
    if not isinstance(shared, Node):
        return properties
    if isinstance(ignore, list):
        shared = Node(
            {key: value for key, value in shared.items() if key not in ignore}, line=shared.line, lines=shared.lines
        )
    return _merge(shared, properties)


def _merge(shared: Node, own: Node) -> Node:
    result = Node(shared, line=own.line or shared.line, lines={**shared.lines, **own.lines})
    for key, value in own.items():
        below = shared.get(key)
        if isinstance(value, Node) and isinstance(below, Node) and not is_intrinsic(value) and not is_intrinsic(below):
            result[key] = _merge(below, value)
        elif isinstance(value, list) and isinstance(below, list) and key not in _REPLACED_NOT_MERGED:
            result[key] = Items([*below, *value], line=getattr(value, "line", 0))
        else:
            result[key] = value
    return result


class Properties:
    """Typed access; every refusal names the property and its line."""

    __slots__ = ("owner", "raw", "resolver")

    def __init__(self, raw: Any, resolver: Resolver, owner: str) -> None:
        self.resolver, self.owner = resolver, owner
        raw = resolver.branch(raw)
        if raw is None or raw is NO_VALUE:
            raw = Node()
        if not isinstance(raw, Node):
            raise resolver.error(f"{owner} must be a mapping", line_of(raw) or _line_of_owner(resolver, owner))
        self.raw: Node = raw

    def error(self, key: str, message: str) -> TemplateError:
        line = self.line(key) or _line_of_owner(self.resolver, self.owner)
        return self.resolver.error(f"{self.owner}: {key} {message}", line)

    def line(self, key: str) -> int:
        return self.raw.line_of(key)

    def branch(self, key: str) -> Any:
        """The value as written, Fn::If followed; None when absent."""
        value = self.resolver.branch(self.raw.get(key))
        return None if value is NO_VALUE else value

    def get(self, key: str) -> Any:
        """The resolved value; None when absent."""
        if key not in self.raw:
            return None
        value = self.resolver.resolve(self.raw[key])
        return None if value is NO_VALUE else value

    def text(self, key: str, default: str = "") -> str:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, dict | list):
            raise self.error(key, "must be a string")
        return text(value)

    def optional_text(self, key: str) -> str | None:
        return None if self.get(key) is None else self.text(key)

    def integer(self, key: str, default: int) -> int:
        value = self.optional_integer(key)
        return default if value is None else value

    def optional_integer(self, key: str) -> int | None:
        value = self.get(key)
        if value is None:
            return None
        try:
            return int(text(value))
        except ValueError:
            raise self.error(key, f"must be a whole number, not {value!r}") from None

    def optional_number(self, key: str) -> float | None:
        value = self.get(key)
        if value is None:
            return None
        try:
            return float(text(value))
        except ValueError:
            raise self.error(key, f"must be a number, not {value!r}") from None

    def boolean(self, key: str, default: bool = False) -> bool:
        value = self.get(key)
        return default if value is None else text(value).lower() == "true"

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; a single string counts as a list of one, comma-separated as parameters have it."""
        value = self.get(key)
        if value is None:
            return ()
        if isinstance(value, list):
            return tuple(text(entry) for entry in value)
        return tuple(part.strip() for part in text(value).split(",") if part.strip())

    def section(self, key: str) -> "Properties":
        """A nested mapping; empty when absent."""
        value = self.branch(key)
        if value is not None and not isinstance(value, Node):
            raise self.error(key, "must be a mapping")
        return Properties(value, self.resolver, f"{self.owner}: {key}")

    def __contains__(self, key: str) -> bool:
        return key in self.raw and self.branch(key) is not None


def _line_of_owner(resolver: Resolver, owner: str) -> int:
    """The line of the resource that `owner` begins with, for what has no line of its own."""
    return resolver.resources.line_of(owner.partition(":")[0])
