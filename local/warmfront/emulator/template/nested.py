"""Follows nested applications and stacks whose template is a local file, and adds what they hold to their parent."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from warmfront.emulator.template.config import (
    Api,
    Authorizer,
    EventSource,
    LambdaAuthorizer,
    Route,
    SqsSource,
    Template,
    Unserved,
)
from warmfront.emulator.template.properties import Properties
from warmfront.emulator.template.source import Node, is_intrinsic, text
from warmfront.emulator.template.values import Resolver

LOCATION: Final = {"AWS::Serverless::Application": "Location", "AWS::CloudFormation::Stack": "TemplateURL"}
"""Type -> the property that names the template."""
_OUTPUTS: Final = "Outputs."


class Loader(Protocol):
    """Reads a nested template with its parameters; `prefix` goes before its logical ids and names."""

    def __call__(
        self, path: Path, parameters: Mapping[str, str], prefix: str
    ) -> "tuple[Template, Mapping[str, Any]]": ...


class NestedStacks(dict[str, str]):
    """Local values of a template's attributes, those of nested stacks' outputs among them.

    A nested stack is read when one of its outputs is first needed, because its parameters may need other values.
    """

    def __init__(self, known: Mapping[str, str], folder: Path, prefix: str, load: Loader) -> None:
        super().__init__(known)
        self._folder, self._prefix, self._load = folder, prefix, load
        self._resources: Mapping[str, Node] = {}
        self._resolver: Resolver | None = None
        self._loaded: dict[str, tuple[Template, Mapping[str, Any]] | None] = {}

    def follow(self, resources: Mapping[str, Node], resolver: Resolver) -> None:
        """From now on, `resources` of nested types are followed."""
        self._resources = {name: each for name, each in resources.items() if each.get("Type") in LOCATION}
        self._resolver = resolver

    def get(self, key: str, default: Any = None) -> Any:
        if key in self:
            return self[key]
        name, _, attribute = key.partition(".")
        if name in self._resources and attribute.startswith(_OUTPUTS):
            return self._output(name, attribute.removeprefix(_OUTPUTS), default)
        return default

    def templates(self) -> Iterator[tuple[str, Template]]:
        """Logical id and template of every nested stack that can be followed."""
        for name in self._resources:
            found = self._stack(name)
            if found is not None:
                yield name, found[0]

    def _output(self, name: str, output: str, default: Any) -> Any:
        found = self._stack(name)
        if found is None:
            return default
        assert self._resolver is not None
        if output not in found[1]:
            line = self._resources[name].line
            self._resolver.problem(self._resolver.error(f"{name}: its template has no output {output}", line))
            return ""
        return found[1][output]

    def _stack(self, name: str) -> tuple[Template, Mapping[str, Any]] | None:
        if name not in self._loaded:
            self._loaded[name] = None  # a stack that needs its own outputs gets none
            assert self._resolver is not None
            self._loaded[name] = self._resolver.attempt(self._read, name, self._resources[name], self._resolver)
        return self._loaded[name]

    def _read(self, name: str, resource: Node, resolver: Resolver) -> tuple[Template, Mapping[str, Any]] | None:
        properties = Properties(resource.get("Properties"), resolver, name)
        key = LOCATION[str(resource["Type"])]
        where = properties.branch(key)
        asset = Properties(resource.get("Metadata"), resolver, f"{name}: Metadata").optional_text("aws:asset:path")
        location = asset or ("" if isinstance(where, dict) and not is_intrinsic(where) else properties.text(key))
        if not location or location.startswith(("s3://", "https://", "http://")):
            resolver.warn(
                f"{name}: its template is not on this machine, so nothing of it is served; name a local file in {key}",
                resource.line,
            )
            return None
        path = self._folder / location
        if not path.is_file():
            raise properties.error(key, f"names {path}, which does not exist")
        given = properties.section("Parameters")
        parameters = {each: _parameter(given.get(each)) for each in given.raw if each in given}
        return self._load(path, parameters, f"{self._prefix}{name}-")


def _parameter(value: Any) -> str:
    return ",".join(map(text, value)) if isinstance(value, list) else text(value)


def with_nested(template: Template, nested: Iterator[tuple[str, Template]]) -> Template:
    """The parent with the functions, APIs, sources and messages of its nested stacks."""
    for name, child in nested:
        template = _with_child(template, name, child)
    return template


def _with_child(parent: Template, name: str, child: Template) -> Template:
    prefixed = f"{name}-".__add__
    unserved = [dataclasses.replace(each, where=prefixed(each.where)) for each in child.unserved]
    sources: list[EventSource] = []
    own_queues = {queue.arn for queue in child.queues.values()}
    for source in child.event_sources:
        if isinstance(source, SqsSource) and source.queue_arn in own_queues:
            where = prefixed(f"{source.function}.{source.event}")
            unserved.append(Unserved(where, "queues of nested stacks are not made", "declare the queue in the parent"))
        else:
            sources.append(dataclasses.replace(source, function=prefixed(source.function)))
    return dataclasses.replace(
        parent,
        functions={
            **parent.functions,
            **{prefixed(key): dataclasses.replace(f, logical_id=prefixed(key)) for key, f in child.functions.items()},
        },
        apis=(*parent.apis, *(_api(api, prefixed) for api in child.apis)),
        event_sources=(*parent.event_sources, *sources),
        warnings=(*parent.warnings, *child.warnings),
        problems=(*parent.problems, *child.problems),
        unserved=(*parent.unserved, *unserved),
        nested_types={
            **parent.nested_types,
            **{prefixed(key): kind for key, kind in {**child.resource_types, **child.nested_types}.items()},
        },
    )


def _api(api: Api, prefixed: Callable[[str], str]) -> Api:
    def route(each: Route) -> Route:
        return dataclasses.replace(each, function=prefixed(each.function) if each.function else "")

    def authorizer(each: Authorizer) -> Authorizer:
        if isinstance(each, LambdaAuthorizer) and each.function:
            return dataclasses.replace(each, function=prefixed(each.function))
        return each

    return dataclasses.replace(
        api,
        logical_id=prefixed(api.logical_id),
        routes=tuple(map(route, api.routes)),
        authorizers={name: authorizer(each) for name, each in api.authorizers.items()},
    )
