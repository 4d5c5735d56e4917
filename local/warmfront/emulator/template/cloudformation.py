"""Rewrites resources of plain CloudFormation as SAM would write them, so that one reader serves both."""

from collections.abc import Mapping

from warmfront.emulator.template import raw_http_apis, raw_rest_apis
from warmfront.emulator.template.raw_events import with_raw_events
from warmfront.emulator.template.raw_references import RawResources
from warmfront.emulator.template.source import Node
from warmfront.emulator.template.values import Resolver


def as_sam(resolver: Resolver, resources: Mapping[str, tuple[Node, Node]]) -> dict[str, tuple[Node, Node]]:
    """Logical id -> resource and properties, with APIs, URLs, event sources and schedules in SAM's form.

    Resources that need no rewriting stay as they are; the CDK's output is plain CloudFormation as well.
    """
    found = with_raw_events(RawResources(resolver, resources))
    raw = RawResources(resolver, found)
    for module, apis in ((raw_rest_apis, raw_rest_apis.rest_apis(raw)), (raw_http_apis, raw_http_apis.http_apis(raw))):
        for name, (resource, properties) in apis.items():
            changed = Node(resource, line=resource.line, lines=resource.lines)
            changed["Type"] = module.SAM_TYPE
            found[name] = (changed, properties)
    return found
