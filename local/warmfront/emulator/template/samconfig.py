"""Reads samconfig files and parameter overrides as SAM CLI reads them."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from warmfront.emulator.template.source import TemplateError

FILES: Final = ("samconfig.toml", "samconfig.yaml", "samconfig.yml")
LOCAL: Final = "local"
DEFAULT: Final = "default"

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


@dataclass(frozen=True, slots=True)
class SamConfig:
    """One environment of a samconfig file. Without a file it is empty.

    SAM CLI merges the section `global` and the command's own one, which wins; names are written with `_` for `-`.
    Fact: docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-config.html
    """

    path: Path | None
    environment: str
    sections: Mapping[str, Any]

    def parameters(self, command: str) -> dict[str, Any]:
        """The parameters of a command, such as `local_start_api`, over those of `global`."""
        return {**self._section("global"), **self._section(command)}

    def parameter_overrides(self, command: str) -> dict[str, str]:
        """Template parameters for a command. Raises TemplateError where they are written in no known way."""
        value = self.parameters(command).get("parameter_overrides")
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return {str(key): _text(each) for key, each in value.items()}
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(entry, str) for entry in value)):
            return parse_parameter_overrides(value)
        raise TemplateError(f"{self.path}: parameter_overrides must be a string, a list of strings or a table")

    def _section(self, command: str) -> Mapping[str, Any]:
        section = self.sections.get(command)
        found = section.get("parameters") if isinstance(section, Mapping) else None
        return found if isinstance(found, Mapping) else {}


def read_samconfig(folder: Path, *, file: Path | None = None, environment: str | None = None) -> SamConfig:
    """The samconfig of a template's folder: `file`, else the first of FILES that is there.

    `environment`: as --config-env names it; without it `local` where the file has one, else `default`, SAM CLI's own.
    Raises TemplateError for a file that cannot be read, or that lacks what was asked for by name.
    """
    path = file or next((folder / name for name in FILES if (folder / name).is_file()), None)
    document = _document(path) if path is not None else {}
    known = [str(name) for name, value in document.items() if isinstance(value, Mapping)]
    if environment is not None and environment not in known:
        where = path or folder / FILES[0]
        raise TemplateError(f"--config-env {environment}: {where} has {', '.join(known) or 'no environments'}")
    chosen = environment or (LOCAL if LOCAL in known else DEFAULT)
    sections = document.get(chosen)
    return SamConfig(path, chosen, sections if isinstance(sections, Mapping) else {})


def _document(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        document: Any = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise TemplateError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path}: not valid TOML: {error}") from None
    except yaml.YAMLError as error:
        raise TemplateError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, Mapping):
        raise TemplateError(f"{path}: must be a mapping of environments, such as default")
    return document


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(_text, value)) if isinstance(value, list) else str(value)
