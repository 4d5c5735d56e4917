"""What `warmfront serve` prints when it is ready: backing services, functions, routes, warnings."""

from warmfront.emulator.compose import Emulator
from warmfront.emulator.options import EmulatorOptions


def start_table(emulator: Emulator, options: EmulatorOptions) -> list[str]:
    """What runs: backing services, functions, routes by API, warnings."""
    lines = []
    for name, about in emulator.backing.describe().items():
        assert isinstance(about, dict)
        lines.append(f"{name:<10} {about['version']} ({about['origin']}) on port {about['port']}")
    for logical_id, config in emulator.template.functions.items():
        reason = emulator.service.not_runnable.get(logical_id)
        about_it = (
            f"not runnable: {reason}" if reason else f"{config.runtime}, {config.memory_mb} MB, {config.timeout_s} s"
        )
        lines.append(f"function   {logical_id:<20} {about_it}")
    for app, url in zip(emulator.apps, emulator.urls, strict=False):
        lines += [f"route      {url} {route.key} -> {route.function}" for route in app.routes]
        authorizers = sorted({route.authorizer for route in app.routes if route.authorizer})
        if authorizers and not options.enforce_auth:
            lines.append(f"warning    {app.api.logical_id}: {', '.join(authorizers)} not enforced; --enforce-auth does")
    if options.event_sources:
        lines += [f"source     {about}" for about in emulator.sources]
    for logical_id, port in emulator.service.options.debug.items():
        lines.append(f"debug      {logical_id} waits for a debugger on 127.0.0.1:{port} at its first request")
    lines += [f"warning    {warning}" for warning in emulator.warnings]
    lines.append(f"invoke     aws lambda invoke --endpoint-url {emulator.urls[0]} --function-name NAME out.json")
    if options.observe:
        lines.append(f"dashboard  {emulator.urls[0]}/_warmfront/#token={options.token}")
    lines.append(f"control    {emulator.urls[0]}/_warmfront/state (token for writes: {options.token})")
    return lines
