"""Reads a template's Parameters: overrides, defaults, and the values that AllowedValues and AllowedPattern permit."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from warmfront.emulator.template.source import Node, TemplateError, text


class MissingValue(TemplateError):
    """A parameter without a value is used, and only the person who starts the emulator can give it."""


class Parameters:
    """The parameters of one template; `values` has every one that has a value."""

    def __init__(
        self,
        bodies: Node,
        overrides: Mapping[str, str],
        fallbacks: Mapping[str, str],
        *,
        pseudo: Collection[str],
        warn: Callable[[str, int], None],
        where: Callable[[int], str],
    ) -> None:
        """`fallbacks` are used where neither an override nor a Default is there. Raises TemplateError for a refused value."""
        self._bodies, self._warn, self._where = bodies, warn, where
        for name in overrides:
            if name not in bodies and name not in pseudo:
                known = ", ".join(bodies) or "none"
                warn(f"parameter {name} is not declared, so its value is not used (declared: {known})", 0)
        self.values: dict[str, str] = {}
        for name, body in bodies.items():
            if not isinstance(body, Node):
                raise self._error(f"parameter {name} must be a mapping with a Type", bodies.line_of(name))
            if name in overrides:
                value = overrides[name]
            elif "Default" in body:
                default = body["Default"]
                value = ",".join(map(text, default)) if isinstance(default, list) else text(default)
            elif name in fallbacks:
                value = fallbacks[name]
                warn(f"parameter {name} has no Default: its value of the section deploy of samconfig is used", 0)
            else:
                continue
            self._check(name, body, value)
            self.values[name] = value

    def __contains__(self, name: object) -> bool:
        return name in self._bodies

    def value(self, name: str, line: int) -> Any:
        """A parameter's value: text, or a list for a list type. Raises MissingValue."""
        body: Node = self._bodies[name]
        if name not in self.values:
            raise MissingValue(
                f"{self._where(line)}: parameter {name} has no Default; give it with --parameter-overrides {name}=VALUE"
                " or as parameter_overrides in samconfig.toml under [default.local_start_api.parameters]"
            )
        value = self.values[name]
        if str(body.get("Type", "")).startswith("AWS::SSM::Parameter"):
            self._warn(f"parameter {name} is read from SSM on AWS; locally its value is its text, {value!r}", line)
        return [part.strip() for part in value.split(",")] if _is_list_type(body) else value

    def _check(self, name: str, body: Node, value: str) -> None:
        parts = [part.strip() for part in value.split(",")] if _is_list_type(body) else [value]
        allowed = body.get("AllowedValues")
        if allowed is not None and not isinstance(allowed, list):
            raise self._error(f"parameter {name}: AllowedValues must be a list", body.line_of("AllowedValues"))
        for part in parts:
            if allowed is not None and part not in (texts := [text(entry) for entry in allowed]):
                raise self._error(
                    f"parameter {name} is {part!r}, but AllowedValues are {', '.join(texts)};"
                    f" give one with --parameter-overrides {name}=...",
                    body.line_of("AllowedValues"),
                )
            pattern = body.get("AllowedPattern")
            if pattern is not None and not _matches(str(pattern), part):
                raise self._error(
                    f"parameter {name} is {part!r}, which AllowedPattern {pattern} refuses;"
                    f" give another with --parameter-overrides {name}=...",
                    body.line_of("AllowedPattern"),
                )

    def _error(self, message: str, line: int) -> TemplateError:
        return TemplateError(f"{self._where(line)}: {message}")


def _is_list_type(body: Node) -> bool:
    kind = str(body.get("Type", ""))
    return kind == "CommaDelimitedList" or "List<" in kind


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:
        return True  # Java's dialect has forms that Python's lacks; CloudFormation will judge
