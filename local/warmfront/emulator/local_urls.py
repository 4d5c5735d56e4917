"""Rewrites a declared DATABASE_URL or REDIS_URL to the local server, keeping driver, database and options.

A URL of another kind of server (`mysql://`, `unix://`) is none of these; a value that is no URL, such as an unresolved
`{{resolve:secretsmanager:...}}`, stands for the local server's default database.
"""

import re
from collections.abc import Callable
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

_ADDRESS = {"host", "hostaddr", "port", "user", "username", "password", "passfile", "service", "dbname", "database"}
"""Query keys that say where the server is and who logs in; the local address has its own."""
_TLS = {
    "channel_binding",
    "gssencmode",
    "ssl",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
}
_WITHOUT_TLS = {"allow", "disable", "false", "prefer"}
"""Values that work with a server without TLS."""


_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.:-]*)://")
"""JDBC has two: `jdbc:postgresql://`."""


def foreign_scheme(name: str, declared: str) -> str | None:
    """The scheme of a value that the local server cannot stand in for, else None.

    `name`: `DATABASE_URL` or `REDIS_URL`.
    """
    scheme = _scheme(declared)
    known = _is_postgres(scheme) if name == "DATABASE_URL" else scheme in ("redis", "rediss")
    return None if scheme == "" or known else scheme


def _scheme(declared: str) -> str:
    found = _SCHEME.match(declared)
    return found[1].lower() if found else ""


def _is_postgres(scheme: str) -> bool:
    return scheme.partition("+")[0] in ("postgres", "postgresql")


def database_name(declared: str) -> str:
    """The database that a URL names in its path or its query, else `postgres`; so for what is no URL of Postgres."""
    if not _is_postgres(_scheme(declared)):
        return "postgres"
    parts = urlsplit(declared)
    options = dict(parse_qsl(parts.query))
    name = unquote(parts.path.lstrip("/")) or options.get("dbname") or options.get("database") or "postgres"
    return "postgres" if "{{resolve:" in name else name


def database_url(declared: str, local: Callable[[str], str]) -> tuple[str, list[str]]:
    """The declared URL with the local server's host and login, and those of its options that a server without TLS refuses.

    `local`: database name -> URL of the local server, whose own options win. SQLAlchemy's `postgresql+asyncpg://` keeps
    its driver.
    """
    parts = urlsplit(declared)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    target = urlsplit(local(database_name(declared)))
    dropped = [f"{key}={value}" for key, value in options.items() if key in _TLS and value not in _WITHOUT_TLS]
    kept = _query(parts.query, lambda key, value: key in _ADDRESS or (key in _TLS and value not in _WITHOUT_TLS))
    scheme = parts.scheme if _is_postgres(parts.scheme) else target.scheme
    return _joined(scheme, target.netloc, target.path, kept, target.query), dropped


def redis_url(declared: str, local: Callable[[str | None], str]) -> tuple[str, list[str]]:
    """The declared URL with the local server's host and login, and what was dropped because that has no TLS.

    `local`: number of the database or None -> URL of the local server, whose scheme and own options win.
    """
    parts = urlsplit(declared)
    number = parts.path.lstrip("/")
    target = urlsplit(local(number if number.isdecimal() else None))
    dropped = [f"{key}={value}" for key, value in parse_qsl(parts.query) if key.startswith("ssl")]
    if parts.scheme == "rediss" and target.scheme != "rediss":
        dropped.insert(0, "rediss")
    kept = _query(parts.query, lambda key, _value: key in _ADDRESS or key.startswith("ssl"))
    return _joined(target.scheme, target.netloc, target.path, kept, target.query), dropped


def _query(query: str, leave_out: Callable[[str, str], bool]) -> list[tuple[str, str]]:
    return [(key, value) for key, value in parse_qsl(query, keep_blank_values=True) if not leave_out(key, value)]


def _joined(scheme: str, netloc: str, path: str, kept: list[tuple[str, str]], own: str) -> str:
    of_server = parse_qsl(own, keep_blank_values=True)
    names = {key for key, _ in of_server}
    query = [*(each for each in kept if each[0] not in names), *of_server]
    # quote: libpq reads + as itself
    return urlunsplit((scheme, netloc, path, urlencode(query, quote_via=quote), ""))
