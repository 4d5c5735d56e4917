"""Generate the table of the shop's settings in docs/settings.md from shared/shop/settings.py.

`python -m tools.settings` prints the table; `python -m tools.settings --write` puts it into the page.
"""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from shared.shop.settings import VARIABLES, Variable
from tools.blocks import replace_block

PAGE: Final = Path(__file__).parents[1] / "docs" / "settings.md"
BLOCK: Final = "settings"
UNITS: Final = {"_MS": "ms", "_S": "s"}
COUNTS: Final = {
    "SHOP_POOL_MAX": "connections",
    "SHOP_CONNECTION_BUDGET": "connections",
    "SHOP_BREAKER_CALLS_MIN": "calls",
    "SHOP_RATE_LIMIT": "requests",
}
# Section -> setting -> what it does. A setting of the code that is missing here, or one here that the code does not
# have, raises in `render`.
SECTIONS: Final[dict[str, dict[str, str]]] = {
    "Database login": {
        "SHOP_DB_LOGIN": "Where user and password come from: `DATABASE_URL`, a secret in Secrets Manager, or an IAM token.",
        "SHOP_DB_SECRET": "The secret with `username` and `password`. Required for, and only allowed with, `SHOP_DB_LOGIN=secret`.",
        "SHOP_DB_LOOK_UP_TIMEOUT_MS": "Longest time for fetching a secret or signing a token. Added to the connect timeout.",
        "SHOP_DB_ROLE": "The restricted role that `Migrate` makes for the other functions to log in as.",
        "SHOP_DB_ROLE_SECRET": "The secret with that role's `username` and `password`. Without one, IAM lets the role in.",
        "SHOP_DB_SSL": "TLS to Postgres. Never negotiated. `SHOP_DB_LOGIN=iam` and `SHOP_STAGE=prod` do not accept `disable`.",
        "SHOP_DB_CA_FILE": "Certificate authorities for `verify-full`. None: those that the system trusts.",
        "SHOP_DB_MODE": "`proxy` behind RDS Proxy or PgBouncer: transactions share connections, so no session state is used.",
    },
    "Connection pool": {
        "SHOP_POOL_MAX": "Connections per execution environment: as many as one handler uses at the same time.",
        "SHOP_CONNECTION_BUDGET": "Connections of all environments together, for metric and alarm. 0: unknown, no metric.",
        "SHOP_ACQUIRE_TIMEOUT_MS": "Longest wait for a connection from the pool.",
        "SHOP_CONNECT_TIMEOUT_MS": "Longest time for opening a connection.",
        "SHOP_STATEMENT_TIMEOUT_MS": "Longest time for a statement, enforced by Postgres. The client gives up a little later.",
        "SHOP_CONNECTION_IDLE_MAX_S": "A connection idle for longer is replaced. AWS drops idle flows after 350 s, silently.",
    },
    "Circuit breaker": {
        "SHOP_BREAKER_MODE": "`observe` counts but rejects nothing; `forced_open` rejects everything; `disabled` does nothing.",
        "SHOP_BREAKER_WINDOW_S": "Period over which failures and slow calls are counted.",
        "SHOP_BREAKER_CALLS_MIN": "Calls in the window before the breaker may open.",
        "SHOP_BREAKER_SLOW_MS": "A call that takes longer counts as slow. At most `SHOP_STATEMENT_TIMEOUT_MS`.",
        "SHOP_BREAKER_OPEN_MS": "First time in the open state. It doubles after each failed probe.",
        "SHOP_BREAKER_OPEN_MAX_MS": "Longest time in the open state.",
    },
    "Redis and cache": {
        "SHOP_REDIS_MODE": "`cluster` for ElastiCache Serverless and for replication groups in cluster mode.",
        "SHOP_REDIS_CONNECT_TIMEOUT_MS": "Longest time for connecting to Redis.",
        "SHOP_REDIS_TIMEOUT_MS": "Longest wait for a reply. After it, the request continues without the cache.",
        "SHOP_CACHE_TTL_S": "How long an entry is fresh.",
    },
    "API": {
        "SHOP_STAGE": "Where this runs. In `prod`, `Migrate` refuses to seed or reset data.",
        "SHOP_DEADLINE_RESERVE_MS": "Part of the function's timeout kept for writing the response.",
        "SHOP_RATE_LIMIT": "Requests of one client per window. 0: no limit.",
        "SHOP_RATE_WINDOW_S": "Length of that window.",
        "SHOP_SERVER_TIMING": "`on`: responses say where the time went, in a `Server-Timing` header.",
        "SHOP_CURSOR_KEY": "Signs page cursors. A new key invalidates every cursor in use.",
    },
    "Events": {
        "SHOP_EVENTS_QUEUE_URL": "The SQS queue that `Relay` sends order events to.",
        "SHOP_NUDGE_QUEUE_URL": "The SQS queue through which each order wakes `Relay`. None: `Relay` runs by its schedule alone.",
    },
}
_RANGE: Final = re.compile(r"a whole number from (\d+) to (\d+)")
_CHOICES: Final = re.compile(r"one of (.+)")


def render() -> str:
    """Return one Markdown table per section.

    Raises:
        ValueError: a setting has no description, or a description has no setting.
    """
    described = [name for settings in SECTIONS.values() for name in settings]
    if difference := sorted(set(VARIABLES) ^ set(described)):
        raise ValueError(f"tools/settings.py and shared/shop/settings.py differ in {', '.join(difference)}")
    lines: list[str] = []
    for section, settings in SECTIONS.items():
        lines += [
            "",
            f"### {section}",
            "",
            _row("setting", "what it does", "default", "accepts", "unit"),
            _row(*["---"] * 5),
        ]
        lines += [
            _row(f"`{name}`", about, _default(VARIABLES[name]), accepted(VARIABLES[name].accepts), unit(name))
            for name, about in settings.items()
        ]
    return "\n".join([*lines, ""])


def unit(name: str) -> str:
    """The unit that a setting's name ends with, or what it counts; empty for text."""
    suffix = next((suffix for suffix in UNITS if name.endswith(suffix)), None)
    return UNITS[suffix] if suffix else COUNTS.get(name, "")


def accepted(text: str) -> str:
    """A setting's range, shorter: `1 to 20`, or its choices as code."""
    if found := _RANGE.fullmatch(text):
        return f"{int(found[1]):,} to {int(found[2]):,}"
    if found := _CHOICES.fullmatch(text):
        return ", ".join(f"`{choice}`" for choice in found[1].split(", "))
    return text


def _default(variable: Variable) -> str:
    if variable.default is None:
        return "must be set"
    return (
        f"{int(variable.default):,}"
        if variable.default.isdecimal()
        else f"`{variable.default}`"
        if variable.default
        else "none"
    )


def _row(*cells: str) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in _escaped(cells))


def _escaped(cells: Iterable[str]) -> Iterable[str]:
    return (cell.replace("|", "\\|") for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.settings", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/settings.md")
    table = render()
    if parser.parse_args().write:
        PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), BLOCK, table), encoding="utf-8")
    else:
        print(table)


if __name__ == "__main__":
    main()
