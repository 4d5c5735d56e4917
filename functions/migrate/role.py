"""The restricted role that the handlers log in as: makes it, sets its password and its time-outs, and grants it rows, no tables.

It logs in with the password of a secret, which it is given at every run, or without a password by IAM. RDS takes one of the
two: a member of rds_iam is refused with a password
(docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.DBAccounts.html).
"""

import hashlib
import hmac
import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from shared.kit.pool import Connection

_ROUNDS, _SALT_BYTES = 4096, 16  # Postgres' own
_ROWS = "SELECT, INSERT, UPDATE, DELETE ON"


class RoleRefused(Exception):
    """The role cannot be made as it was asked for, and why."""


@dataclass(frozen=True, slots=True)
class Role:
    """`password`: None for a role that IAM lets in. `settings`: what the server sets for its sessions; None: its default."""

    name: str
    password: str | None
    settings: Mapping[str, str | None]

    def __repr__(self) -> str:
        return f"Role({self.name!r}, ...)"


async def keep_role(admin: Connection, role: Role) -> bool:
    """Makes the role or brings it up to date; returns whether it is new. Raises RoleRefused for the administrator's own."""
    if role.name == await admin.fetchval("SELECT current_user"):
        raise RoleRefused(f"{role.name!r} is the login that migrates: the handlers need another, with fewer rights.")
    made = not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role.name)
    if made:
        await admin.execute(f'CREATE ROLE "{role.name}" LOGIN')
    password = "NULL" if role.password is None else f"'{scram_verifier(role.password)}'"
    await admin.execute(f'ALTER ROLE "{role.name}" PASSWORD {password}')
    if await admin.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam')"):
        await admin.execute(
            f'GRANT rds_iam TO "{role.name}"' if role.password is None else f'REVOKE rds_iam FROM "{role.name}"'
        )
    for name, value in role.settings.items():
        change = f"RESET {name}" if value is None else f"SET {name} = '{value}'"
        await admin.execute(f'ALTER ROLE "{role.name}" {change}')
    return made


async def let_in(connection: Connection, database: str, role: Role) -> None:
    """In this database it may read and change rows, of later tables too; no table, and nothing of the schema's own notes."""
    name = f'"{role.name}"'
    await connection.execute(f'GRANT CONNECT ON DATABASE "{database}" TO {name}')
    await connection.execute(f"GRANT {_ROWS} ALL TABLES IN SCHEMA public TO {name}")
    await connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {_ROWS} TABLES TO {name}")
    await connection.execute(f"REVOKE INSERT, UPDATE, DELETE ON schema_steps FROM {name}")


def scram_verifier(password: str) -> str:
    """What Postgres stores of a password (RFC 5803), made here: the statement that sets it may end up in the server's log.

    `password` must be ASCII, of which SASLprep changes nothing. Raises RoleRefused for another.
    """
    if not password.isascii() or not password:
        raise RoleRefused("The password in the role's secret must be ASCII and not empty.")
    salt = os.urandom(_SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${_ROUNDS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()
