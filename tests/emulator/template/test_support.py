"""Each property of SAM's own model is served, needs nothing locally, or is listed with what to use in its place."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from warmfront.emulator.template.support import EVENTS, RESOURCES, Support

LISTED_WHOLE = {
    "AWS::Serverless::Application",
    "AWS::Serverless::CapacityProvider",
    "AWS::Serverless::Connector",
    "AWS::Serverless::GraphQLApi",
    "AWS::Serverless::MicrovmImage",
    "AWS::Serverless::NetworkConnector",
    "AWS::Serverless::WebFunction",
    "AWS::Serverless::WebSocketApi",
}
"""Types of which everything or nothing is served."""


def properties_of(model: Any) -> set[str]:
    return {name for name in model.property_types if not name.startswith("__")}


def models() -> Iterator[tuple[str, Any]]:
    from samtranslator.model import sam_resources

    for model in vars(sam_resources).values():
        kind = getattr(model, "resource_type", None)
        if inspect.isclass(model) and isinstance(kind, str) and kind.startswith("AWS::Serverless::"):
            yield kind, model


def event_models() -> Iterator[tuple[str, Any]]:
    from samtranslator.model.eventsources import pull, push, scheduler

    for module in (pull, push, scheduler):
        for model in vars(module).values():
            kind = getattr(model, "resource_type", None)
            if inspect.isclass(model) and isinstance(kind, str) and model.__module__ == module.__name__:
                yield kind, model


def all_of(support: Support) -> set[str]:
    parts = [support.served, support.nothing, set(support.unserved)]
    assert sum(map(len, parts)) == len(set().union(*parts)), "a property is in two lists"
    return set().union(*parts)


def test_every_property_of_every_resource_type_is_in_a_list() -> None:
    found = dict(models())
    assert set(found) == set(RESOURCES) | LISTED_WHOLE
    for kind, support in RESOURCES.items():
        assert all_of(support) == properties_of(found[kind]), kind


@pytest.mark.parametrize("kind", EVENTS)
def test_every_property_of_every_served_event_is_in_a_list(kind: str) -> None:
    assert all_of(EVENTS[kind]) == properties_of(dict(event_models())[kind])
