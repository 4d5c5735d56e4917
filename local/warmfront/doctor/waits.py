"""Reads timeouts, pool sizes, TLS modes and secrets from a function's environment variables, by the words of their names.

Templates call the same thing SHOP_POOL_MAX, DB_POOL_SIZE or MAX_POOL_SIZE. The last word of a name gives the unit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from warmfront.emulator.template import FunctionConfig

_UNITS: Final = {
    "MS": 0.001,
    "MILLIS": 0.001,
    "MILLISECONDS": 0.001,
    "S": 1.0,
    "SEC": 1.0,
    "SECS": 1.0,
    "SECONDS": 1.0,
    "MINUTES": 60.0,
}
UNITLESS_MS_FROM: Final = 100.0  # of a timeout without a unit: 30 means seconds, 500 means milliseconds
REDIS_WORDS: Final = {"REDIS", "CACHE", "VALKEY", "ELASTICACHE"}
SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_DATABASE_WORDS: Final = {"DB", "DATABASE", "POSTGRES", "PG"}
_CONNECTING: Final = {"CONNECT", "CONNECTION"}
_POOL_MOST: Final = ({"POOL", "MAX"}, {"POOL", "SIZE"}, {"MAX", "POOLSIZE"})
_CREDENTIAL: Final = re.compile(r"(^|_)(PASSWORD|PASSWD|SECRET|TOKEN|API_KEY|APIKEY)$")


@dataclass(frozen=True, slots=True)
class Setting:
    """A recognised variable and its value: a count, or seconds."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Tls:
    """The variable that says how a database connection is encrypted, and one of libpq's modes."""

    name: str
    mode: str


@dataclass(frozen=True, slots=True)
class Waits:
    """The recognised settings of a function; None: the template does not set it."""

    pool_max: Setting | None
    pool_min: Setting | None
    acquire: Setting | None
    connect: Setting | None
    statement: Setting | None
    call: Setting | None  # the timeout of an HTTP or AWS client
    redis: Setting | None
    redis_connect: Setting | None
    attempts: Setting | None  # including the first one
    reserve: Setting | None  # part of the Timeout that is kept for the response
    idle: Setting | None
    breaker_slow: Setting | None
    budget: Setting | None

    def timeouts(self) -> list[Setting]:
        known = (self.acquire, self.connect, self.statement, self.call, self.redis, self.redis_connect)
        return [setting for setting in known if setting is not None]


def read_waits(function: FunctionConfig) -> Waits:
    found = _Variables(function.environment)
    return Waits(
        pool_max=found.count(*_POOL_MOST, without={"MIN", "QUEUE"}),
        pool_min=found.count({"POOL", "MIN"}),
        acquire=found.seconds({"ACQUIRE", "TIMEOUT"}, {"POOL", "TIMEOUT"}, {"CHECKOUT", "TIMEOUT"}, {"BORROW", "TIMEOUT"}),
        connect=found.seconds({"CONNECT", "TIMEOUT"}, {"CONNECTION", "TIMEOUT"}, {"PGCONNECT", "TIMEOUT"}, without=REDIS_WORDS | {"IDLE"})
        or _url_seconds(function, "connect_timeout"),
        statement=found.seconds({"STATEMENT", "TIMEOUT"}, {"QUERY", "TIMEOUT"}, {"COMMAND", "TIMEOUT"}, without=REDIS_WORDS)
        or _statement_option(function),
        call=found.seconds({"HTTP", "TIMEOUT"}, {"READ", "TIMEOUT"}, {"CLIENT", "TIMEOUT"}, {"REQUEST", "TIMEOUT"}, without=REDIS_WORDS),
        # A client has two timeouts. The one for connecting must not hide the one for a response, whatever their order.
        redis=found.seconds(*({word, "TIMEOUT"} for word in sorted(REDIS_WORDS)), without=_CONNECTING)
        or _url_seconds(function, "socket_timeout"),
        redis_connect=found.seconds(*({word, each, "TIMEOUT"} for word in sorted(REDIS_WORDS) for each in sorted(_CONNECTING)))
        or _url_seconds(function, "socket_connect_timeout"),
        attempts=found.count({"MAX", "ATTEMPTS"}) or _plus_one(found.count({"RETRIES"}, {"MAX", "RETRY"}, {"RETRY", "COUNT"})),
        reserve=found.seconds({"DEADLINE", "RESERVE"}),
        idle=found.seconds({"IDLE", "MAX"}, {"IDLE", "LIFETIME"}, {"MAX", "INACTIVE"}, without={"TRANSACTION"}),
        breaker_slow=found.seconds({"BREAKER", "SLOW"}, without={"PERCENT", "RATE"}),
        budget=found.count({"CONNECTION", "BUDGET"}),
    )  # fmt: skip


def _plus_one(retries: Setting | None) -> Setting | None:
    return Setting(retries.name, retries.value + 1) if retries else None


class _Variables:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._words = {name: name.upper().split("_") for name in environment}
        self._values = environment

    def count(self, *patterns: set[str], without: set[str] | frozenset[str] = frozenset()) -> Setting | None:
        return self._first(patterns, without, 1.0)

    def seconds(self, *patterns: set[str], without: set[str] | frozenset[str] = frozenset()) -> Setting | None:
        return self._first(patterns, without, None)

    def _first(
        self, patterns: tuple[set[str], ...], without: set[str] | frozenset[str], unit: float | None
    ) -> Setting | None:
        for pattern in patterns:
            for name, words in self._words.items():
                if (
                    pattern <= set(words)
                    and not without & set(words)
                    and (value := _number(self._values[name])) is not None
                ):
                    factor = unit if unit is not None else _UNITS.get(words[-1]) or _guessed_unit(name, value)
                    return Setting(name, value * factor)
        return None


def _guessed_unit(name: str, value: float) -> float:
    if name.upper() == "PGCONNECT_TIMEOUT":
        return 1.0
    return 0.001 if value >= UNITLESS_MS_FROM else 1.0


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value >= 0 else None


def _statement_option(function: FunctionConfig) -> Setting | None:
    """`-c statement_timeout=5000` in PGOPTIONS or in the options of the database's URL; libpq reads plain numbers as ms."""
    url = function.environment.get("DATABASE_URL", "")
    texts = {
        "PGOPTIONS": function.environment.get("PGOPTIONS", ""),
        "DATABASE_URL": " ".join(_query(url).get("options", [])),
    }
    for name, text in texts.items():
        if match := re.search(r"statement_timeout\s*=\s*(\d+)\s*(ms|s|min)?", text):
            factor = {"s": 1.0, "min": 60.0}.get(match[2] or "", 0.001)
            return Setting(f"statement_timeout in {name}", float(match[1]) * factor)
    return None


def _url_seconds(function: FunctionConfig, key: str) -> Setting | None:
    for name in ("DATABASE_URL", "REDIS_URL"):
        for text in _query(function.environment.get(name, "")).get(key, []):
            if (value := _number(text)) is not None:
                return Setting(f"{key} in {name}", value)
    return None


def _query(url: str) -> dict[str, list[str]]:
    return parse_qs(_split(url).query)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def database(function: FunctionConfig) -> str | None:
    """Return host:port of the function's database; functions with the same server share its connections."""
    parts = _split(function.environment.get("DATABASE_URL", ""))
    return parts.netloc.rpartition("@")[2] or None if parts.scheme.startswith("postgres") else None


def database_tls(function: FunctionConfig) -> Tls | None:
    """How the connection to a database elsewhere is encrypted, by its URL or a variable such as PGSSLMODE; None: not said."""
    url = function.environment.get("DATABASE_URL", "")
    if _is_here(url):
        return None
    said = {"sslmode in DATABASE_URL": _query(url).get("sslmode", [""])[0]}
    said |= {name: value for name, value in function.environment.items() if _names_database_tls(name)}
    return next((Tls(name, value) for name, value in said.items() if value in SSL_MODES), None)


def _names_database_tls(name: str) -> bool:
    words = set(name.upper().split("_"))
    return name.upper() == "PGSSLMODE" or bool(words & _DATABASE_WORDS and words & {"SSL", "SSLMODE", "TLS"})


def unencrypted_redis(function: FunctionConfig) -> bool:
    url = function.environment.get("REDIS_URL", "")
    return url.startswith("redis://") and not _is_here(url)


def behind_proxy(function: FunctionConfig) -> bool:
    """Whether RDS Proxy is between: by its host name (NAME.proxy-ID.REGION.rds.amazonaws.com) or a variable DB_MODE=proxy."""
    host = _host(function.environment.get("DATABASE_URL", "")) or ""
    return ".proxy-" in host or any(
        value.lower() == "proxy" and {"DB", "MODE"} <= set(name.upper().split("_"))
        for name, value in function.environment.items()
    )


def in_production(function: FunctionConfig) -> bool:
    """By a variable such as STAGE, APP_ENV or ENVIRONMENT."""
    return any(
        value.lower() in ("prod", "production") and set(name.upper().split("_")) & {"STAGE", "ENV", "ENVIRONMENT"}
        for name, value in function.environment.items()
    )


def _is_here(url: str) -> bool:
    return (_host(url) or "localhost") in ("localhost", "127.0.0.1", "::1")


def _host(url: str) -> str | None:
    try:
        return _split(url).hostname
    except ValueError:
        return None


def credentials(function: FunctionConfig) -> list[str]:
    """Return the names of variables that contain a secret in plain text."""
    found = []
    for name, value in function.environment.items():
        reference = not value or value.startswith(("arn:", "{{resolve:", "/"))
        if not reference and (_CREDENTIAL.search(name.upper()) or _password_in(value)):
            found.append(name)
    return found


def _password_in(value: str) -> bool:
    parts = _split(value) if "://" in value else None
    try:
        return bool(parts and parts.password and not parts.password.startswith("{{resolve:"))
    except ValueError:
        return False
