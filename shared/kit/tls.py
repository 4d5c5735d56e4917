"""TLS contexts for connections to Postgres and Redis, made once while the environment starts.

Making a context reads the trusted certificates: 35 to 109 ms of CPU, which must not come out of a connection's timeout.
asyncpg's own default takes TLS or leaves it, as the server likes; its "verify-full" wants a file in the home directory.
"""

from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ssl import SSLContext

type TlsMode = Literal["disable", "require", "verify-full"]


@cache
def context(mode: TlsMode, ca_file: str | None = None) -> "SSLContext | None":
    """The context of one mode; None for `disable`, which speaks plain text.

    `require` encrypts and checks nothing. `verify-full` checks certificate and host name against `ca_file` (a PEM file),
    or against what the system trusts, which includes the certificate of RDS Proxy.
    """
    if mode == "disable":
        return None
    import ssl  # only where it is used; asyncpg has imported it already

    made = ssl.create_default_context(cafile=ca_file or None)
    if mode == "require":
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made
