"""The client of Redis against servers that fail over, load, die, encrypt or are a cluster."""

import asyncio
import contextlib
import datetime
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from warmfront.backing.ports import on_free_port
from warmfront.backing.redis import Redis as Server
from warmfront.backing.redis import Server as Process
from warmfront.backing.redis import find_program
from warmfront.backing.watcher import get_watcher

from shared.kit import telemetry
from shared.kit.circuit import State
from shared.kit.redis import UNAVAILABLE, Redis, Refused, Script, Unreachable
from shared.kit.redis_link import Single, TlsSocket, link_to
from shared.kit.redis_settings import BadRedisUrl, RedisSettings

PATIENCE_S = 20.0
# A machine that is busy with other tests is no finding; where time-outs are the subject, tests set their own.
PATIENT = {"connect_timeout_s": 5.0, "timeout_s": 5.0}
ADDER = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start({}, origin="wheel") as server:
        yield server


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    with Server.start({}, origin="wheel") as server:
        yield server


def run[T](url: str, test: Callable[[Redis], Coroutine[Any, Any, T]], **settings: Any) -> T:
    """`test` with a client of its own."""

    async def whole() -> T:
        redis = client(url, **settings)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await test(redis)
        finally:
            await redis.aclose()

    return asyncio.run(whole())


def client(url: str, **settings: Any) -> Redis:
    return Redis(RedisSettings(url=url, **(PATIENT | settings)), measure=lambda *_: None)


def connected(url: str, **settings: Any) -> contextlib.aclosing[Redis]:
    """As a context: an open connection would keep the servers of these tests from closing."""
    return contextlib.aclosing(client(url, **settings))


async def ask(redis: Redis, *words: str | bytes | int) -> Any:
    (reply,) = await redis.ask(words, remaining_s=PATIENCE_S)
    return reply


# ------------------------------------------------------------------------------------ servers that cannot serve for now


@contextlib.asynccontextmanager
async def scripted(*replies: bytes) -> AsyncIterator[tuple[str, list[int]]]:
    """A server whose nth connection answers every command with the nth reply; and how many commands each got."""
    asked: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(asked)
        asked.append(0)
        while await reader.read(65_536):
            asked[number] += 1
            writer.write(replies[min(number, len(replies) - 1)])
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0", asked


@pytest.mark.parametrize("code", sorted(UNAVAILABLE))
def test_a_server_that_cannot_serve_now_loses_its_connection_and_opens_the_circuit(code: str) -> None:
    async def test() -> None:
        async with scripted(f"-{code} whatever the reason is\r\n".encode()) as (url, asked), connected(url) as redis:
            for _ in range(3):
                with pytest.raises(Unreachable):
                    await ask(redis, "GET", "k")
            assert redis.breaker.state is State.OPEN
            assert asked == [1] * 6, "each command has a connection of its own, and is sent twice"

    asyncio.run(test())


@pytest.mark.parametrize("code", sorted(UNAVAILABLE))
def test_the_next_node_behind_the_address_answers_in_the_same_request(code: str) -> None:
    async def test() -> None:
        failing = f"-{code} whatever the reason is\r\n".encode()
        async with scripted(failing, b"$1\r\nv\r\n") as (url, asked), connected(url) as redis:
            assert await ask(redis, "GET", "k") == b"v"
            assert await ask(redis, "GET", "k") == b"v"
            assert asked == [1, 2]
            assert redis.breaker.snapshot().failures == 0

    asyncio.run(test())


@pytest.mark.parametrize("code", ["OOM", "WRONGTYPE", "NOPERM", "ERR"])
def test_an_error_of_one_command_keeps_the_connection_and_the_circuit(code: str) -> None:
    async def test() -> None:
        async with scripted(f"-{code} it quotes a secret\r\n".encode()) as (url, asked), connected(url) as redis:
            for _ in range(5):
                with pytest.raises(Refused, match=f"^{code}$"):
                    await ask(redis, "GET", "k")
            assert redis.breaker.state is State.CLOSED
            assert asked == [5]

    asyncio.run(test())


class Address:
    """A name that points to one server at a time, as DNS does; what is open stays with the server it went to."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(pump(reader, back), pump(there, writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


def test_a_replica_that_was_the_primary_costs_no_request(server: Server, other: Server) -> None:
    """A failover: the old primary goes on as a replica, and the address points to the new one."""

    def administer(of: Server, *commands: tuple[str, ...]) -> None:
        async def all_of_them(redis: Redis) -> None:
            for command in commands:
                await ask(redis, *command)

        run(of.url(), all_of_them)

    async def test() -> None:
        address = Address(server.port)
        listener = await asyncio.start_server(address.serve, "127.0.0.1", 0)
        name = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        password = server.url().partition("@")[0].rpartition(":")[2]
        async with listener, connected(f"redis://:{password}@{name}/0") as redis:
            await ask(redis, "SET", "k", "before")
            address.port = other.port
            change = ("CONFIG", "SET", "requirepass", password)  # both nodes of a group have one password
            await asyncio.to_thread(administer, other, change)
            await asyncio.to_thread(administer, server, ("REPLICAOF", "127.0.0.1", str(other.port)))
            try:
                assert await ask(redis, "SET", "k", "after") is not None
                assert await ask(redis, "GET", "k") == b"after"
                assert redis.breaker.snapshot().failures == 0
            finally:
                await asyncio.to_thread(administer, server, ("REPLICAOF", "NO", "ONE"))

    asyncio.run(test())


def test_a_replica_alone_is_an_outage_of_writes(server: Server) -> None:
    """Nothing points to a new primary (yet): the circuit opens, as it would for a server that is not there."""

    async def test(redis: Redis) -> None:
        await ask(redis, "REPLICAOF", "127.0.0.1", "1")
        try:
            for _ in range(3):
                with pytest.raises(Unreachable):
                    await ask(redis, "SET", "k", "v")
            assert redis.breaker.state is State.OPEN
        finally:
            own = client(server.url())
            await ask(own, "REPLICAOF", "NO", "ONE")
            await own.aclose()

    run(server.url(), test)


# ------------------------------------------------------------------------------------------------------- while frozen


def thawed(server: Server, meanwhile: Callable[[], Any], **settings: Any) -> tuple[Redis, list[Any], float]:
    """What two requests after the freeze got, and how long the first took. The loop does not run while frozen."""
    with asyncio.Runner() as runner:
        redis = client(server.url(), **settings)
        runner.run(ask(redis, "SET", "k", "v"))
        meanwhile()
        begun_s = time.monotonic()
        replies: list[Any] = []
        took_s = 0.0
        for _ in range(2):
            try:
                replies.append(runner.run(ask(redis, "GET", "k")))
            except Unreachable as error:
                replies.append(error)
            took_s = took_s or time.monotonic() - begun_s
        runner.run(redis.aclose())
    return redis, replies, took_s


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_died_and_came_back_during_a_freeze_costs_no_request(server: Server, mode: Any) -> None:
    redis, replies, _ = thawed(server, lambda: server.restart(mode))
    assert replies == [None, None], "answers of the new server, which has no keys"
    assert redis.breaker.snapshot().failures == 0


def test_a_server_that_died_during_a_freeze_and_stays_away_is_bounded() -> None:
    with Server.start({}, origin="wheel") as mortal:
        redis, replies, took_s = thawed(mortal, mortal.stop)
        assert all(isinstance(reply, Unreachable) for reply in replies)
        assert redis.breaker.state is State.OPEN
        assert took_s < PATIENT["connect_timeout_s"], "refused, and not waited for"


def test_a_connection_that_silently_vanished_costs_one_bounded_request() -> None:
    """No FIN and no RST arrived, as when a firewall forgot the flow: the first use waits its time-out and no longer."""

    async def test() -> None:
        silent = asyncio.Event()
        asked = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            while await reader.read(65_536):
                asked += 1
                if not silent.is_set():
                    writer.write(b"+OK\r\n")
            silent.clear()
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with (
            listener,
            connected(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0", timeout_s=0.2) as redis,
        ):
            await ask(redis, "SET", "k", "v")
            silent.set()
            with pytest.raises(Unreachable):
                await ask(redis, "GET", "k")
            assert asked == 2, "not repeated: its time was over"
            assert await ask(redis, "GET", "k") == b"OK"
            assert redis.breaker.snapshot().failures == 1

    asyncio.run(test())


def test_a_reply_that_arrived_while_the_process_was_paused_is_no_time_out(server: Server) -> None:
    """A process that is stopped in the middle of a request for longer than the time-out, and then goes on."""

    async def test(redis: Redis) -> None:
        await ask(redis, "SET", "k", "v")
        question = asyncio.create_task(ask(redis, "GET", "k"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - the whole process stands still
        assert await question == b"v"

    run(server.url(), test, timeout_s=0.2)


def test_replies_of_a_caller_that_gave_up_reach_nobody_else(server: Server) -> None:
    async def test(redis: Redis) -> None:
        for number in range(20):
            await ask(redis, "SET", f"n{number}", number)
        for steps in range(1, 15):
            given_up = asyncio.create_task(ask(redis, "GET", "n1"))
            for _ in range(steps):
                await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            assert await ask(redis, "GET", "n2") == b"2"
        assert redis.breaker.snapshot().failures == 0

    run(server.url(), test)


# ---------------------------------------------------------------------------------------------------------------- TLS


class Certificates:
    """A certificate for 127.0.0.1 that signs itself, and one of somebody else for the same address."""

    def __init__(self, folder: Path) -> None:
        self.ours, self.theirs, self.elsewhere = (
            self._made(folder / name, host)
            for name, host in (("ours", "127.0.0.1"), ("theirs", "127.0.0.1"), ("else", "127.0.0.2"))
        )

    @staticmethod
    def _made(path: Path, host: str) -> Path:
        import ipaddress

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.name)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        path.write_bytes(
            certificate.public_bytes(pem)
            + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextlib.asynccontextmanager
async def encrypted(server: Server, certificate: Path) -> AsyncIterator[str]:
    """TLS in front of the server, since the wheel's is built without; the URL of it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    address = Address(server.port)
    listener = await asyncio.start_server(address.serve, "127.0.0.1", 0, ssl=context)
    password = server.url().partition("@")[0].rpartition(":")[2]
    async with listener:
        yield f"rediss://:{password}@127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"


@pytest.mark.parametrize(
    ("certificate", "query", "trusted"),
    [
        ("ours", "?ssl_ca_certs={ca}", True),
        ("ours", "", False),
        ("theirs", "?ssl_ca_certs={ca}", False),
        ("elsewhere", "?ssl_ca_certs={elsewhere}", False),
        ("elsewhere", "?ssl_ca_certs={elsewhere}&ssl_check_hostname=false", True),
        ("theirs", "?ssl_cert_reqs=none", True),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_tls_is_verified_unless_the_url_says_otherwise(
    server: Server, certificates: Certificates, certificate: str, query: str, trusted: bool
) -> None:
    async def test() -> None:
        options = query.format(ca=certificates.ours, elsewhere=certificates.elsewhere)
        async with encrypted(server, getattr(certificates, certificate)) as url, connected(url + options) as redis:
            if trusted:
                await ask(redis, "SET", "k", "secret")
                assert await ask(redis, "GET", "k") == b"secret"
            else:
                with pytest.raises(Unreachable):
                    await ask(redis, "SET", "k", "secret")

    asyncio.run(test())


def test_an_idle_encrypted_connection_is_used_again(server: Server, certificates: Certificates) -> None:
    """Session tickets that TLS 1.3 sends after the handshake are no news of an end."""

    async def test() -> None:
        async with (
            encrypted(server, certificates.ours) as url,
            connected(f"{url}?ssl_ca_certs={certificates.ours}") as redis,
        ):
            first = await ask(redis, "CLIENT", "ID")
            for _ in range(5):
                await asyncio.sleep(0.01)
                assert await ask(redis, "CLIENT", "ID") == first

    asyncio.run(test())


def test_equal_options_share_one_tls_context_made_before_the_first_connection(certificates: Certificates) -> None:
    url = f"rediss://127.0.0.1:1/0?ssl_ca_certs={certificates.ours}"
    contexts = []
    for address in (url, url, url.replace("127.0.0.1", "127.0.0.2"), url + "&ssl_cert_reqs=none"):
        link = link_to(RedisSettings(url=address), None)
        assert isinstance(link, Single)
        assert isinstance(link.connection, TlsSocket)
        contexts.append(link.connection.ssl_context.context)
    assert all(contexts)
    assert contexts[0] is contexts[1] is contexts[2]
    assert contexts[3] is not contexts[0]


# ------------------------------------------------------------------------------------------------------------- the URL


def test_user_database_and_name_of_the_url_are_kept(server: Server) -> None:
    async def test(redis: Redis) -> None:
        assert b" db=3 " in (listed := await ask(redis, "CLIENT", "LIST", "ID", await ask(redis, "CLIENT", "ID")))
        assert b" name=shop " in listed

    run(server.url(3) + "?client_name=shop", test)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:hidden@localhost/0?socket_timeout=9", "sets socket_timeout"),
        ("redis://:hidden@localhost/0?decode_responses=1", "sets decode_responses"),
        ("redis://:hidden@localhost/0?ssl_ca_certs=/x", "ssl_ca_certs"),
        ("redis://:hidden@localhost/0?colour=red", "colour"),
        ("redis://:hidden@localhost/0?db=x", "'db'"),
        ("rediss://:hidden@localhost/0?ssl_ca_certs=/there/is/none", "No such file"),
        ("redis://:hid/den@localhost/0", "malformed"),
        ("http://:hidden@localhost/0", "cannot be used"),
    ],
)
def test_an_option_that_cannot_be_used_is_named_and_the_password_is_not(url: str, said: str) -> None:
    with pytest.raises(BadRedisUrl, match=said) as refused:
        client(url)
    assert "hid" not in str(refused.value)
    assert "hidden" not in repr(RedisSettings(url=url))


def test_credentials_of_a_provider_replace_those_of_the_url(server: Server) -> None:
    from redis.credentials import UsernamePasswordCredentialProvider

    password = server.url().partition("@")[0].rpartition(":")[2]

    async def test() -> None:
        settings = RedisSettings(url=server.url().replace(password, "outdated"), timeout_s=PATIENCE_S)
        provider = UsernamePasswordCredentialProvider(None, password)
        redis = Redis(settings, credentials=provider, measure=lambda *_: None)
        assert await ask(redis, "PING") == b"PONG"
        await redis.aclose()

    asyncio.run(test())


def test_a_word_of_a_wrong_type_is_the_callers_mistake_and_no_outage(server: Server) -> None:
    async def test(redis: Redis) -> None:
        with pytest.raises(TypeError):
            await redis.ask(("SET", "k", None), remaining_s=PATIENCE_S)  # type: ignore[arg-type]
        assert redis.breaker.snapshot().calls == 0

    run(server.url(), test)


# ------------------------------------------------------------------------------------------------------------- a cluster


class Nodes:
    """A cluster of two primaries."""

    def __init__(self, folder: Path) -> None:
        program, self.processes = find_program({}, system=False), []
        for name in ("a", "b"):
            (work := folder / name).mkdir()
            with socket.create_server(("127.0.0.1", 0)) as free:
                bus = free.getsockname()[1]
            configuration = f'bind 127.0.0.1\ndir {work}\nsave ""\ncluster-enabled yes\ncluster-port {bus}\n'
            process = Process(program, work, configuration, get_watcher())
            on_free_port(process.start)
            self.processes.append(process)
        self.urls = [f"redis://127.0.0.1:{process.port}/0" for process in self.processes]
        asyncio.run(self._join())

    async def _join(self) -> None:
        a, b = (client(url) for url in self.urls)
        await ask(a, "CLUSTER", "ADDSLOTSRANGE", 0, 8_191)
        await ask(b, "CLUSTER", "ADDSLOTSRANGE", 8_192, 16_383)
        bus = (await ask(b, "CONFIG", "GET", "cluster-port"))[1]
        await ask(a, "CLUSTER", "MEET", "127.0.0.1", self.processes[1].port, bus)
        async with asyncio.timeout(PATIENCE_S):
            for node in (a, b):
                while b"cluster_state:ok" not in await ask(node, "CLUSTER", "INFO"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        await a.aclose()
        await b.aclose()

    def stop(self) -> None:
        for process in self.processes:
            process.stop("immediate")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("cluster"))
    yield nodes
    nodes.stop()


def test_a_cluster_finds_the_node_of_each_key_and_script(nodes: Nodes) -> None:
    async def test(redis: Redis) -> None:
        for number in range(20):
            assert await redis.run(ADDER, ((f"n{number}",), (number,)), remaining_s=PATIENCE_S) == [number]
        replies = await redis.ask(*(("GET", f"n{number}") for number in range(20)), remaining_s=PATIENCE_S)
        assert replies == [b"%d" % number for number in range(20)]
        calls = [((f"n{number}",), (1,)) for number in range(20)]
        assert await redis.run(ADDER, *calls, remaining_s=PATIENCE_S) == [number + 1 for number in range(20)]
        with pytest.raises(Refused, match="WRONGTYPE"):
            await ask(redis, "LPUSH", "n1", "x")
        assert redis.breaker.snapshot().failures == 0
        assert await redis.delete_matching("n*") == 20

    run(nodes.urls[0], test, cluster=True)


def test_a_cluster_whose_node_died_during_a_freeze_costs_no_request(nodes: Nodes) -> None:
    """And whose connections ended: the node's own, and the one to the node that answered."""
    with asyncio.Runner() as runner:
        redis = client(nodes.urls[0], cluster=True)
        for key in ("a", "b", "c"):
            runner.run(ask(redis, "SET", key, "v"))

        async def end_all() -> None:
            for url in nodes.urls:
                node = client(url)
                await ask(node, "CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal")
                await node.aclose()

        asyncio.run(end_all())
        for key in ("a", "b", "c"):
            assert runner.run(ask(redis, "GET", key)) == b"v"
        assert redis.breaker.snapshot().failures == 0
        runner.run(redis.aclose())


def test_a_cluster_that_lost_a_node_is_an_outage_of_its_slots_within_the_bound(nodes: Nodes) -> None:
    async def test(redis: Redis) -> None:
        keys = ["a", "b", "c", "d", "e", "f"]
        before = [await ask(redis, "SET", key, "v") for key in keys]
        assert all(before)
        nodes.processes[1].stop("immediate")
        try:
            outcomes = []
            for key in keys:
                try:
                    outcomes.append(await ask(redis, "GET", key))
                except Unreachable as error:
                    outcomes.append(error)
            assert any(isinstance(outcome, Unreachable) for outcome in outcomes)
        finally:
            nodes.processes[1].start(nodes.processes[1].port)

    run(nodes.urls[0], test, cluster=True)


def test_a_cluster_spoken_to_as_one_server_says_which_setting_is_wrong(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(redis: Redis) -> None:
        with pytest.raises(Refused, match="MOVED"):
            await redis.ask(*(("SET", key, "v") for key in "abcdefgh"), remaining_s=PATIENCE_S)

    run(nodes.urls[0], test)
    assert telemetry.REDIS_IS_A_CLUSTER in [record.message for record in caplog.records]


def test_one_server_spoken_to_as_a_cluster_is_an_outage(server: Server) -> None:
    async def test(redis: Redis) -> None:
        with pytest.raises(Unreachable):
            await ask(redis, "SET", "k", "v")

    run(server.url(), test, cluster=True)
