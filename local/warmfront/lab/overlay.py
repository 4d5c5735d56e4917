"""A template with other environment variables: the copy an experiment serves. Knows YAML nodes, nothing of SAM's meaning.

SAM's --env-vars sets only what the template declares, and a template need not declare every setting of its code.
"""

import contextlib
import glob
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from warmfront.lab.experiments import ExperimentError

STALE_S = 3600.0  # nobody needs a copy so long: it is read once, when what serves it starts


@contextlib.contextmanager
def overlaid(
    template: Path, variables: Mapping[str, Mapping[str, str]], handlers: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """The template with these variables and handlers by function; beside the original, because its paths are relative to its folder."""
    remove_stale(template)
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


def remove_stale(template: Path) -> None:
    """The copies that somebody who was killed has left beside the template: of a process that is gone, or old."""
    ours = re.compile(rf"\.{re.escape(template.stem)}-lab-(\d+)-[0-9a-f]+{re.escape(template.suffix)}")
    for path in template.parent.glob(f".{glob.escape(template.stem)}-lab-*"):
        with contextlib.suppress(OSError):  # somebody else was faster, or the folder is not ours to write to
            match = ours.fullmatch(path.name)
            if match and (not Path(f"/proc/{match[1]}").exists() or time.time() - path.stat().st_mtime > STALE_S):
                path.unlink()


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
