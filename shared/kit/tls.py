"""How a connection to Postgres is encrypted: always said, never negotiated. Knows no connection.

asyncpg's own default takes TLS or leaves it, as the server likes; its "verify-full" wants a file in the home directory.
"""

from functools import cache
from typing import Any


@cache
def tls(mode: str, ca_file: str | None) -> Any:
    """For asyncpg's `ssl`. verify-full without a file trusts what the system trusts, RDS Proxy's certificate included."""
    if mode != "verify-full":
        return mode
    import ssl  # the driver has it already; here only for this mode

    return ssl.create_default_context(cafile=ca_file or None)
