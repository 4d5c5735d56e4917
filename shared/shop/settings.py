"""Reads the shop's environment variables into the settings objects of the kit, once, while the environment starts.

A name that begins with SHOP_ and is not below, or a value outside its range, refuses to start: a mistyped limit would
otherwise be found in the outage that it was meant for. A limit without a reason to change it is no variable, but a default of the kit.
"""

import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from shared.kit import telemetry, tls
from shared.kit.breaker import BreakerSettings
from shared.kit.circuit import Mode
from shared.kit.redis_settings import RedisSettings
from shared.kit.settings import BadSetting, CacheSettings, LimiterSettings, PostgresSettings

PREFIX = "SHOP_"
CURSOR_KEY_BYTES_MIN = 16


class Settings(Struct, frozen=True, kw_only=True):
    stage: Literal["local", "dev", "prod"]
    stack: str  # the namespace of its metrics, and of everything that it keeps in Redis
    database: str
    postgres: PostgresSettings
    redis: RedisSettings | None
    cache: CacheSettings
    limiter: LimiterSettings | None  # None: no limit
    db_role: str | None  # the restricted role that migrate makes, for the other functions to log in as
    db_role_secret: str | None  # in Secrets Manager: its login; None: IAM lets it in
    server_timing: bool  # whether a response says where its time went
    deadline_reserve_ms: int  # kept for the answer
    cursor_key: bytes
    events_queue_url: str | None  # where the relay sends events
    nudge_queue_url: str | None  # where orders wake the relay; None: it runs by schedule alone

    def __repr__(self) -> str:
        """Without the URLs and the key: settings end up in logs."""
        return f"Settings(stage={self.stage!r}, ...)"

    @property
    def local_identity(self) -> str | None:
        """Who asks where no authorizer runs; None where requests without a token are refused."""
        return "local" if self.stage == "local" else None

    def namespace_of(self, database: str) -> str:
        """The prefix of the keys in Redis that belong to one database: those of another stack or database are others."""
        return f"{self.stack}/{database}"

    def required_redis(self) -> RedisSettings:
        """Raises BadSetting if no Redis is set."""
        if self.redis is None:
            raise BadSetting("REDIS_URL is not set; it must be redis://USER:PASSWORD@HOST:PORT/NUMBER.")
        return self.redis


type Parse = Callable[[str], Any]


class Variable(Struct, frozen=True):
    """What one variable may be, how it is read, and its default (None: it must be set)."""

    accepts: str
    parse: Parse
    default: str | None


def _whole(default: int, low: int, high: int) -> Variable:
    def parse(text: str) -> int:
        if not low <= (value := int(text)) <= high:
            raise ValueError(text)
        return value

    return Variable(f"a whole number from {low} to {high}", parse, str(default))


def _one_of(default: str, *others: str) -> Variable:
    choices = (default, *others)

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return Variable("one of " + ", ".join(choices), parse, default)


def _queue_url(text: str) -> str | None:
    if text and urlsplit(text).scheme not in ("http", "https"):
        raise ValueError(text)
    return text or None


def _role(text: str) -> str | None:
    if text and not re.fullmatch("[a-z_][a-z0-9_]{0,62}", text):
        raise ValueError(text)
    return text or None


def _cursor_key(text: str) -> bytes:
    if len(key := text.encode()) < CURSOR_KEY_BYTES_MIN:
        raise ValueError("too short")
    return key


VARIABLES: dict[str, Variable] = {
    "SHOP_STAGE": _one_of("local", "dev", "prod"),
    # Postgres
    "SHOP_DB_LOGIN": _one_of("url", "secret", "iam"),
    "SHOP_DB_SECRET": Variable("the name or ARN of a secret, or nothing", lambda text: text or None, ""),
    "SHOP_DB_LOOK_UP_TIMEOUT_MS": _whole(2_000, 100, 10_000),
    "SHOP_DB_MODE": _one_of("direct", "proxy"),
    "SHOP_DB_ROLE": Variable("the name of a role, or nothing", _role, ""),
    "SHOP_DB_ROLE_SECRET": Variable("the name or ARN of a secret, or nothing", lambda text: text or None, ""),
    "SHOP_DB_SSL": _one_of("verify-full", "require", "disable"),
    "SHOP_DB_CA_FILE": Variable("the path of a PEM file, or nothing", lambda text: text or None, ""),
    "SHOP_POOL_MAX": _whole(1, 1, 20),
    "SHOP_CONNECTION_BUDGET": _whole(0, 0, 100_000),
    "SHOP_ACQUIRE_TIMEOUT_MS": _whole(500, 1, 30_000),
    "SHOP_CONNECT_TIMEOUT_MS": _whole(2_000, 10, 30_000),
    "SHOP_STATEMENT_TIMEOUT_MS": _whole(1_500, 10, 60_000),
    "SHOP_CONNECTION_IDLE_MAX_S": _whole(300, 1, 86_400),
    # The breaker around it
    "SHOP_BREAKER_MODE": _one_of("enforce", "observe", "forced_open", "disabled"),
    "SHOP_BREAKER_SLOW_MS": _whole(1_000, 1, 60_000),
    "SHOP_BREAKER_WINDOW_S": _whole(10, 1, 600),
    "SHOP_BREAKER_CALLS_MIN": _whole(5, 3, 1_000),
    "SHOP_BREAKER_OPEN_MS": _whole(1_000, 10, 600_000),
    "SHOP_BREAKER_OPEN_MAX_MS": _whole(30_000, 10, 600_000),
    # Redis and the cache in it
    "SHOP_REDIS_MODE": _one_of("single", "cluster"),
    "SHOP_REDIS_CONNECT_TIMEOUT_MS": _whole(100, 1, 5_000),
    "SHOP_REDIS_TIMEOUT_MS": _whole(50, 1, 5_000),
    "SHOP_CACHE_TTL_S": _whole(60, 1, 86_400),
    # The API
    "SHOP_RATE_LIMIT": _whole(0, 0, 1_000_000),
    "SHOP_RATE_WINDOW_S": _whole(60, 1, 86_400),
    "SHOP_SERVER_TIMING": _one_of("on", "off"),
    "SHOP_DEADLINE_RESERVE_MS": _whole(200, 0, 5_000),
    "SHOP_CURSOR_KEY": Variable(f"at least {CURSOR_KEY_BYTES_MIN} bytes of secret", _cursor_key, None),
    "SHOP_EVENTS_QUEUE_URL": Variable("the URL of an SQS queue, or nothing", _queue_url, ""),
    "SHOP_NUDGE_QUEUE_URL": Variable("the URL of an SQS queue, or nothing", _queue_url, ""),
}

SECRET = frozenset({"SHOP_CURSOR_KEY"})


def read(environ: Mapping[str, str]) -> Settings:
    """The settings of these variables. Raises BadSetting."""
    for name in environ:
        if name.startswith(PREFIX) and name not in VARIABLES:
            raise BadSetting(f"{name} is no setting of the shop.{_nearest(name)}")
    values = {name.removeprefix(PREFIX): _value(environ, name, variable) for name, variable in VARIABLES.items()}
    url = _url(environ, "DATABASE_URL", ("postgresql", "postgres"))
    redis_url = _url(environ, "REDIS_URL", ("redis", "rediss")) if environ.get("REDIS_URL") else None
    _check_together(values, redis_url)
    return Settings(
        stage=values["STAGE"],
        stack=environ.get("POWERTOOLS_METRICS_NAMESPACE") or telemetry.NAMESPACE,
        database=urlsplit(url).path.strip("/"),
        postgres=_postgres(url, values),
        redis=None if redis_url is None else _redis(redis_url, values),
        cache=CacheSettings(ttl_s=values["CACHE_TTL_S"]),
        limiter=LimiterSettings(requests=values["RATE_LIMIT"], window_s=values["RATE_WINDOW_S"])
        if values["RATE_LIMIT"]
        else None,
        db_role=values["DB_ROLE"],
        db_role_secret=values["DB_ROLE_SECRET"],
        server_timing=values["SERVER_TIMING"] == "on",
        deadline_reserve_ms=values["DEADLINE_RESERVE_MS"],
        cursor_key=values["CURSOR_KEY"],
        events_queue_url=values["EVENTS_QUEUE_URL"],
        nudge_queue_url=values["NUDGE_QUEUE_URL"],
    )


@cache
def current() -> Settings:
    """This environment's settings, read once. Tests that change the environment call current.cache_clear()."""
    settings = read(os.environ)
    if settings.postgres.login != "url":
        import shared.kit.secrets  # noqa: F401 - an HTTP client's import is for init, not for the first request
    return settings


def _postgres(url: str, values: Mapping[str, Any]) -> PostgresSettings:
    statement_s, slow_s = values["STATEMENT_TIMEOUT_MS"] / 1000, values["BREAKER_SLOW_MS"] / 1000
    return PostgresSettings(
        url=url,
        login=values["DB_LOGIN"],
        secret=values["DB_SECRET"],
        look_up_timeout_s=values["DB_LOOK_UP_TIMEOUT_MS"] / 1000,
        proxy=values["DB_MODE"] == "proxy",
        tls=tls.context(values["DB_SSL"], values["DB_CA_FILE"]),
        pool_max=values["POOL_MAX"],
        connection_budget=values["CONNECTION_BUDGET"],
        acquire_timeout_s=values["ACQUIRE_TIMEOUT_MS"] / 1000,
        connect_timeout_s=values["CONNECT_TIMEOUT_MS"] / 1000,
        statement_timeout_s=statement_s,
        # Below both: a wait for a locked row is neither a slow server nor a slow call.
        lock_timeout_s=min(statement_s, slow_s) / 2,
        idle_max_s=values["CONNECTION_IDLE_MAX_S"],
        breaker=BreakerSettings(
            slow_s=slow_s,
            call_timeout_s=statement_s,
            window_s=values["BREAKER_WINDOW_S"],
            calls_min=values["BREAKER_CALLS_MIN"],
            open_base_s=values["BREAKER_OPEN_MS"] / 1000,
            open_max_s=values["BREAKER_OPEN_MAX_MS"] / 1000,
            mode=Mode(values["BREAKER_MODE"]),
        ),
    )


def _redis(url: str, values: Mapping[str, Any]) -> RedisSettings:
    return RedisSettings(
        url=url,
        cluster=values["REDIS_MODE"] == "cluster",
        connect_timeout_s=values["REDIS_CONNECT_TIMEOUT_MS"] / 1000,
        timeout_s=values["REDIS_TIMEOUT_MS"] / 1000,
        idle_max_s=values["CONNECTION_IDLE_MAX_S"],
    )


def _value(environ: Mapping[str, str], name: str, variable: Variable) -> Any:
    text = environ.get(name, variable.default)
    if text is None:
        raise BadSetting(f"{name} is not set; it must be {variable.accepts}.")
    try:
        return variable.parse(text)
    except ValueError:
        shown = "its value" if name in SECRET else repr(text)
        raise BadSetting(f"{name}: {shown} is not accepted; it must be {variable.accepts}.") from None


def _url(environ: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str:
    """Never shown, because it contains a password."""
    url = environ.get(name, "")
    accepts = f"{schemes[0]}://USER:PASSWORD@HOST:PORT/NAME"
    try:
        parts = urlsplit(url)
        whole = parts.scheme in schemes and parts.hostname and (parts.port or True)
    except ValueError:
        whole = False
    if not whole or (name == "DATABASE_URL" and not parts.path.strip("/")):
        raise BadSetting(f"{name} is {'not accepted' if url else 'not set'}; it must be {accepts}.")
    return url


def _check_together(values: Mapping[str, Any], redis_url: str | None) -> None:
    for low, high in (("BREAKER_OPEN_MS", "BREAKER_OPEN_MAX_MS"), ("BREAKER_SLOW_MS", "STATEMENT_TIMEOUT_MS")):
        if values[low] > values[high]:
            raise BadSetting(
                f"{PREFIX}{low}={values[low]} is more than {PREFIX}{high}={values[high]}; it must be at most that."
            )
    if values["STAGE"] == "prod" and values["DB_SSL"] == "disable":
        raise BadSetting("SHOP_STAGE=prod needs SHOP_DB_SSL=verify-full or require: passwords and rows stay encrypted.")
    if values["STAGE"] == "prod" and redis_url is not None and urlsplit(redis_url).scheme != "rediss":
        raise BadSetting(
            "SHOP_STAGE=prod needs a REDIS_URL that begins with rediss://: its password and rows stay encrypted."
        )
    if (values["DB_LOGIN"] == "secret") != (values["DB_SECRET"] is not None):
        raise BadSetting("SHOP_DB_LOGIN=secret and SHOP_DB_SECRET go together: one of them is set without the other.")
    if values["DB_ROLE_SECRET"] is not None and values["DB_ROLE"] is None:
        raise BadSetting("SHOP_DB_ROLE_SECRET is the login of SHOP_DB_ROLE, which is not set.")
    if values["DB_LOGIN"] == "iam" and values["DB_SSL"] == "disable":
        raise BadSetting(
            "SHOP_DB_LOGIN=iam needs SHOP_DB_SSL=require or verify-full: a token is as good as a password."
        )


def _nearest(name: str) -> str:
    from difflib import get_close_matches  # only ever needed to refuse

    near = get_close_matches(name, VARIABLES, n=1)
    return f" Did you mean {near[0]}?" if near else f" Settings are: {', '.join(sorted(VARIABLES))}."
