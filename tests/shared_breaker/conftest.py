"""One Redis for all tests of the votes."""

from collections.abc import Iterator

import pytest

from local.backing.redis import Redis


@pytest.fixture(scope="session")
def votes_redis() -> Iterator[Redis]:
    with Redis.start({}) as server:
        yield server
