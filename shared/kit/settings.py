"""Settings of the kit's parts, one small frozen object each. Imports no client, so that reading settings costs little."""

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from shared.kit.breaker import BreakerSettings

if TYPE_CHECKING:
    from ssl import SSLContext

# Postgres cancels a statement by itself; the client waits this much longer for it to say so.
CLIENT_MARGIN_S = 0.25


class BadSetting(Exception):
    """A setting is missing or wrong. The message names the variable and what it may be."""


class PostgresSettings(Struct, frozen=True, kw_only=True):
    """How one environment uses Postgres.

    `lock_timeout_s` must be below `statement_timeout_s`: that is how a wait for a locked row is told from a slow server.
    `breaker.call_timeout_s` is not used; the bound of a call follows from the timeouts here.
    """

    url: str  # postgresql://USER:PASSWORD@HOST:PORT/NAME
    login: Literal["url", "secret", "iam"] = "url"  # where user and password come from
    secret: str | None = None  # name or ARN in Secrets Manager: JSON with username and password
    look_up_timeout_s: float = 2.0  # of a login that is not in the URL; in addition to connecting
    proxy: bool = False  # connections are shared by transaction (RDS Proxy, PgBouncer): nothing of a session may stay
    tls: "SSLContext | None" = None  # from shared.kit.tls; None: plain text
    pool_max: int = 1  # connections per environment: as many as one handler uses at a time
    queue_max: int = 16  # requests that wait for a connection; the next one is refused at once
    connection_budget: int = 0  # of all environments together, for a metric; 0: not stated
    acquire_timeout_s: float = 0.5
    connect_timeout_s: float = 2.0
    statement_timeout_s: float = 1.5  # enforced by the server; the client gives up CLIENT_MARGIN_S later
    lock_timeout_s: float = 0.5
    idle_in_transaction_timeout_s: float = 5.0
    idle_max_s: float = 300.0  # below the 350 s after which AWS drops an idle flow silently
    breaker: BreakerSettings = BreakerSettings(slow_s=1.0, call_timeout_s=60.0)

    def __post_init__(self) -> None:
        if (self.login == "secret") != (self.secret is not None):
            raise BadSetting("login='secret' and a secret go together: one of them is set without the other.")
        if not 0 < self.lock_timeout_s < self.statement_timeout_s:
            raise BadSetting(
                f"lock_timeout_s={self.lock_timeout_s}: must be above 0 and below "
                f"statement_timeout_s={self.statement_timeout_s}."
            )

    def __repr__(self) -> str:
        """Without the URL: settings end up in logs."""
        return f"PostgresSettings(login={self.login!r}, pool_max={self.pool_max}, ...)"

    @property
    def connecting_s(self) -> float:
        """The most that connecting may take, including the look-up of the login."""
        return self.connect_timeout_s + (0.0 if self.login == "url" else self.look_up_timeout_s)

    @property
    def query_s(self) -> float:
        """The most that one use of an open connection may take."""
        return self.statement_timeout_s + CLIENT_MARGIN_S


class CacheSettings(Struct, frozen=True, kw_only=True):
    """How long entries of the cache live, and how long readers wait for each other."""

    ttl_s: int = 60
    stale_s: int = 600  # after the TTL: how long an entry may still replace a database that fails
    negative_ttl_s: int = 2  # of "there is no such row"
    lease_ms: int = 2_000  # how long one environment may load before another tries as well
    wait_ms: int = 250  # for another environment's load; after that each loads by itself


class LimiterSettings(Struct, frozen=True, kw_only=True):
    """How many requests one client may make in a window."""

    requests: int
    window_s: int = 60
