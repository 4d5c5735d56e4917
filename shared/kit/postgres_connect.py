"""Opens a connection to Postgres: login, TLS, and the limits that the server enforces for a session."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg import exceptions as pg

from shared.kit import telemetry
from shared.kit.pool import Connection
from shared.kit.settings import PostgresSettings

if TYPE_CHECKING:
    from shared.kit.secrets import Logins

# A server that finds its client gone stops the query: no orphan works on for a client that has left.
ORPHAN_CHECK_MS = 500
# An environment that Lambda destroys closes nothing. Its sessions end this long after the pool would have closed them.
IDLE_SESSION_MARGIN_S = 30.0


def logins_for(settings: PostgresSettings) -> "Logins | None":
    """None: user and password are in the URL."""
    if settings.login == "url":
        return None
    from shared.kit import secrets  # imports boto3, half a second

    return secrets.logins(settings)


async def connect(
    settings: PostgresSettings, logins: "Logins | None", *, timeout_s: float, url: str | None = None, **options: Any
) -> Connection:
    """An open asyncpg connection; `url` replaces the settings' own, `options` go to asyncpg.connect.

    Tries once more with another login if the first is refused: it may have been rotated since it was looked up.
    """
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + timeout_s

    async def attempt(**login: str) -> Connection:
        return await asyncpg.connect(
            url or settings.url,
            ssl=settings.tls or "disable",
            timeout=max(0.001, min(settings.connect_timeout_s, ends_s - loop.time())),
            **login,
            **options,
        )

    if logins is None:
        return await attempt()
    login = await logins.known(timeout_s)
    try:
        return await attempt(**_keywords(login))
    except pg.InvalidAuthorizationSpecificationError:
        other = await logins.renewed(login, ends_s - loop.time())
        if other is None:
            raise
        telemetry.logger.info(telemetry.LOGIN_RENEWED)
        return await attempt(**_keywords(other))


def _keywords(login: Any) -> dict[str, str]:
    return {"password": login.password, **({} if login.user is None else {"user": login.user})}


def session_settings(settings: PostgresSettings) -> dict[str, str]:
    """What a direct connection is opened with."""
    return {
        "application_name": telemetry.SERVICE,
        # Not the role's: a proxy keeps its own sessions open for as long as it likes.
        "idle_session_timeout": _ms(settings.idle_max_s + IDLE_SESSION_MARGIN_S),
        **role_settings(settings),
    }


def role_settings(settings: PostgresSettings) -> dict[str, str]:
    """Limits that Postgres enforces, for a session or (behind a proxy) for a role."""
    return {
        "statement_timeout": _ms(settings.statement_timeout_s),
        "lock_timeout": _ms(settings.lock_timeout_s),
        "idle_in_transaction_session_timeout": _ms(settings.idle_in_transaction_timeout_s),
        "client_connection_check_interval": str(ORPHAN_CHECK_MS),
        "jit": "off",  # compiling costs more than any short query
    }


def _ms(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def as_array(numbers: Iterable[int]) -> list[str]:
    """For a parameter that is a text[], to be cast in SQL: the one array whose type asyncpg knows.

    For any other, each new connection first asks the catalogue, with jit set off for the session meanwhile: three round
    trips, and a session that a proxy pins.
    """
    return [str(number) for number in numbers]
