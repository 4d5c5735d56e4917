"""Computes the environment variables of functions: the template's, addresses of local services, and --env-vars."""

import json
from pathlib import Path

from warmfront.emulator.backing_services import BackingServices
from warmfront.emulator.local_urls import database_url, foreign_scheme, redis_url
from warmfront.emulator.options import StartError
from warmfront.emulator.template import FunctionConfig, Template


def local_variables(
    config: FunctionConfig, backing: BackingServices, urls: list[str], aws_endpoint: str | None
) -> dict[str, str]:
    """The template's variables of a function, with the addresses of this machine in place of those it declares.

    `aws_endpoint`: where clients of AWS go; None: to the real one.
    """
    variables = dict(config.environment)
    variables |= {name: url for name, (url, _) in _local_urls(config, backing).items()}
    if aws_endpoint is not None:
        variables.setdefault("AWS_ENDPOINT_URL", aws_endpoint)
    if urls:
        variables.setdefault("AWS_ENDPOINT_URL_LAMBDA", urls[0])
    return variables


def url_warnings(template: Template, backing: BackingServices) -> list[str]:
    """Return a warning for each URL that lost a TLS option or is left as written, because the local server cannot meet it."""
    found: dict[str, list[str]] = {}
    foreign: dict[str, list[str]] = {}
    for config in template.functions.values():
        for name, server in (("DATABASE_URL", "Postgres"), ("REDIS_URL", "Redis")):
            running = backing.postgres if server == "Postgres" else backing.redis
            scheme = foreign_scheme(name, config.environment.get(name, ""))
            if scheme is not None and running is not None:
                line = f"{name}: a {scheme}:// address is left as written for {{}}: the local {server} cannot stand in for it"
                foreign.setdefault(line, []).append(config.logical_id)
        for name, (_, dropped) in _local_urls(config, backing).items():
            if dropped:
                found.setdefault(f"{name}: {', '.join(dropped)}", []).append(config.logical_id)
    return [
        *(
            f"{what} left out for {', '.join(functions)}: the local server has no TLS"
            for what, functions in found.items()
        ),
        *(line.format(", ".join(functions)) for line, functions in foreign.items()),
    ]


def _local_urls(config: FunctionConfig, backing: BackingServices) -> dict[str, tuple[str, list[str]]]:
    """Name -> URL at the local server, and what was left out of it; none for the URL of another kind of server."""
    urls = {}
    database, cache = config.environment.get("DATABASE_URL"), config.environment.get("REDIS_URL")
    if backing.postgres is not None and database is not None and foreign_scheme("DATABASE_URL", database) is None:
        urls["DATABASE_URL"] = database_url(database, backing.postgres.url)
    if backing.redis is not None and cache is not None and foreign_scheme("REDIS_URL", cache) is None:
        urls["REDIS_URL"] = redis_url(cache, backing.redis.url)
    return urls


def read_env_vars(path: Path | None, template: Template) -> dict[str, dict[str, str]]:
    """SAM CLI's --env-vars file: {"Function": {"NAME": "value"}, "Parameters": {...for all...}}; only declared names are set."""
    if path is None:
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartError(f"--env-vars {path}: {error}") from None
    if not isinstance(document, dict) or not all(isinstance(value, dict) for value in document.values()):
        raise StartError(
            f'--env-vars {path}: must be an object of objects, as {{"FunctionLogicalId": {{"NAME": "value"}}}}'
        )
    shared = document.get("Parameters", {})
    unknown = sorted(
        set(document)
        - {"Parameters"}
        - {name for f in template.functions.values() for name in (f.logical_id, f.function_name)}
    )
    if unknown:
        raise StartError(f"--env-vars {path}: no function {unknown[0]!r} in {template.path}")
    chosen: dict[str, dict[str, str]] = {}
    for logical_id, config in template.functions.items():
        wanted = {**shared, **document.get(config.function_name, {}), **document.get(logical_id, {})}
        chosen[logical_id] = {name: _as_text(value) for name, value in wanted.items() if name in config.environment}
    return chosen


def _as_text(value: object) -> str:
    """A JSON value as a variable, as SAM CLI has it (samcli/local/lambdafn/env_vars.py): lists, objects and null are blank."""
    if value is None or isinstance(value, dict | list):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
