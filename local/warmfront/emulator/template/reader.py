"""Reads one template file into a Template: functions, then event sources, then APIs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmfront.emulator.template.apis import ApiEvent, ApiReader
from warmfront.emulator.template.cloudformation import as_sam
from warmfront.emulator.template.config import EventSource, FunctionConfig, Template, Unserved
from warmfront.emulator.template.events import read_events, read_queue
from warmfront.emulator.template.functions import FUNCTION_TYPES, FunctionReader
from warmfront.emulator.template.global_settings import check_globals
from warmfront.emulator.template.includes import expand_includes
from warmfront.emulator.template.loops import expand_loops
from warmfront.emulator.template.names import check_functions, resolve_names
from warmfront.emulator.template.nested import NestedStacks, with_nested
from warmfront.emulator.template.parameters import MissingValue
from warmfront.emulator.template.properties import merge_globals
from warmfront.emulator.template.set_up import read_set_up
from warmfront.emulator.template.source import Node, TemplateError, read
from warmfront.emulator.template.support import unserved_properties
from warmfront.emulator.template.triggers import unserved_triggers
from warmfront.emulator.template.values import DEFAULT_REGION, IMPLICIT_APIS, Resolver


def load_template(
    path: Path | str,
    *,
    parameters: Mapping[str, str] | None = None,
    built: bool = False,
    attributes: Mapping[str, str] | None = None,
    fallbacks: Mapping[str, str] | None = None,
    region: str | None = None,
) -> Template:
    """Reads and resolves a template; raises TemplateError with file, line and fix.

    `parameters` win over the template's defaults, and those over `fallbacks`. `built` reads what `sam build` left in
    .aws-sam/build beside the template. `attributes` gives local values to what only AWS knows: {"Table.Arn": ..., "Queue": its URL}.
    """
    path = Path(path)
    if built and path.parent.name != "build":
        path = _built_template(path)
    built = built or path.parts[-3:-1] == (".aws-sam", "build")
    region = region or os.environ.get("AWS_REGION") or DEFAULT_REGION
    return _load(path, parameters or {}, "", attributes or {}, fallbacks or {}, region, built=built)[0]


def _load(
    path: Path,
    parameters: Mapping[str, str],
    prefix: str,
    attributes: Mapping[str, str],
    fallbacks: Mapping[str, str],
    region: str,
    *,
    built: bool,
    above: tuple[Path, ...] = (),
) -> tuple[Template, Mapping[str, Any]]:
    """The template with its nested stacks, and the values of its Outputs."""
    root, text_warnings = read(path)
    if path.resolve() in above:
        raise TemplateError(f"{path}:1: this template nests itself")
    above = (*above, path.resolve())

    def load_nested(path: Path, parameters: Mapping[str, str], prefix: str) -> tuple[Template, Mapping[str, Any]]:
        return _load(path, parameters, prefix, {}, {}, region, built=built, above=above)

    stacks = NestedStacks(attributes, path.parent, prefix, load_nested)
    resolver = Resolver(
        root,
        str(path),
        overrides=parameters,
        region=region,
        attributes=stacks,
        fallbacks=fallbacks,
        prefix=prefix,
    )
    expand_includes(root, resolver, path.parent)
    expand_loops(root, resolver)
    resolve_names(root, resolver)
    check_functions(root, resolver)
    check_globals(root, resolver)
    reading = _Reading(root, resolver, path, built=built, stacks=stacks)
    template = reading.template(text_warnings)
    return template, reading.outputs() if prefix else {}


def _built_template(path: Path) -> Path:
    found = path.parent / ".aws-sam" / "build" / "template.yaml"
    if not found.exists():
        raise TemplateError(f"{found}: no such file; run `sam build` first, or leave --built out")
    return found


class _Reading:
    def __init__(self, root: Node, resolver: Resolver, path: Path, *, built: bool, stacks: NestedStacks) -> None:
        self._root, self._resolver, self._path, self._built = root, resolver, path.absolute(), built
        self._stacks = stacks

    def template(self, text_warnings: list[str]) -> Template:
        live = self._live_resources()
        self._stacks.follow({name: resource for name, (resource, _) in live.items()}, self._resolver)
        resources = as_sam(self._resolver, live)
        folder = self._path.parent
        reader = FunctionReader(
            self._resolver, {name: resource for name, (resource, _) in resources.items()}, folder, built=self._built
        )
        queues = {}
        for name, (resource, _) in resources.items():
            if resource.get("Type") == "AWS::SQS::Queue":
                queue = self._resolver.attempt(read_queue, self._resolver, name, resource)
                if queue is not None:
                    queues[name] = queue
        functions = {}
        api_events: list[ApiEvent] = []
        sources: list[EventSource] = []
        for name, (resource, raw) in resources.items():
            if resource.get("Type") in FUNCTION_TYPES:
                functions[name] = self._function(reader, name, resource, raw)
                own_api_events, own_sources = read_events(self._resolver, name, raw, queues)
                api_events += own_api_events
                sources += own_sources
        apis = ApiReader(self._resolver, resources, functions, folder).read(api_events, self._implicit_apis())
        nested = list(self._stacks.templates())  # before the warnings are taken: reading them may warn
        unserved = self._unserved(resources)  # likewise
        template = Template(
            path=self._path,
            functions=functions,
            apis=apis,
            event_sources=tuple(sources),
            queues=queues,
            parameters=self._resolver.parameters,
            resource_types={name: str(resource.get("Type")) for name, (resource, _) in live.items()},
            set_up=read_set_up(self._resolver, self._root, functions),
            warnings=(*text_warnings, *self._resolver.warnings),
            problems=self._resolver.problems,
            unserved=unserved,
            lines={name: resource.line for name, (resource, _) in live.items()},
        )
        return with_nested(template, iter(nested))

    def _unserved(self, resources: Mapping[str, tuple[Node, Node]]) -> tuple[Unserved, ...]:
        found: list[Unserved] = []
        for name, (resource, raw) in resources.items():
            kind = str(resource.get("Type"))
            found += unserved_properties(name, kind, raw)
            found += unserved_triggers(self._resolver, name, kind, raw)
        return tuple(found)

    def outputs(self) -> dict[str, Any]:
        """Values of the template's Outputs, those that can be resolved."""
        section = self._root.get("Outputs")
        found = {}
        for name, output in section.items() if isinstance(section, Node) else ():
            if isinstance(output, Node) and "Value" in output:
                if "Condition" in output and not self._resolver.condition(output["Condition"], output.line):
                    continue
                found[name] = self._resolver.resolve(output["Value"])
        return found

    def _function(self, reader: FunctionReader, name: str, resource: Node, raw: Node) -> FunctionConfig:
        """The function, or one that cannot run and says why."""
        try:
            return reader.read(name, resource, raw)
        except MissingValue:
            raise
        except TemplateError as error:
            self._resolver.problem(error)
            return FunctionConfig(
                logical_id=name,
                function_name=name,
                handler="",
                runtime=runtime if isinstance(runtime := raw.get("Runtime"), str) else "",
                code_path=self._path.parent,
                not_runnable=str(error),
                line=resource.line,
            )

    def _live_resources(self) -> dict[str, tuple[Node, Node]]:
        """Logical id -> the resource and its properties with Globals, of every resource whose condition holds."""
        section = self._root.get("Resources")
        if not isinstance(section, Node) or not section:
            raise self._resolver.error("the template has no Resources", self._root.line_of("Resources"))
        shared = self._root.get("Globals")
        live = {}
        for name, resource in section.items():
            line = section.line_of(name)
            try:
                if not isinstance(resource, Node) or not isinstance(resource.get("Type"), str):
                    raise self._resolver.error(f"resource {name} must be a mapping with a Type", line)
                resource.line = line
                if "Condition" in resource and not self._resolver.condition(
                    resource["Condition"], resource.line_of("Condition")
                ):
                    continue
                live[name] = (resource, self._properties(name, resource, shared))
            except MissingValue:
                raise
            except TemplateError as error:
                self._resolver.problem(error)
                continue
        return live

    def _properties(self, name: str, resource: Node, shared: Any) -> Node:
        properties = resource.get("Properties")
        if properties is None:
            properties = Node(line=resource.line)
        if not isinstance(properties, Node):
            raise self._resolver.error(f"{name}: Properties must be a mapping", resource.line_of("Properties"))
        return merge_globals(resource["Type"], properties, shared, resource.get("IgnoreGlobals"))

    def _implicit_apis(self) -> dict[str, Node]:
        shared = self._root.get("Globals")
        return {name: merge_globals(kind, Node(), shared, None) for name, kind in IMPLICIT_APIS.items()}
