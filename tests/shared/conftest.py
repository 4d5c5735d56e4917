"""One Postgres for these tests, settings against it, and what the tests measure with."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from warmfront.backing.postgres import Postgres

from shared.kit.deadline import Deadline
from shared.kit.postgres import Database
from shared.shop.settings import Settings, read

ENVIRON = {
    "DATABASE_URL": "postgresql://app:pw@localhost:5432/shop",
    "SHOP_CURSOR_KEY": "only-for-these-tests",
    "SHOP_DB_SSL": "disable",
}


def settings_with(**values: object) -> Settings:
    """What SHOP_... variables of these names make of the defaults; a URL goes by its own name."""
    names = {name: name if name.endswith("_URL") else f"SHOP_{name}" for name in values}
    return read(ENVIRON | {names[name]: str(value) for name, value in values.items()})


class Measured:
    """Stands in for the EMF line: every value that was measured, by name."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def __call__(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with Postgres.start({"PATH": os.environ["PATH"]}, origin="wheel") as postgres:
        yield postgres


@pytest.fixture
def measured() -> Measured:
    return Measured()


@pytest.fixture
def on_database(server: Postgres, measured: Measured) -> Callable[..., Any]:
    """Runs `test(database)` on a loop of its own, with these variables (SHOP_ left out) or fields of PostgresSettings."""

    def run[T](test: Callable[[Database], Coroutine[Any, Any, T]], url: str | None = None, **values: Any) -> T:
        async def whole() -> T:
            variables = {name: value for name, value in values.items() if name.isupper()}
            fields = {name: value for name, value in values.items() if not name.isupper()}
            settings = settings_with(DATABASE_URL=url or server.url("postgres"), **variables)
            database = Database(replace(settings.postgres, **fields), measure=measured)
            try:
                return await test(database)
            finally:
                await database.aclose()

        return asyncio.run(whole())

    return run


def soon(remaining_s: float = 30.0) -> Deadline:
    return Deadline(remaining_s)
