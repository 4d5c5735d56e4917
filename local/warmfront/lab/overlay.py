"""Writes copies of a template with other environment variables, which experiments then serve.

SAM's --env-vars only sets variables that the template declares, and a template need not declare every setting.
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

STALE_S = 3600.0  # age at which a copy is certainly unused: it is only read when the emulator starts


@contextlib.contextmanager
def overlaid(
    template: Path, variables: Mapping[str, Mapping[str, str]], handlers: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """Yield a copy of the template with these variables and handlers by function.

    It is in the original's folder, because paths in a template are relative to that.
    """
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
    """Remove copies that killed processes left beside the template."""
    ours = re.compile(rf"\.{re.escape(template.stem)}-lab-(\d+)-[0-9a-f]+{re.escape(template.suffix)}")
    for path in template.parent.glob(f".{glob.escape(template.stem)}-lab-*"):
        with contextlib.suppress(OSError):  # another process removed it, or the folder is read-only
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
    """Return the document with the variables set. Intrinsic functions are unchanged.

    A replaced handler is passed on in the variable LAB_HANDLER.
    """
    # YAML nodes instead of values: a loader would need every tag of CloudFormation, and a dumper would have to write them.
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
                raise ExperimentError(f"{name}: {function} has no Handler that could be wrapped")
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
