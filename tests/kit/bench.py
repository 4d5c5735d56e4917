"""Serves the shop with proxies in front of its backing services, for tests that break them."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import boto3
from warmfront.lab.emulator_process import EmulatorProcess, EmulatorSettings
from warmfront.lab.http_client import Client
from warmfront.lab.stage import Stage

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "template.yaml"
CARELESS = ROOT / "local" / "warmfront" / "lab" / "careless" / "template.yaml"
ENVIRONMENTS = 8
"""Of each function at most: more than two cores need, few enough to start in a test."""
PATIENCE_S = 30.0
"""Bounds a test that would hang; nothing is expected to take so long."""


@dataclass
class Bench:
    """Servers, proxies and one emulator at a time, on a loop that turns only while a test waits for something."""

    runner: asyncio.Runner
    stage: Stage

    def run[T](self, coroutine: Coroutine[Any, Any, T], *, within_s: float = PATIENCE_S) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(within_s):
                return await coroutine

        return self.runner.run(bounded())

    async def serve(
        self, template: Path = TEMPLATE, *, variables: Mapping[str, Mapping[str, str]] | None = None, aws: bool = False
    ) -> EmulatorProcess:
        parameters = (f"ReservedConcurrency={ENVIRONMENTS}",) if template.parent == ROOT else ()
        # The tests' own choice of servers (tests/conftest.py) would win over the proxies' addresses.
        backing = os.environ.pop("WARMFRONT_BACKING", None)
        try:
            return await self.stage.emulator(EmulatorSettings(template, variables or {}, parameters, aws))
        finally:
            if backing is not None:
                os.environ["WARMFRONT_BACKING"] = backing

    async def seed(self, *databases: str, products: int = 2_000, orders: int = 100) -> None:
        """Each database anew, and no environment that remembers the old one."""
        emulator = await self.serve() if self.emulator is None else self.emulator
        event = {"action": "seed", "databases": list(databases), "products": products, "orders": orders}
        await emulator.invoke("Migrate", event)
        for name in databases:
            await emulator.retire(name.capitalize())

    @property
    def emulator(self) -> EmulatorProcess | None:
        return self.stage._emulator

    async def query(self, database: str, sql: str) -> list[asyncpg.Record]:
        return await self.stage.query(database, sql)

    async def queue(self, emulator: EmulatorProcess) -> "Queue":
        """The queue of order events: the FIFO queue without dead letters, in the AWS that the emulator has started."""
        port = (await emulator.state())["backing"]["aws"]["port"]
        keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": "us-east-1"}
        client = boto3.client("sqs", endpoint_url=f"http://127.0.0.1:{port}", **keys)
        (url,) = (
            url for url in client.list_queues()["QueueUrls"] if url.endswith(".fifo") and "dead" not in url.lower()
        )
        return Queue(client, url)


@dataclass(frozen=True)
class Queue:
    client: Any
    url: str

    def take_all(self) -> list[str]:
        """The bodies of what lies in it, which is empty then."""
        bodies: list[str] = []
        while batch := self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            bodies += (message["Body"] for message in batch)
            handles = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(batch)]
            self.client.delete_message_batch(QueueUrl=self.url, Entries=handles)
        return bodies

    def close(self) -> None:
        self.client.close()


async def in_parallel[T](workers: int, items: Iterable[T], work: Callable[[int, Client, T], Awaitable[None]],
                         emulator: EmulatorProcess) -> None:  # fmt: skip
    """Each item by the next free of so many workers, each with a connection of its own."""
    left = iter(items)

    async def worker(number: int) -> None:
        client = emulator.client()
        try:
            for item in left:
                await work(number, client, item)
        finally:
            await client.close()

    await asyncio.gather(*(worker(number) for number in range(workers)))


@contextlib.asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Something that goes on until the block ends; if it fails before, so does the block."""
    task = asyncio.ensure_future(work)
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def frozen(emulator: EmulatorProcess, function: str) -> Sequence[int]:
    """The environments of a function, once every one of them is frozen."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await emulator.environments(function)
            if all(each["phase"] == "frozen" for each in found) and all(stopped(int(each["pid"])) for each in found):
                return sorted(int(each["pid"]) for each in found)
            await asyncio.sleep(0.01)


def stopped(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What a process holds open: network sockets, and everything else."""

    sockets: int
    others: int


def descriptors(pid: int) -> Descriptors:
    held = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed just now
            held.append(str(file.readlink()))
    local = {line.split()[6] for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]}
    sockets = sum(each.startswith("socket:[") and each[len("socket:[") : -1] not in local for each in held)
    return Descriptors(sockets, len(held) - sockets)
