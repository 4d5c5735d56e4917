"""What `warmfront serve` shows when it is ready, for people and as JSON: servers, functions, routes, warnings."""

import os
from collections.abc import Mapping
from typing import Any

from warmfront.emulator.compose import Emulator
from warmfront.emulator.gateway.authorizers import has_keys, needs_enforcing
from warmfront.emulator.options import EmulatorOptions
from warmfront.emulator.template import JwtAuthorizer

ROUTES_NAMED_MAX = 2
WARNINGS_SHOWN_MAX = 8
API_KINDS = {"http": "HTTP API", "rest": "REST API", "url": "function URL"}


def describe_start(emulator: Emulator, options: EmulatorOptions) -> dict[str, Any]:
    """What runs, as plain data: the `--json` line of `warmfront serve`.

    Returns `urls`, `backing` (server name -> version, origin, port), `data` (folder or None), `functions` (name,
    runtime, memory_mb, timeout_s, not_runnable, routes), `apis` (name, kind, url, and `keys`: name -> API key),
    `sources`, `debug` (function -> port), `warnings`, `dashboard` and `token`.
    """
    urls = dict(zip((app.api.logical_id for app in emulator.apps), emulator.urls, strict=False))
    routes: dict[str, list[dict[str, str]]] = {}
    for app in emulator.apps:
        for route in app.routes:
            own = {"api": app.api.logical_id, "url": urls[app.api.logical_id], "key": route.key}
            routes.setdefault(route.function, []).append(own)
    functions = [
        {
            "name": logical_id,
            "runtime": config.runtime,
            "memory_mb": config.memory_mb,
            "timeout_s": config.timeout_s,
            "not_runnable": emulator.service.not_runnable.get(logical_id),
            "routes": routes.get(logical_id, []),
        }
        for logical_id, config in emulator.template.functions.items()
    ]
    return {
        "urls": emulator.urls,
        "backing": emulator.backing.describe(),
        "data": str(options.data) if options.data is not None else None,
        "functions": functions,
        "apis": [_api(app, url) for app, url in _served(emulator)],
        "sources": emulator.sources if options.event_sources else [],
        "debug": dict(emulator.service.options.debug),
        "warnings": [*_not_enforced(emulator, options), *emulator.warnings],
        "dashboard": f"{emulator.urls[0]}/_warmfront/#token={options.token}" if options.observe else None,
        "token": options.token,
    }


def start_table(about: Mapping[str, Any], *, verbose: bool = False) -> list[str]:
    """Return the table as lines. `verbose` lists every route, source and warning; otherwise they are grouped and counted."""
    lines = []
    for name, server in about["backing"].items():
        where = f"your server at {server['host']}:{server['port']}" if server["origin"] == "url" else None
        lines.append(_line(name, f"{server['version']} {where or f'({server["origin"]}) on port {server["port"]}'}"))
    if about["data"] is not None and about["backing"]:
        lines.append(_line("data", f"kept in {_short(about['data'])} (--reset begins anew, --ephemeral keeps none)"))
    for function in about["functions"]:
        lines += _function_lines(function, verbose=verbose)
    lines += [_line("api", f"{each['url']}  {each['name']} ({API_KINDS[each['kind']]})") for each in about["apis"]]
    for each in about["apis"]:
        lines += [
            _line("api key", f"{each['name']}: x-api-key: {value} ({name})") for name, value in each["keys"].items()
        ]
    lines += _shortened("source", about["sources"], verbose=verbose)
    for name, port in about["debug"].items():
        lines.append(_line("debug", f"{name} waits for a debugger on 127.0.0.1:{port} at its first request"))
    lines += _shortened("warning", about["warnings"], verbose=verbose)
    endpoint = about["urls"][0]
    lines.append(_line("invoke", f"aws lambda invoke --endpoint-url {endpoint} --function-name NAME out.json"))
    if about["dashboard"] is not None:
        lines.append(_line("dashboard", about["dashboard"]))
    return lines


def _line(label: str, text: str) -> str:
    return f"{label:<10} {text}"


def _short(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else f"{relative}/"


def _api(app: Any, url: str) -> dict[str, Any]:
    keys = {key.name: key.value for plan in app.api.usage_plans for key in plan.keys if key.enabled}
    needed = any(route.api_key_required for route in app.routes)
    return {"name": app.api.logical_id, "kind": app.api.kind, "url": url, "keys": keys if needed else {}}


def _served(emulator: Emulator) -> list[tuple[Any, str]]:
    return list(zip(emulator.apps, emulator.urls, strict=False))


def _without_keys(emulator: Emulator, options: EmulatorOptions) -> list[str]:
    """Authorizers that reject every token, because they have no keys to verify it."""
    if options.trust_tokens:
        return []
    found = []
    for app in emulator.apps:
        used = {route.authorizer for route in app.routes}
        for name, authorizer in app.api.authorizers.items():
            if name in used and isinstance(authorizer, JwtAuthorizer) and not has_keys(authorizer, options.jwks):
                found.append(
                    f"{app.api.logical_id}: {name} refuses every token: give the keys of its issuer with --jwks"
                )
    return found


def _not_enforced(emulator: Emulator, options: EmulatorOptions) -> list[str]:
    if options.enforce_auth:
        return _without_keys(emulator, options)
    found = []
    for app in emulator.apps:
        named = {route.authorizer for route in app.routes if route.authorizer}
        open_ = sorted(name for name in named if needs_enforcing(app.api.authorizers.get(name)))
        if open_:
            found.append(f"{app.api.logical_id}: {', '.join(open_)} not enforced; --enforce-auth does")
    return found


def _function_lines(function: Mapping[str, Any], *, verbose: bool) -> list[str]:
    name = function["name"]
    if function["not_runnable"]:
        return [_line("function", f"{name:<20} not runnable: {function['not_runnable']}")]
    size = f"{function['runtime']}, {function['memory_mb']} MB, {function['timeout_s']} s"
    keys = [route["key"] for route in function["routes"]]
    if not verbose:
        return [_line("function", f"{name:<20} {size:<28}  {_grouped(keys)}".rstrip())]
    urls = {route["url"] for route in function["routes"]}
    return [
        _line("function", f"{name:<20} {size}"),
        *(
            _line("  route", f"{route['url']} {route['key']}" if len(urls) > 1 else route["key"])
            for route in function["routes"]
        ),
    ]


def _grouped(keys: list[str]) -> str:
    """The routes of one function in short: listed if they are few, else their number and common path."""
    if len(keys) <= ROUTES_NAMED_MAX:
        return ", ".join(keys)
    paths = [key.rpartition(" ")[2] for key in keys]
    prefix = os.path.commonpath(paths) if all(path.startswith("/") for path in paths) else "/"
    return f"{len(keys)} routes under {prefix}" if prefix != "/" else f"{len(keys)} routes: {keys[0]}, …"


def _shortened(label: str, texts: list[str], *, verbose: bool) -> list[str]:
    shown = texts if verbose or len(texts) <= WARNINGS_SHOWN_MAX else texts[: WARNINGS_SHOWN_MAX - 1]
    lines = [_line(label, text) for text in shown]
    if len(shown) < len(texts):
        lines.append(_line(label, f"{len(texts) - len(shown)} more; -v lists them all"))
    return lines
