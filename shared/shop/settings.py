"""Every limit and timeout of the shop, from the environment into one frozen object. Opens nothing, reads no file.

A name that begins with SHOP_ and is not below, or a value outside its range, refuses to start: a limit that was
mistyped is otherwise found out in the outage that it was meant for.
"""

import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from msgspec import Struct

if TYPE_CHECKING:
    from shared.kit.redis_settings import RedisSettings

PREFIX = "SHOP_"
CURSOR_KEY_BYTES_MIN = 16


class BadSetting(Exception):
    """Names the variable, what it holds and what it may hold."""


class Settings(Struct, frozen=True, kw_only=True):
    database_url: str
    redis_url: str | None
    stage: Literal["local", "dev", "prod"]
    # The database
    db_login: Literal["url", "secret", "iam"]  # where user and password come from
    db_secret: str | None  # in Secrets Manager: JSON with username and password
    db_look_up_timeout_ms: int  # of a login that is not in the address; on top of connecting
    db_mode: Literal["direct", "proxy"]  # proxy: connections are shared by transaction, nothing of a session may stay
    db_role: str | None  # the restricted role that migrate makes, for the other functions to log in as
    db_role_secret: str | None  # in Secrets Manager: its login, as in db_secret; None: IAM lets it in
    db_ssl: Literal["disable", "require", "verify-full"]
    db_ca_file: str | None
    pool_max: int  # connections per environment: as many as one handler uses at a time
    pool_queue_max: int  # waiting for one of them; the next is turned away at once
    connection_budget: int  # of all environments together; 0: not stated, and not emitted
    acquire_timeout_ms: int
    connect_timeout_ms: int
    statement_timeout_ms: int  # the server's; the caller gives up a margin later
    idle_in_transaction_timeout_ms: int
    connection_idle_max_s: int  # below the 350 s after which AWS drops an idle flow without a word
    # The breaker around it
    breaker_mode: Literal["enforce", "observe", "forced_open", "disabled"]
    breaker_slow_ms: int
    breaker_window_s: int
    breaker_calls_min: int
    breaker_failure_percent: int
    breaker_slow_percent: int
    breaker_open_ms: int
    breaker_open_max_ms: int
    # Redis and the cache in it
    redis_mode: Literal["single", "cluster"]  # cluster: ElastiCache Serverless, or replication groups in cluster mode
    redis_connect_timeout_ms: int
    redis_timeout_ms: int
    cache_ttl_s: int
    cache_stale_s: int  # after the TTL: for how long it still stands in for a database that fails
    cache_negative_ttl_s: int
    cache_lease_ms: int  # for how long one environment may load before another tries as well
    cache_wait_ms: int  # for another's load; then everybody loads
    # The API
    rate_limit: int  # requests of one client in a window; 0: no limit
    rate_window_s: int
    server_timing: Literal["on", "off"]  # whether a response says where its time went
    deadline_reserve_ms: int
    page_limit_default: int
    page_limit_max: int
    body_max_bytes: int
    cursor_key: bytes
    idempotency_ttl_h: int
    outbox_keep_h: int  # published events; expired keys go at once
    purge_batch: int  # rows of one deletion: few, because it locks them
    events_queue_url: str | None  # where the relay sends what happened

    def __repr__(self) -> str:
        """Without the URLs and the key: settings end up in logs."""
        return f"Settings(stage={self.stage!r}, pool_max={self.pool_max}, ...)"


type Parse = Callable[[str], Any]


class Knob(Struct, frozen=True):
    """One variable: what it is without being set (None: it must be set), what it may be, and how to read it."""

    accepts: str
    parse: Parse
    default: str | None


def _whole(default: int, low: int, high: int) -> Knob:
    def parse(text: str) -> int:
        if not low <= (value := int(text)) <= high:
            raise ValueError(text)
        return value

    return Knob(f"a whole number from {low} to {high}", parse, str(default))


def _one_of(default: str, *others: str) -> Knob:
    choices = (default, *others)

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return Knob("one of " + ", ".join(choices), parse, default)


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


KNOBS: dict[str, Knob] = {
    "SHOP_STAGE": _one_of("local", "dev", "prod"),
    "SHOP_DB_LOGIN": _one_of("url", "secret", "iam"),
    "SHOP_DB_SECRET": Knob("the name or ARN of a secret, or nothing", lambda text: text or None, ""),
    "SHOP_DB_LOOK_UP_TIMEOUT_MS": _whole(2_000, 100, 10_000),
    "SHOP_DB_MODE": _one_of("direct", "proxy"),
    "SHOP_DB_ROLE": Knob("the name of a role, or nothing", _role, ""),
    "SHOP_DB_ROLE_SECRET": Knob("the name or ARN of a secret, or nothing", lambda text: text or None, ""),
    "SHOP_DB_SSL": _one_of("disable", "require", "verify-full"),
    "SHOP_DB_CA_FILE": Knob("the path of a PEM file, or nothing", lambda text: text or None, ""),
    "SHOP_POOL_MAX": _whole(1, 1, 20),
    "SHOP_POOL_QUEUE_MAX": _whole(16, 0, 1000),
    "SHOP_CONNECTION_BUDGET": _whole(0, 0, 100_000),
    "SHOP_ACQUIRE_TIMEOUT_MS": _whole(500, 1, 30_000),
    "SHOP_CONNECT_TIMEOUT_MS": _whole(2_000, 10, 30_000),
    "SHOP_STATEMENT_TIMEOUT_MS": _whole(1_500, 10, 60_000),
    "SHOP_IDLE_IN_TRANSACTION_TIMEOUT_MS": _whole(5_000, 100, 600_000),
    "SHOP_CONNECTION_IDLE_MAX_S": _whole(300, 1, 86_400),
    "SHOP_BREAKER_MODE": _one_of("enforce", "observe", "forced_open", "disabled"),
    "SHOP_BREAKER_SLOW_MS": _whole(1_000, 1, 60_000),
    "SHOP_BREAKER_WINDOW_S": _whole(10, 1, 600),
    "SHOP_BREAKER_CALLS_MIN": _whole(5, 3, 1_000),
    "SHOP_BREAKER_FAILURE_PERCENT": _whole(50, 1, 100),
    "SHOP_BREAKER_SLOW_PERCENT": _whole(80, 1, 100),
    "SHOP_BREAKER_OPEN_MS": _whole(1_000, 10, 600_000),
    "SHOP_BREAKER_OPEN_MAX_MS": _whole(30_000, 10, 600_000),
    "SHOP_REDIS_MODE": _one_of("single", "cluster"),
    "SHOP_REDIS_CONNECT_TIMEOUT_MS": _whole(100, 1, 5_000),
    "SHOP_REDIS_TIMEOUT_MS": _whole(50, 1, 5_000),
    "SHOP_CACHE_TTL_S": _whole(60, 1, 86_400),
    "SHOP_CACHE_STALE_S": _whole(600, 0, 86_400),
    "SHOP_CACHE_NEGATIVE_TTL_S": _whole(2, 1, 60),
    "SHOP_CACHE_LEASE_MS": _whole(2_000, 10, 60_000),
    "SHOP_CACHE_WAIT_MS": _whole(250, 0, 10_000),
    "SHOP_RATE_LIMIT": _whole(0, 0, 1_000_000),
    "SHOP_RATE_WINDOW_S": _whole(60, 1, 86_400),
    "SHOP_SERVER_TIMING": _one_of("on", "off"),
    "SHOP_DEADLINE_RESERVE_MS": _whole(200, 0, 5_000),
    "SHOP_PAGE_LIMIT_DEFAULT": _whole(20, 1, 1_000),
    "SHOP_PAGE_LIMIT_MAX": _whole(100, 1, 1_000),
    "SHOP_BODY_MAX_BYTES": _whole(65_536, 256, 10_485_760),
    "SHOP_CURSOR_KEY": Knob(f"at least {CURSOR_KEY_BYTES_MIN} bytes of secret", _cursor_key, None),
    "SHOP_IDEMPOTENCY_TTL_H": _whole(24, 1, 720),
    "SHOP_OUTBOX_KEEP_H": _whole(168, 1, 8_760),
    "SHOP_PURGE_BATCH": _whole(500, 1, 10_000),
    "SHOP_EVENTS_QUEUE_URL": Knob("the URL of an SQS queue, or nothing", _queue_url, ""),
}

SECRET = frozenset({"SHOP_CURSOR_KEY"})


def read(environ: Mapping[str, str]) -> Settings:
    for name in environ:
        if name.startswith(PREFIX) and name not in KNOBS:
            raise BadSetting(f"{name} is no setting of the shop.{_nearest(name)}")
    values = {name.removeprefix(PREFIX).lower(): _value(environ, name, knob) for name, knob in KNOBS.items()}
    settings = Settings(
        database_url=_url(environ, "DATABASE_URL", ("postgresql", "postgres")),
        redis_url=_url(environ, "REDIS_URL", ("redis", "rediss")) if environ.get("REDIS_URL") else None,
        **values,
    )
    _check_together(settings)
    return settings


@cache
def current() -> Settings:
    """This environment's settings, read once. Tests that change the environment call current.cache_clear()."""
    return read(os.environ)


def redis(settings: Settings) -> "RedisSettings":
    """Raises BadSetting if no Redis is set."""
    from shared.kit.redis_settings import RedisSettings  # only for those who use one

    if settings.redis_url is None:
        raise BadSetting("REDIS_URL is not set; it must be redis://USER:PASSWORD@HOST:PORT/NUMBER.")
    return RedisSettings(
        url=settings.redis_url,
        cluster=settings.redis_mode == "cluster",
        connect_timeout_s=settings.redis_connect_timeout_ms / 1000,
        timeout_s=settings.redis_timeout_ms / 1000,
        idle_max_s=settings.connection_idle_max_s,
    )


def _value(environ: Mapping[str, str], name: str, knob: Knob) -> Any:
    text = environ.get(name, knob.default)
    if text is None:
        raise BadSetting(f"{name} is not set; it must be {knob.accepts}.")
    try:
        return knob.parse(text)
    except ValueError:
        shown = "its value" if name in SECRET else repr(text)
        raise BadSetting(f"{name}: {shown} is not accepted; it must be {knob.accepts}.") from None


def _url(environ: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str:
    """Never shown, because it carries a password."""
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


def _check_together(settings: Settings) -> None:
    for low, high in (
        ("SHOP_PAGE_LIMIT_DEFAULT", "SHOP_PAGE_LIMIT_MAX"),
        ("SHOP_BREAKER_OPEN_MS", "SHOP_BREAKER_OPEN_MAX_MS"),
        ("SHOP_BREAKER_SLOW_MS", "SHOP_STATEMENT_TIMEOUT_MS"),
    ):
        below, above = (getattr(settings, name.removeprefix(PREFIX).lower()) for name in (low, high))
        if below > above:
            raise BadSetting(f"{low}={below} is more than {high}={above}; it must be at most that.")
    if (settings.db_login == "secret") != (settings.db_secret is not None):
        raise BadSetting("SHOP_DB_LOGIN=secret and SHOP_DB_SECRET go together: one of them is set without the other.")
    if settings.db_role_secret is not None and settings.db_role is None:
        raise BadSetting("SHOP_DB_ROLE_SECRET is the login of SHOP_DB_ROLE, which is not set.")
    if settings.db_login == "iam" and settings.db_ssl == "disable":
        raise BadSetting(
            "SHOP_DB_LOGIN=iam needs SHOP_DB_SSL=require or verify-full: a token is as good as a password."
        )


def _nearest(name: str) -> str:
    from difflib import get_close_matches  # only ever needed to refuse

    near = get_close_matches(name, KNOBS, n=1)
    return f" Did you mean {near[0]}?" if near else f" Settings are: {', '.join(sorted(KNOBS))}."
