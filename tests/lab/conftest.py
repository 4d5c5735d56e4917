"""Fixtures: one Postgres and one Redis for all tests of the lab."""

from collections.abc import Iterator

import pytest
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres.start({}, max_connections=30, shared_buffers="16MB") as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Redis]:
    with Redis.start({}) as server:
        yield server
