"""Parameter overrides as SAM CLI writes them: in samconfig.toml and on the command line."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from warmfront.emulator.template.source import TemplateError

_PAIR: Final = re.compile(r"""\s*([A-Za-z0-9:_]+)=("(?:\\.|[^"\\])*"|'[^']*'|(?:\\.|[^\s"'\\])+|)(?=\s|$)""")
_CLOUDFORMATION_PAIR: Final = re.compile(
    r"""\s*ParameterKey=([A-Za-z0-9:_]+),ParameterValue=("(?:\\.|[^"\\])*"|'[^']*'|(?:\\.|[^\s"'\\])*)(?=\s|$)"""
)


def parse_parameter_overrides(values: str | Iterable[str]) -> dict[str, str]:
    """`Stage=local Key="a b"`, `ParameterKey=Stage,ParameterValue=local`, or a list of such strings."""
    entries = [values] if isinstance(values, str) else list(values)
    overrides: dict[str, str] = {}
    for entry in entries:
        overrides.update(_parse_entry(entry, whole=not isinstance(values, str)))
    return overrides


def _parse_entry(entry: str, *, whole: bool) -> dict[str, str]:
    found, position = {}, 0
    while position < len(entry.rstrip()):
        match = _CLOUDFORMATION_PAIR.match(entry, position) or _PAIR.match(entry, position)
        if match is None:
            name, equals, value = entry.partition("=")
            if whole and equals and re.fullmatch(r"[A-Za-z0-9:_]+", name):
                return {name: value}  # one entry of a list needs no quotes around its spaces
            rest = entry[position:].strip()
            raise TemplateError(f"--parameter-overrides: {rest!r} is not Name=value; quote values with spaces")
        found[match.group(1)] = _unquoted(match.group(2))
        position = match.end()
    return found


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return re.sub(r"\\(.)", r"\1", value)


def read_parameter_overrides(samconfig_path: Path | str, environment: str = "local") -> dict[str, str]:
    """[ENVIRONMENT.global.parameters] parameter_overrides of a samconfig.toml; none when the file is not there."""
    path = Path(samconfig_path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path}: not valid TOML: {error}") from None
    section: Any = document
    for key in (environment, "global", "parameters", "parameter_overrides"):
        section = section.get(key) if isinstance(section, Mapping) else None
    if section is None:
        return {}
    if isinstance(section, Mapping):
        return {str(key): str(value) for key, value in section.items()}
    if isinstance(section, str) or (isinstance(section, list) and all(isinstance(entry, str) for entry in section)):
        return parse_parameter_overrides(section)
    raise TemplateError(f"{path}: parameter_overrides must be a string, a list of strings or a table")
