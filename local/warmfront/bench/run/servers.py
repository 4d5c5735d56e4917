"""Starts the Postgres and Redis that all emulators of a run share, optionally behind a relay that adds a round trip."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from warmfront.backing.executables import backing_of_shell
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis

from .relay import LOOPBACK, Calibration, Relay, calibrate


@dataclass(frozen=True, slots=True)
class Needs:
    """Which backing services the template's functions need."""

    postgres: bool = False
    redis: bool = False

    def __bool__(self) -> bool:
        return self.postgres or self.redis


NO_SERVERS = Needs()


@dataclass(frozen=True, slots=True)
class Distance:
    """The relay that adds a round trip, and its measured delay."""

    relay: Relay
    calibration: Calibration

    @property
    def described(self) -> dict[str, object]:
        """A description like that of a backing service, for the head of a report."""
        delay = f"{1000 * self.relay.rtt_s:g} ms round trip, measured {1000 * self.calibration.round_trip_s:.2f} ms"
        return {"version": f"{delay} and {1e6 * self.calibration.cpu_s:.0f} us CPU of its own each", "origin": ""}


@dataclass(frozen=True, slots=True)
class Servers:
    """Running servers. `variables`: their addresses as environment variables of an emulator; `about`: server name -> pid,
    version, origin, port."""

    variables: Mapping[str, str]
    about: Mapping[str, dict[str, object]]
    distance: Distance | None = None


@contextmanager
def servers(needs: Needs, *, rtt_s: float, max_connections: int) -> Iterator[Servers]:
    """Start the needed servers, and stop them at the end.

    Args:
        needs: which servers.
        rtt_s: round trip in seconds to add by a relay; 0 for none.
        max_connections: of Postgres.

    Raises:
        BackingError: a server did not start.
        RelayError: the relay did not start.
    """
    origin = backing_of_shell(os.environ)
    calibration = calibrate(rtt_s) if rtt_s else None
    urls: dict[str, str] = {}
    about: dict[str, dict[str, object]] = {}
    with ExitStack() as stack:
        if needs.postgres:
            postgres = stack.enter_context(Postgres.start(origin=origin, max_connections=max_connections))
            urls["DATABASE_URL"], about["postgres"] = postgres.url("postgres"), postgres.describe()
        if needs.redis:
            redis = stack.enter_context(Redis.start(origin=origin))
            urls["REDIS_URL"], about["redis"] = redis.url(), redis.describe()
        if calibration is None:
            yield Servers(urls, about)
            return
        targets = {name: _address(url) for name, url in urls.items()}
        with Relay.start(rtt_s, targets) as relay:
            far = {name: _through(url, relay.ports[name]) for name, url in urls.items()}
            yield Servers(far, about, Distance(relay, calibration))


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{login}@{LOOPBACK}:{port}" if login else f"{LOOPBACK}:{port}"))
