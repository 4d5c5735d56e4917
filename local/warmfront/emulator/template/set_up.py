"""Reads the set-up invocations that a template names in its Metadata.

    Metadata:
      Warmfront:
        SetUp:
          - {Function: Migrate, Event: {action: apply}}

CloudFormation and SAM ignore Metadata that they do not know.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from warmfront.emulator.template.config import SetUpCall
from warmfront.emulator.template.source import Node
from warmfront.emulator.template.values import Resolver


def read_set_up(resolver: Resolver, root: Node, functions: Collection[str]) -> tuple[SetUpCall, ...]:
    """The invocations in their order. Raises TemplateError, with the line, for one that cannot be made."""
    own: Any = root
    for name in ("Metadata", "Warmfront", "SetUp"):
        own = own.get(name) if isinstance(own, Node) else None
        if own is None:
            return ()
    if not isinstance(own, list):
        raise resolver.error(
            "Metadata.Warmfront.SetUp must be a list of {Function: ..., Event: ...}", root.line_of("Metadata")
        )
    calls = []
    for call in own:
        if not isinstance(call, Node) or call.get("Function") not in functions:
            named = call.get("Function") if isinstance(call, Node) else call
            raise resolver.error(
                f"Metadata.Warmfront.SetUp names {named!r}, which is no function of the template: "
                f"write {{Function: LogicalId, Event: {{...}}}} with one of {', '.join(functions)}",
                root.line_of("Metadata"),
            )
        event = resolver.resolve(call.get("Event", Node()))
        calls.append(SetUpCall(call["Function"], msgspec.json.encode(event)))
    return tuple(calls)
