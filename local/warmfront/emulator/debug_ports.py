"""Ports on which debugged functions wait for a debugger."""

from collections.abc import Sequence

from warmfront.emulator.options import StartError
from warmfront.emulator.template import Template


def debug_ports(wanted: Sequence[str], template: Template) -> dict[str, int]:
    """Logical id -> port, counted up from 5678, the port that editors offer for Python."""
    ports: dict[str, int] = {}
    for index, text in enumerate(wanted):
        name, _, port = text.partition("=")
        config = template.function_named(name)
        if config is None:
            raise StartError(f"--debug {name}: no such function; the template has {', '.join(template.functions)}")
        if port and not port.isdigit():
            raise StartError(f"--debug {text}: {port!r} is no port; write {name}=5678")
        ports[config.logical_id] = int(port) if port else 5678 + index
    return ports
