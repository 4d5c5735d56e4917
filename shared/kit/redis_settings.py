"""Settings of the connection to Redis, and what a command is made of. Imports no client."""

from collections.abc import Sequence

from msgspec import Struct

type Word = str | bytes | int | float | memoryview[int]
type Command = Sequence[Word]


class RedisSettings(Struct, frozen=True, kw_only=True):
    """What a connection needs to know.

    `url` is redis-py's: redis:// or rediss:// with user, password, host, port, database, and in its query options such
    as `ssl_ca_certs`. `cluster`: the server is a cluster, as ElastiCache Serverless always is.
    """

    url: str  # contains the password
    cluster: bool = False
    connect_timeout_s: float = 0.1
    timeout_s: float = 0.05  # of one exchange on an open connection
    idle_max_s: float = 300.0  # below the 350 s after which AWS drops an idle flow silently

    def __repr__(self) -> str:
        """Without the URL: settings end up in logs."""
        return f"RedisSettings(cluster={self.cluster!r}, timeout_s={self.timeout_s!r}, ...)"


class BadRedisUrl(ValueError):
    """The URL has an option that cannot be used. The message contains neither the URL nor the password."""
