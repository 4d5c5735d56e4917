"""Postgres and Redis of the bench's own, a network round trip away. Knows that they stand behind a relay, not what is asked."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis

from .relay import LOOPBACK, Calibration, Relay, calibrate


@dataclass(frozen=True, slots=True)
class Distant:
    """What an emulator is told, what a state says of them, and the relay between."""

    variables: Mapping[str, str]
    about: Mapping[str, dict[str, object]]
    relay: Relay
    calibration: Calibration

    @property
    def described(self) -> dict[str, object]:
        """As a backing service is: in the head of a report."""
        told = f"{1000 * self.relay.rtt_s:g} ms round trip, measured {1000 * self.calibration.round_trip_s:.2f} ms"
        return {"version": f"{told} and {1e6 * self.calibration.cpu_s:.0f} us CPU of its own each", "origin": ""}


@contextmanager
def distant(rtt_s: float, *, max_connections: int) -> Iterator[Distant]:
    """Both are started whether a template asks for them or not: only the emulator reads it."""
    calibration = calibrate(rtt_s)
    with Postgres.start(max_connections=max_connections) as postgres, Redis.start() as redis:
        targets = {"postgres": (postgres.host, postgres.port), "redis": (redis.host, redis.port)}
        with Relay.start(rtt_s, targets) as relay:
            variables = {
                "DATABASE_URL": _through(postgres.url("postgres"), relay.ports["postgres"]),
                "REDIS_URL": _through(redis.url(), relay.ports["redis"]),
            }
            about = {"postgres": postgres.describe(), "redis": redis.describe()}
            yield Distant(variables, about, relay, calibration)


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{login}@{LOOPBACK}:{port}" if login else f"{LOOPBACK}:{port}"))
