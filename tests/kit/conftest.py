"""One stage for all these tests: servers, proxies, and an emulator that stays while its settings do."""

import asyncio
from collections.abc import Iterator

import pytest
from warmfront.lab.stage import Stage

from tests.kit.bench import Bench


@pytest.fixture(scope="session")
def stage_of_the_kit() -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        stage = Stage()
        runner.run(stage.__aenter__())
        try:
            yield Bench(runner, stage)
        finally:
            runner.run(stage.__aexit__())


@pytest.fixture
def bench(stage_of_the_kit: Bench) -> Iterator[Bench]:
    yield stage_of_the_kit
    stage_of_the_kit.run(stage_of_the_kit.stage.heal())
