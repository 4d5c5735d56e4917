"""The shop behind a pool that shares connections by transaction: a real PgBouncer, and what goes over the wire to it.

What stands for RDS Proxy here is the contract they share: the next transaction may meet another session.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from warmfront.backing.ports import on_free_port
from warmfront.backing.postgres import Postgres

from shared.kit import environment
from shared.kit.idempotency import Claim
from shared.kit.pool import Connection
from shared.kit.postgres import Database
from shared.kit.problems import VersionMismatch
from shared.shop import catalog, orders
from shared.shop.contract import NewOrder, NewOrderLine, ProductChange
from tests.functions.conftest import Function, load, shop_environ
from tests.shared.conftest import Measured, settings_with, soon

EXECUTABLE = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
SESSIONS, ENVIRONMENTS = 2, 8

needs_pgbouncer = pytest.mark.skipif(EXECUTABLE is None, reason="no pgbouncer here (Debian: apt-get install pgbouncer)")


def through(server: Postgres, port: int) -> str:
    parts = urlsplit(server.url("pooled"))
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()


@pytest.fixture
def pooler(server: Postgres, migrate: Function, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the pooled database, through a PgBouncer that has two sessions for everybody."""
    migrate.invoke({"action": "reset", "databases": ["pooled"]})
    folder = tmp_path_factory.mktemp("pgbouncer")
    process, port = on_free_port(lambda port: (start(server, folder, port), port))
    try:
        yield through(server, port)
    finally:
        process.terminate()
        process.wait(10)
        assert process.stderr is not None
        process.stderr.close()


def start(server: Postgres, folder: Path, port: int) -> "subprocess.Popen[str]":
    assert EXECUTABLE is not None
    parts = urlsplit(server.url("pooled"))
    target = f"host=127.0.0.1 port={parts.port} user={parts.username} password={parts.password}"
    lines = ["[databases]", f"pooled = {target}", "[pgbouncer]", "listen_addr = 127.0.0.1", f"listen_port = {port}"]
    lines += ["unix_socket_dir =", "auth_type = any", "pool_mode = transaction", f"default_pool_size = {SESSIONS}"]
    # Held open, because it is no longer root when it reads it.
    with (folder / "pgbouncer.ini").open("w+") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        as_root = ["-u", "nobody"] if os.geteuid() == 0 else []
        process = subprocess.Popen(
            [EXECUTABLE, *as_root, f"/proc/self/fd/{file.fileno()}"],
            pass_fds=[file.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stderr is not None
    said = ""
    while line := process.stderr.readline():
        said += line
        if "process up" in line:
            return process
    process.wait(10)
    process.stderr.close()
    raise OSError(98, said)


async def shopping(database: Database, number: int) -> None:
    """Each kind of statement that the shop has, refusals within a transaction included."""
    product = await database.run_idempotent(soon(), catalog.product, 1 + number)
    await database.run_idempotent(soon(), catalog.page, 0, 5)
    order = NewOrder(1, [NewOrderLine(100 + number, 1)])
    claim = Claim.of("POST /pooled/orders", f"key {number}", b"", ttl_h=1)
    placed = await database.run_idempotent(soon(), orders.place, claim, "alice", order)
    assert (await database.run_idempotent(soon(), orders.place, claim, "alice", order)).body == placed.body
    await database.run_idempotent(soon(), orders.order, int(placed.resource), "alice")
    await database.run_once(soon(), catalog.change, product.id, [1], ProductChange(stock=product.stock + 1))
    with pytest.raises(VersionMismatch):
        await database.run_once(soon(), catalog.change, product.id, [1], ProductChange(stock=0))


def many_at_once(url: str, **settings: str) -> list[BaseException | None]:
    async def environment_of(number: int) -> None:
        database = Database(settings_with(DATABASE_URL=url, **settings).postgres, measure=Measured())
        try:
            for _ in range(5):
                await shopping(database, number)
                number += ENVIRONMENTS
        finally:
            await database.aclose()

    async def whole() -> list[BaseException | None]:
        return await asyncio.gather(*(environment_of(n) for n in range(ENVIRONMENTS)), return_exceptions=True)

    return asyncio.run(whole())


@needs_pgbouncer
def test_environments_that_share_sessions_do_not_meet_each_others_statements(pooler: str) -> None:
    assert many_at_once(pooler, DB_SSL="disable", DB_MODE="proxy") == [None] * ENVIRONMENTS


@needs_pgbouncer
def test_the_same_with_a_mind_of_their_own_does_not_work(pooler: str) -> None:
    """The control: what direct mode does for a session is refused at the door, and its statements are not found."""
    errors = many_at_once(pooler, DB_SSL="disable", DB_MODE="direct")
    assert all(errors)

    async def remembering(connection: Connection) -> None:
        for _ in range(20):
            await connection.fetchval("SELECT $1::int", 1)

    async def test() -> list[Any]:
        several = [await asyncpg.connect(pooler, ssl=False) for _ in range(4)]
        done = await asyncio.gather(*(remembering(each) for each in several), return_exceptions=True)
        for each in several:
            each.terminate()
        return done

    named = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
    assert any(isinstance(error, named) for error in asyncio.run(test()))


class Wire:
    """Passes one connection after the other on to the server, and keeps what the client said."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.said: list[bytes] = []
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def messages(self) -> Iterator[tuple[str, bytes]]:
        """Kind and content of each; the start-up message has none."""
        for said in self.said:
            size = struct.unpack_from("!I", said)[0]
            yield "", said[8:size]
            at = size
            while at < len(said):
                size = struct.unpack_from("!I", said, at + 1)[0]
                yield chr(said[at]), said[at + 5 : at + 1 + size]
                at += 1 + size

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += (client, server)
                self.said.append(b"")
                for source, sink, number in ((client, server, len(self.said) - 1), (server, client, None)):
                    self._threads.append(threading.Thread(target=self._pass_on, args=(source, sink, number)))
                    self._threads[-1].start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, number: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if number is not None:
                    self.said[number] += data
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(server: Postgres) -> Iterator[Wire]:
    wire = Wire(("127.0.0.1", urlsplit(server.url("pooled")).port or 0))
    yield wire
    environment.reset()
    wire.close()


# docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-proxy-pinning.html
PINNING = ("SET", "RESET", "PREPARE", "DISCARD", "DEALLOCATE", "EXECUTE", "DECLARE", "LISTEN", "LOCK", "BEGIN")
CALLS = ("PG_ADVISORY_LOCK(", "SET_CONFIG(", "NEXTVAL(", "SETVAL(", " TEMP ", " TEMPORARY ")


def pins(text: str) -> bool:
    return text.split()[0] in PINNING or any(call in text for call in CALLS)


def a_bit_of_everything(function: Function) -> None:
    for _ in range(2):
        assert function.get("/products/1").status == 200
        assert function.get("/products").status == 200
        assert function.get("/orders/1").status == 200
        body = {"customer_id": 1, "lines": [{"product_id": 1, "quantity": 1}]}
        assert function.request("POST", "/orders", body=body, headers={"idempotency-key": "once"}).status == 201
        change = function.request("PATCH", "/products/2", body={"stock": 3}, headers={"if-match": '"1"'})
        assert change.status in (200, 412)


def test_nothing_on_the_wire_to_a_proxy_pins_a_session(server: Postgres, migrate: Function, wire: Wire) -> None:
    migrate.invoke({"action": "reset", "databases": ["pooled"]})
    url = through(server, wire.listener.getsockname()[1])
    environ = shop_environ(server, "pooled") | {"DATABASE_URL": url, "SHOP_DB_SSL": "disable"}
    a_bit_of_everything(load("pooled", "functions.pooled.app", environ | {"SHOP_DB_MODE": "proxy"}))
    environment.reset()
    messages = list(wire.messages())
    started = [content.split(b"\0")[::2] for kind, content in messages if not kind]
    assert started
    assert all(set(names) <= {b"user", b"database", b"client_encoding", b""} for names in started)
    parsed = [content for kind, content in messages if kind == "P"]
    assert parsed
    assert all(content.startswith(b"\0") for content in parsed), "a statement with a name"
    texts = [content.strip(b"\0").decode().upper() for kind, content in messages if kind in "PQ" and kind]
    assert len(texts) >= 10
    assert not [text for text in texts if pins(text)]


def test_direct_mode_would_have_pinned_it(server: Postgres, migrate: Function, wire: Wire) -> None:
    """The control of the test above: it sees names and settings where there are some."""
    migrate.invoke({"action": "reset", "databases": ["pooled"]})
    url = through(server, wire.listener.getsockname()[1])
    a_bit_of_everything(load("pooled", "functions.pooled.app", shop_environ(server, "pooled") | {"DATABASE_URL": url}))
    environment.reset()
    messages = list(wire.messages())
    assert any(b"statement_timeout" in content for kind, content in messages if not kind)
    assert any(content.startswith(b"__asyncpg_stmt") for kind, content in messages if kind == "P")


@pytest.fixture
def proxied(server: Postgres, migrate: Function) -> Iterator[str]:
    """A role that migrate made for those behind a proxy."""
    admin_url = urlsplit(server.admin_url("postgres"))
    environ = {**migrate.environ, "DATABASE_URL": admin_url.geturl(), "SHOP_DB_ROLE": "proxied"}
    as_owner = load("migrate", "functions.migrate.app", {**environ, "SHOP_STATEMENT_TIMEOUT_MS": "1234"})
    for _ in range(2):
        report = as_owner.invoke({"action": "apply", "databases": ["behind"]})
    assert report["role"] == {"name": "proxied", "made": False}
    yield admin_url._replace(path="/behind").geturl()

    async def clean() -> None:
        admin = await asyncpg.connect(server.admin_url())
        await admin.execute("DROP DATABASE behind WITH (FORCE)")
        await admin.execute("DROP OWNED BY proxied")
        await admin.execute("DROP ROLE proxied")
        await admin.close()

    asyncio.run(clean())


def test_the_role_behind_a_proxy_is_held_to_the_time_outs_and_may_change_rows_but_no_tables(
    proxied: str,
) -> None:
    async def test() -> None:
        owner = await asyncpg.connect(proxied)
        await owner.execute("ALTER ROLE proxied PASSWORD 'for-this-test'")
        await owner.execute(
            "INSERT INTO products (id, name, description, price_cents, stock) VALUES (1, 'P', '', 1, 9)"
        )
        await owner.execute("CREATE TABLE later (id int)")
        parts = urlsplit(proxied)
        url = parts._replace(netloc=f"proxied:for-this-test@{parts.hostname}:{parts.port}").geturl()
        database = Database(
            settings_with(DATABASE_URL=url, DB_MODE="proxy", DB_SSL="disable").postgres, measure=Measured()
        )

        async def settings(connection: Connection) -> list[str]:
            names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "jit")
            return [await connection.fetchval(f"SHOW {name}") for name in names]

        async def forbidden(connection: Connection) -> None:
            await connection.execute("ALTER TABLE products ADD COLUMN more int")

        assert await database.run_idempotent(soon(), settings) == ["1234ms", "500ms", "5s", "off"]
        claim = Claim.of("POST /pooled/orders", "key", b"", ttl_h=1)
        assert (
            await database.run_once(soon(), orders.place_with_event, claim, "alice", NewOrder(1, [NewOrderLine(1, 2)]))
        )[1] == {1: 2}
        assert await database.run_once(soon(), lambda connection: connection.fetch("SELECT FROM later")) == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.run_once(soon(), forbidden)
        await database.aclose()
        await owner.close()

    asyncio.run(test())
