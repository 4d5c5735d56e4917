"""A template's resources for the local AWS: translated from SAM, put in order, resolved one at a time."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from warmfront.emulator.resources.kinds import TRANSLATED, is_made
from warmfront.emulator.template.includes import expand_includes
from warmfront.emulator.template.loops import expand_loops
from warmfront.emulator.template.names import resolve_names
from warmfront.emulator.template.source import Items, Node, read
from warmfront.emulator.template.values import NO_VALUE, Resolver

_SUB_NAME = re.compile(r"\$\{([^!}][^}]*)\}")
_DYNAMIC = re.compile(r"\{\{resolve:(?:ssm|ssm-secure|secretsmanager):[^}]*\}\}")
_EXPANDED_BY_SAM = ("Events", "Policies", "PropagateTags", "AutoPublishAlias", "DeploymentPreference")
"""Properties of a state machine that become roles, triggers and aliases: nothing that the local AWS would hold."""


class Document:
    """One template with one set of parameters; `attributes` may grow between two calls of `properties`."""

    def __init__(self, path: Path, parameters: Mapping[str, str], region: str, attributes: Mapping[str, str]) -> None:
        self._path = path
        self.root, _ = read(path)
        self._parameters, self._region, self._attributes = parameters, region, attributes
        self.resolver = self._new_resolver()
        expand_includes(self.root, self.resolver, path.parent)
        expand_loops(self.root, self.resolver)
        resolve_names(self.root, self.resolver)
        self.problems: dict[str, str] = {}
        """Logical id -> why the resource cannot be made."""
        self._translate()

    @property
    def resources(self) -> Node:
        section: Node = self.root["Resources"]
        return section

    def planned(self) -> list[str]:
        """Logical ids of what is to be made, each after those that it refers to."""
        wanted = [name for name, resource in self.resources.items() if self._is_wanted(name, resource)]
        ordered: dict[str, None] = {}

        def visit(name: str, below: tuple[str, ...]) -> None:
            if name in ordered or name in below or name not in wanted:
                return
            for other in self._needs(name):
                visit(other, (*below, name))
            ordered[name] = None

        for name in wanted:
            visit(name, ())
        return list(ordered)

    def properties(self, logical_id: str) -> dict[str, Any]:
        """The resource's properties, resolved with the attributes known by now. Raises TemplateError."""
        self.resolver = self._new_resolver()  # conditions and parameters may depend on what has been made since
        value = self.resolver.resolve(self.resources[logical_id].get("Properties") or Node())
        return {} if value is NO_VALUE or not isinstance(value, dict) else value

    def attributes_asked_of(self, logical_id: str) -> set[str]:
        """Attributes of a resource that the template asks for anywhere."""
        return {attribute for name, attribute in references(self.root) if name == logical_id and attribute}

    def ssm_parameters(self) -> dict[str, str]:
        """Template parameters whose value is in SSM: name -> name of the SSM parameter."""
        found = {}
        for name, body in (self.root.get("Parameters") or {}).items():
            kind = str(body.get("Type", "")) if isinstance(body, dict) else ""
            if kind.startswith("AWS::SSM::Parameter::Value") and name in self.resolver.parameters:
                found[name] = self.resolver.parameters[name]
        return found

    def dynamic_references(self) -> set[str]:
        """Every {{resolve:...}} of the template that is written out or follows from a Sub or Join."""
        found: set[str] = set()
        for value in _texts_with_references(self.root):
            try:
                text = self.resolver.resolve(value)
            except Exception:  # an expression with no local meaning: whoever uses it will say so
                continue
            if isinstance(text, str):
                found.update(_DYNAMIC.findall(text))
        return found

    def _new_resolver(self) -> Resolver:
        return Resolver(
            self.root,
            str(self._path),
            overrides=self._parameters,
            region=self._region,
            attributes=self._attributes,
        )

    def _is_wanted(self, name: str, resource: Any) -> bool:
        if not isinstance(resource, Node) or not is_made(str(resource.get("Type"))) or name in self.problems:
            return False
        return "Condition" not in resource or self.resolver.condition(resource["Condition"], resource.line)

    def _needs(self, logical_id: str) -> list[str]:
        resource = self.resources[logical_id]
        depends = resource.get("DependsOn") or []
        names = [depends] if isinstance(depends, str) else list(depends)
        return [*names, *(name for name, _ in references(resource.get("Properties")))]

    def _translate(self) -> None:
        """Replace SAM's own types by CloudFormation's; only these are translated, so that nothing else can fail."""
        for name, resource in list(self.resources.items()):
            if isinstance(resource, Node) and resource.get("Type") in TRANSLATED:
                try:
                    self.resources[name] = self._translated(name, resource)
                except Exception as error:  # samtranslator raises many kinds, its message says which property
                    self.problems[name] = str(getattr(error, "message", error))

    def _translated(self, name: str, resource: Node) -> Node:
        from samtranslator.parser.parser import Parser  # 0.9 s: only for a template that has such a resource
        from samtranslator.translator.translator import Translator

        properties = dict(resource.get("Properties") or {})
        for each in _EXPANDED_BY_SAM:
            properties.pop(each, None)
        if resource["Type"] == "AWS::Serverless::StateMachine":
            properties.setdefault("Role", "arn:aws:iam::123456789012:role/local")
            self._inline_definition(properties)
        alone = {"Resources": {name: {"Type": resource["Type"], "Properties": properties}}}
        translated = Translator({}, Parser()).translate(json.loads(json.dumps(alone)), {})["Resources"][name]
        made = with_lines(translated, resource.line)
        assert isinstance(made, Node)
        made.update({key: resource[key] for key in ("Condition", "DependsOn") if key in resource})
        return made

    def _inline_definition(self, properties: dict[str, Any]) -> None:
        """A definition in a local file becomes part of the template; on AWS `sam deploy` uploads it."""
        location = properties.get("DefinitionUri")
        if isinstance(location, str) and not location.startswith("s3://"):
            properties.pop("DefinitionUri")
            definition, _ = read(self._path.parent / location)
            properties["Definition"] = definition


def with_lines(value: Any, line: int) -> Any:
    """Plain mappings and lists as the template reader's own, which remember a line."""
    if isinstance(value, dict):
        return Node({key: with_lines(entry, line) for key, entry in value.items()}, line=line)
    if isinstance(value, list):
        return Items([with_lines(entry, line) for entry in value], line=line)
    return value


def references(value: Any) -> Iterator[tuple[str, str]]:
    """Each (name, attribute) that Ref, GetAtt and Sub in a value name; the attribute is empty for Ref."""
    if isinstance(value, list):
        for entry in value:
            yield from references(entry)
    if not isinstance(value, dict):
        return
    for key, body in value.items():
        if key == "Ref" and isinstance(body, str):
            yield body, ""
        elif key == "Fn::GetAtt":
            name, _, attribute = (".".join(map(str, body)) if isinstance(body, list) else str(body)).partition(".")
            yield name, attribute
        else:
            if key == "Fn::Sub":
                text = body[0] if isinstance(body, list) and body else body
                for found in _SUB_NAME.findall(text if isinstance(text, str) else ""):
                    name, _, attribute = found.strip().partition(".")
                    yield name, attribute
            yield from references(body)


def _texts_with_references(value: Any) -> Iterator[Any]:
    """The strings, and the Fn::Sub and Fn::Join around them, that hold a dynamic reference."""
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)) in ("Fn::Sub", "Fn::Join"):
            if "{{resolve:" in json.dumps(value, default=str):
                yield value
            return
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _texts_with_references(entry)
    elif isinstance(value, str) and "{{resolve:" in value:
        yield value
