"""A template with other environment variables: the copy an experiment serves. Knows YAML nodes, nothing of SAM's meaning.

SAM's --env-vars sets only what the template declares, and a template need not declare every setting of its code.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from local.lab.experiments import ExperimentError


@contextlib.contextmanager
def overlaid(
    template: Path, variables: Mapping[str, Mapping[str, str]], handlers: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """The template with these variables and handlers by function; beside the original, because its paths are relative to its folder."""
    wanted = {function: values for function, values in variables.items() if values}
    if not wanted:
        yield template
        return
    copy = template.with_name(f".{template.stem}-lab-{os.getpid()}-{secrets.token_hex(3)}{template.suffix}")
    try:
        text = template.read_text(encoding="utf-8")
        copy.write_text(with_variables(text, wanted, handlers or {}, name=str(template)))
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def with_variables(
    text: str,
    variables: Mapping[str, Mapping[str, str]],
    handlers: Mapping[str, str] | None = None,
    *,
    name: str = "template",
) -> str:
    """The same document, its intrinsic functions untouched, with the variables set.

    A handler is replaced; which one it was is in the variable LAB_HANDLER.
    """
    # Nodes, not values: a loader would have to know every tag of CloudFormation, and a dumper to write them again.
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    for function, values in variables.items():
        resource = _get(_get(document, "Resources"), function)
        if resource is None:
            raise ExperimentError(f"{name} has no function {function!r}")
        target = resource
        for key in ("Properties", "Environment", "Variables"):
            target = _get_or_add(target, key)
        for key, value in values.items():
            _set(target, key, _text(value))
        if handlers and function in handlers:
            properties = _get_or_add(resource, "Properties")
            own = _get(properties, "Handler")
            if not isinstance(own, yaml.ScalarNode):
                raise ExperimentError(f"{name}: {function} has no Handler of its own to stand before")
            _set(target, "LAB_HANDLER", _text(own.value))
            _set(properties, "Handler", _text(handlers[function]))
    return yaml.serialize(document, Dumper=yaml.SafeDumper)


def _text(value: str) -> yaml.Node:
    return yaml.ScalarNode("tag:yaml.org,2002:str", value, style='"')


def _get(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _get_or_add(node: yaml.Node, key: str) -> yaml.Node:
    found = _get(node, key)
    if found is None:
        found = yaml.MappingNode("tag:yaml.org,2002:map", [])
        _set(node, key, found)
    return found


def _set(node: yaml.Node, key: str, value: yaml.Node) -> None:
    if not isinstance(node, yaml.MappingNode):
        raise ExperimentError(f"{key} cannot be set: line {node.start_mark.line + 1} of the template is no mapping")
    node.value = [(name, old) for name, old in node.value if name.value != key]
    node.value.append((yaml.ScalarNode("tag:yaml.org,2002:str", key), value))
