"""Checks the names of sections and properties in a template's Globals.

docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-template-anatomy-globals.html
"""

import difflib
from typing import Final

from warmfront.emulator.template.source import Node
from warmfront.emulator.template.support import RESOURCES
from warmfront.emulator.template.values import Resolver

SECTIONS: Final = (
    "Api",
    "CapacityProvider",
    "Function",
    "HttpApi",
    "LayerVersion",
    "MicrovmImage",
    "NetworkConnector",
    "SimpleTable",
    "StateMachine",
    "WebSocketApi",
)
"""Of SAM's `Globals.supported_properties`."""


def check_globals(root: Node, resolver: Resolver) -> None:
    """Report, and remove, each section and property of Globals that SAM does not have."""
    shared = root.get("Globals")
    if not isinstance(shared, Node):
        return
    for section, properties in list(shared.items()):
        if section not in SECTIONS:
            _report(shared, section, "section", list(SECTIONS), "Globals", resolver)
        elif isinstance(properties, Node) and (support := RESOURCES.get(f"AWS::Serverless::{section}")) is not None:
            known = [*support.served, *support.nothing, *support.unserved]
            for key in list(properties):
                if key not in known and not key.startswith("Fn::"):
                    _report(properties, key, "property", known, f"Globals: {section}", resolver)


def _report(node: Node, key: str, what: str, known: list[str], owner: str, resolver: Resolver) -> None:
    close = difflib.get_close_matches(key, sorted(known), 1)
    hint = (
        f"; {close[0]}, if that is meant" if close else f"; there are {', '.join(known)}" if what == "section" else ""
    )
    resolver.problem(resolver.error(f"{owner}: {key} is no {what} that SAM has{hint}", node.line_of(key)))
    del node[key]
