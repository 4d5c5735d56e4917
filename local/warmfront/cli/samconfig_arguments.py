"""Finds the template, and reads defaults of `warmfront serve` and `warmfront invoke` from samconfig files."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from warmfront.emulator.template import SamConfig, TemplateError, read_samconfig

TEMPLATES = ("template.yaml", "template.yml", "template.json")
SECTIONS = {"serve": "local_start_api", "invoke": "local_invoke"}
"""Our command -> the command of SAM CLI whose section it reads."""
SUPPORTED_KEYS = (
    "template_file",
    "template",
    "port",
    "host",
    "env_vars",
    "log_file",
    "region",
    "profile",
    "warm_containers",
)
"""Keys of a samconfig section that set defaults here, in addition to parameter_overrides."""


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --config-file and --config-env, as in SAM CLI."""
    parser.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="samconfig file (default: samconfig.toml or .yaml by the template)",
    )
    parser.add_argument(
        "--config-env",
        metavar="NAME",
        help="environment in the samconfig file (default: local if it exists, else default)",
    )


def find_template(given: Path | None) -> Path:
    """Return the path of the template: the given file, or the template in the given (or this) folder.

    In a CDK project it is the output of `cdk synth` in cdk.out.

    Raises:
        TemplateError: cdk.out has no template or several.
    """
    if given is not None and not given.is_dir():
        return given
    folder = given or Path()
    found = next((folder / name for name in TEMPLATES if (folder / name).is_file()), None)
    if found is None and ((folder / "cdk.json").is_file() or (folder / "cdk.out").is_dir()):
        return _cdk_template(folder / "cdk.out")
    return found or folder / TEMPLATES[0]


def _cdk_template(output: Path) -> Path:
    """The template of a CDK project's only stack. Templates of nested stacks are part of it."""
    found = [path for path in sorted(output.glob("*.template.json")) if not path.name.endswith(".nested.template.json")]
    if not found:
        raise TemplateError(f"{output} holds no *.template.json; run `cdk synth` first")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise TemplateError(f"{output} holds several stacks; name one with --template {output}/... ({names})")
    return found[0]


def apply_samconfig(parser: argparse.ArgumentParser, command: str, arguments: Sequence[str]) -> None:
    """Set the parser's defaults from samconfig, so that the command line overrides them.

    Args:
        parser: the parser of the subcommand.
        command: "serve" or "invoke".
        arguments: the command line after the subcommand.

    Raises:
        TemplateError: the file cannot be read or has a value of the wrong type.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("-t", "--template", "--template-file", type=Path)
    add_config_arguments(early)
    try:
        known, _ = early.parse_known_args(arguments)
    except argparse.ArgumentError:
        return  # the subcommand's parser will report it
    folder = find_template(known.template).parent
    config = read_samconfig(folder, file=known.config_file, environment=known.config_env)
    parser.set_defaults(**_defaults(config, SECTIONS[command], config.parameters(SECTIONS[command])))


def _defaults(config: SamConfig, section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: values[name] for name in SUPPORTED_KEYS if name in values}
    base = config.path.parent if config.path is not None else Path()
    defaults: dict[str, Any] = {}
    for name, value in found.items():
        if name in ("template_file", "template"):
            defaults["template"] = base / _string(config, section, name, value)
        elif name in ("env_vars", "log_file"):
            defaults[name] = base / _string(config, section, name, value)
        elif name == "port":
            if not str(value).isdigit():
                raise TemplateError(f"{config.path}: [{config.environment}.{section}] port {value!r} is not a number")
            defaults[name] = int(value)
        elif name == "warm_containers":
            defaults["warm"] = 1 if str(value).upper() == "EAGER" else 0
        else:
            defaults[name] = _string(config, section, name, value)
    return defaults


def _string(config: SamConfig, section: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TemplateError(f"{config.path}: [{config.environment}.{section}] {name} must be a string, not {value!r}")
    return value
