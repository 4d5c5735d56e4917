"""Runs the load generator in a separate process, controlled over a pipe.

Commands and replies are JSON lines; samples follow their reply as 64-bit integers in native byte order.
"""

import asyncio
import gc
import http.client
import json
import os
import subprocess
import sys
from array import array
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import msgspec

from . import time_slice
from .generator import Generator
from .render import Cursors, Renderer, pick
from .samples import Plan, Recording, Target
from .workloads import Variant, Walk, Workload, WorkloadFile, load_workloads

WALK_TIMEOUT_S = 30.0
STOP_S = 5.0


class LoadError(Exception):
    """The load generator could not carry out a command; the message says why."""


class Order(msgspec.Struct, kw_only=True):
    """Describes one block for the generator: workload file, workload, variant, target and plan."""

    file: str
    workload: str
    variant: str
    target: Target
    plan: Plan
    base_path: str = ""
    expected: int = 0


# The session's side


class LoadProcess:
    """Controls a load generator process. `prepare` a block, then `run` it; both calls block until the process replies.

    Every command raises LoadError when the process reports an error or has ended.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @classmethod
    def start(cls) -> Self:
        """Start the process."""
        # It exits when its stdin closes, so it cannot outlive the session, even one that is killed.
        process = subprocess.Popen(
            [sys.executable, "-m", "warmfront.bench.load.load_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C must reach only the session, which then closes the pipe
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    def walk(self, order: Order) -> int:
        """Fetch pages until the cursors of all page depths in the workload are known.

        Returns:
            The number of pages fetched; 0 where the cursors are known already.
        """
        return int(self._ask("walk", order)["pages"])

    def prepare(self, order: Order) -> None:
        """Render the block's requests and open its connections, untimed."""
        self._ask("prepare", order)

    def run(self) -> Recording:
        """Run the block that was prepared last, and return its samples."""
        answer = self._ask("run")
        columns = [self._read_column(answer["samples"]) for _ in Recording.COLUMNS]
        late, around = self._read_column(answer["late"]), self._read_column(answer["around"])
        return Recording.from_columns(columns, answer["opened"], late, around=around, began_ns=answer["began_ns"])

    def _ask(self, do: str, order: Order | None = None) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        command = {"do": do} if order is None else {"do": do, "order": order}
        try:
            self._process.stdin.write(msgspec.json.encode(command) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None
        line = self._process.stdout.readline()
        if not line:
            raise self._gone()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadError(answer["error"])
        return answer

    def _gone(self) -> LoadError:
        status = self._process.wait(STOP_S)
        return LoadError(f"the load generator exited with status {status}; its output is above")

    def _read_column(self, count: int) -> array[int]:
        assert self._process.stdout is not None
        column = array("q")
        column.frombytes(self._process.stdout.read(count * column.itemsize))
        if len(column) != count:
            raise self._gone()
        return column

    def close(self) -> None:
        """End the process; kill it if it does not exit within STOP_S seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# The generator's side


class _Server:
    """Executes commands one at a time; keeps connections, workload files and cursors between them."""

    def __init__(self, answer: Callable[[bytes], None]) -> None:
        self._answer = answer
        self._generators: dict[Target, Generator] = {}
        self._files: dict[str, WorkloadFile] = {}
        self._cursors: dict[tuple[str, str], Cursors] = {}
        self._prepared: Generator | None = None

    async def execute(self, line: bytes) -> None:
        command = json.loads(line)
        orders: Mapping[str, Callable[[Order], Coroutine[Any, Any, dict[str, Any]]]] = {
            "walk": self._walk,
            "prepare": self._prepare,
        }
        try:
            if command["do"] == "run":
                await self._run()
                return
            done = await orders[command["do"]](msgspec.convert(command["order"], Order))
        except Exception as error:  # the session decides what a failed command means; the process keeps running
            done = {"error": f"{error}" if isinstance(error, LoadError) else f"{type(error).__name__}: {error}"}
        self._answer(json.dumps(done).encode() + b"\n")

    async def _walk(self, order: Order) -> dict[str, Any]:
        """Fetch cursors once per variant of a file: the setup restores the same data, so they remain valid."""
        workload, variant = self._find(order)
        file = self._files[order.file]
        key = (order.file, order.variant)
        walk = workload.walk
        if walk is None and variant.cursor_at_depth is None:
            raise LoadError(f"{order.file}: {{page_depth}} of variant {variant.name!r} needs a [walk]")
        if key in self._cursors:
            return {"pages": 0}
        if variant.cursor_at_depth is not None:
            self._cursors[key] = Cursors((), walk.rows if walk else 1, variant.cursor_at_depth)
            return {"pages": 0}
        assert walk is not None
        prefix = order.base_path + variant.prefix
        walked = await asyncio.to_thread(
            _walk_pages, order, walk, prefix, file.headers, max(1, file.deepest // walk.rows)
        )
        self._cursors[key] = Cursors(walked, walk.rows)
        return {"pages": len(walked)}

    async def _prepare(self, order: Order) -> dict[str, Any]:
        workload, variant = self._find(order)
        renderer = Renderer(
            workload,
            order.base_path + variant.prefix,
            host=order.target.authority,
            headers=self._files[order.file].headers,
            seed=order.plan.seed,
            cursors=self._cursors.get((order.file, order.variant)),
            keep_alive=order.plan.keep_alive,
        )
        generator = self._generators.setdefault(order.target, Generator(order.target))
        await generator.prepare(order.plan, renderer, expected=order.expected)
        self._prepared = generator
        gc.collect()
        gc.freeze()
        return {"prepared": True}

    async def _run(self) -> None:
        generator, self._prepared = self._prepared, None
        if generator is None:
            raise LoadError("no block is prepared: send `prepare` before `run`")
        gc.disable()  # objects of a block live until it ends, so a collection would free nothing
        try:
            recording = await generator.run()
        finally:
            gc.enable()
        header = {
            "samples": len(recording),
            "opened": recording.opened,
            "late": len(recording.late_ns),
            "around": len(recording.around),
            "began_ns": recording.began_ns,
        }
        columns = b"".join(getattr(recording, name).tobytes() for name in (*Recording.COLUMNS, "late_ns", "around"))
        self._answer(json.dumps(header).encode() + b"\n" + columns)

    def _find(self, order: Order) -> tuple[Workload, Variant]:
        if order.file not in self._files:
            self._files[order.file] = load_workloads(Path(order.file))
        file = self._files[order.file]
        return file.workload(order.workload), file.variant(order.variant)

    def close(self) -> None:
        for generator in self._generators.values():
            generator.close()


def _walk_pages(order: Order, walk: Walk, prefix: str, headers: dict[str, str], pages: int) -> list[str]:
    """Fetch the given number of pages in order on one connection; returns the cursor that each response contains."""
    kind = http.client.HTTPSConnection if order.target.tls else http.client.HTTPConnection
    connection = kind(order.target.host, order.target.port, timeout=WALK_TIMEOUT_S)
    cursors: list[str] = []
    path = walk.start
    try:
        while len(cursors) < pages:
            connection.request("GET", prefix + path, headers=headers)
            response = connection.getresponse()
            body = response.read()
            where = f"GET {prefix}{path} (page {len(cursors) + 1} of the walk)"
            if response.status != 200:
                raise LoadError(f"{where} answered {response.status}: {body[:300].decode(errors='replace')}")
            try:
                cursor = pick(json.loads(body), walk.cursor)
            except (ValueError, KeyError):
                cursor = None
            if cursor is None:
                raise LoadError(f"{where} has no {walk.cursor!r}; lower page_depth: it exceeds the number of rows")
            cursors.append(str(cursor))
            path = walk.next.render({"cursor": quote(str(cursor), safe="")})
    except OSError as error:
        raise LoadError(f"{order.target.authority}: fetching pages failed: {error}") from error
    finally:
        connection.close()
    return cursors


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    output = sys.stdout.buffer

    def answer(data: bytes) -> None:
        output.write(data)
        output.flush()

    server = _Server(answer)
    busy: asyncio.Task[None] | None = None
    while line := await commands.readline():
        if busy is not None:
            await busy
        busy = asyncio.create_task(server.execute(line))
    os._exit(0)  # the session has ended, so a block in flight is worthless: skip all cleanup


def main() -> None:
    # A generator that sends late measures its own delay: among busy environments it wakes three times as late without this.
    time_slice.shorten_current_thread()
    try:
        import uvloop
    except ImportError:  # uvloop is not available on every platform; the generator then uses three times the CPU
        asyncio.run(_serve())
    else:
        uvloop.run(_serve())


if __name__ == "__main__":
    main()
