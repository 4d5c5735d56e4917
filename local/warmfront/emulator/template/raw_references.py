"""Resources of plain CloudFormation, found by type and by what they refer to."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from warmfront.emulator.template.source import Node
from warmfront.emulator.template.values import Resolver

_SUB_NAME: Final = re.compile(r"\$\{([A-Za-z0-9]+)(?:\.[^}]*)?\}")


@dataclass(frozen=True, slots=True)
class RawResources:
    """The live resources of a template: logical id -> the resource, and its properties."""

    resolver: Resolver
    resources: Mapping[str, tuple[Node, Node]]

    def of_type(self, kind: str) -> list[tuple[str, tuple[Node, Node]]]:
        """Those of one CloudFormation type, in the template's order."""
        return [(name, each) for name, each in self.resources.items() if each[0].get("Type") == kind]

    def is_type(self, logical_id: str, kind: str) -> bool:
        return logical_id in self.resources and self.resources[logical_id][0].get("Type") == kind

    def properties(self, logical_id: str) -> Node:
        return self.resources[logical_id][1]

    def belonging(self, kind: str, key: str, owner: str) -> list[tuple[str, Node]]:
        """Logical id and properties of the resources of a type whose property `key` refers to `owner`."""
        return [
            (name, properties)
            for name, (_, properties) in self.of_type(kind)
            if owner in self.referenced(properties.get(key))
        ]

    def referenced(self, value: Any) -> list[str]:
        """Logical ids that a value refers to, by Ref, GetAtt or Sub, wherever they stand in it."""
        return [name for name in dict.fromkeys(_names(self.resolver.branch(value))) if name in self.resources]


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, body in value.items():
            if key == "Ref" and isinstance(body, str):
                yield body
            elif key == "Fn::GetAtt":
                yield str(body[0]) if isinstance(body, list) and body else str(body).partition(".")[0]
            elif key == "Fn::Sub":
                text = body[0] if isinstance(body, list) and body else body
                yield from _SUB_NAME.findall(text) if isinstance(text, str) else ()
                yield from _names(body[1]) if isinstance(body, list) and len(body) > 1 else ()
            else:
                yield from _names(body)
    elif isinstance(value, list):
        for entry in value:
            yield from _names(entry)


def lowered(value: Any) -> Any:
    """A mapping with the first letter of its keys in lower case, as OpenAPI extensions write them."""
    if not isinstance(value, dict):
        return value
    line = value.line if isinstance(value, Node) else 0
    return Node({f"{key[:1].lower()}{key[1:]}": entry for key, entry in value.items()}, line=line)
