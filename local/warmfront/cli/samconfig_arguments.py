"""Options of samconfig files: which file and environment, and what such a file sets for `warmfront serve` and `invoke`."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from warmfront.emulator.template import SamConfig, TemplateError, read_samconfig

TEMPLATES = ("template.yaml", "template.yml", "template.json")
SECTIONS = {"serve": "local_start_api", "invoke": "local_invoke"}
"""Our command -> the command of SAM CLI whose section it reads."""
TAKEN = ("template_file", "template", "port", "host", "env_vars", "log_file", "region", "profile", "warm_containers")
"""Keys of a samconfig section that are understood, besides parameter_overrides."""


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """--config-file and --config-env, as SAM CLI takes them."""
    parser.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="samconfig file (default: samconfig.toml or .yaml by the template)",
    )
    parser.add_argument(
        "--config-env", metavar="NAME", help="its environment (default: local where there is one, else default)"
    )


def find_template(given: Path | None) -> Path:
    """The template that was named, or the one in this folder. A folder stands for the template in it.

    In a CDK project that is what `cdk synth` left in cdk.out. Raises TemplateError where that is nothing, or several.
    """
    if given is not None and not given.is_dir():
        return given
    folder = given or Path()
    found = next((folder / name for name in TEMPLATES if (folder / name).is_file()), None)
    if found is None and ((folder / "cdk.json").is_file() or (folder / "cdk.out").is_dir()):
        return _cdk_template(folder / "cdk.out")
    return found or folder / TEMPLATES[0]


def _cdk_template(output: Path) -> Path:
    """The only stack of a CDK project; nested stacks belong to theirs."""
    found = [path for path in sorted(output.glob("*.template.json")) if not path.name.endswith(".nested.template.json")]
    if not found:
        raise TemplateError(f"{output} holds no *.template.json; run `cdk synth` first")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise TemplateError(f"{output} holds several stacks; name one with --template {output}/... ({names})")
    return found[0]


def apply_samconfig(parser: argparse.ArgumentParser, command: str, arguments: Sequence[str]) -> None:
    """Make what samconfig says for `command` the defaults of `parser`, so that the command line still wins.

    Raises TemplateError for a file that cannot be read and for a value of the wrong kind.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("-t", "--template", "--template-file", type=Path)
    add_config_arguments(early)
    try:
        known, _ = early.parse_known_args(arguments)
    except argparse.ArgumentError:
        return  # the command's own parser says what is wrong
    folder = find_template(known.template).parent
    config = read_samconfig(folder, file=known.config_file, environment=known.config_env)
    parser.set_defaults(**_defaults(config, SECTIONS[command], config.parameters(SECTIONS[command])))


def _defaults(config: SamConfig, section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: values[name] for name in TAKEN if name in values}
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
