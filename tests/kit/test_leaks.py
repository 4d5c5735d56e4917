"""Hostile requests, and servers that are down: no answer and no line of a log tells a secret, an address, SQL or code."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from warmfront.lab.emulator_process import EmulatorProcess
from warmfront.lab.fault_actions import OnProxy, applied
from warmfront.lab.http_client import Reply
from warmfront.lab.postgres_faults import BackendsTerminated, LockHeld
from warmfront.lab.scene import LogPart
from warmfront.lab.stage import POSTGRES, REDIS
from warmfront.lab.tcp_faults import TcpFault

from tests.emulator.serving import serve
from tests.kit.bench import CARELESS, PATIENCE_S, ROOT, TEMPLATE, Bench
from tests.kit.leaks import EVERYWHERE, IN_ANSWERS, Leak, leaks

TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtYWxsb3J5In0.not-a-signature"
KEY = "a-clients-own-idempotency-key"
type Wish = tuple[str, str, dict[str, str], bytes]


def order(**changes: object) -> bytes:
    line = {"product_id": 1, "quantity": 1} | changes
    return json.dumps({"customer_id": 1, "lines": [line]}).encode()


HOSTILE: Sequence[Wish] = [
    ("GET", "/products/1%27%20OR%20%271%27%3D%271", {}, b""),
    ("GET", "/products/1;DROP%20TABLE%20users--", {}, b""),
    ("GET", "/products/99999999999999999999999", {}, b""),
    ("GET", "/products/%00%ff%F0%9F%92%A3", {}, b""),
    ("GET", "/products?limit=1%3BSELECT%201&cursor=%00", {}, b""),
    ("GET", "/products?cursor=AQAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAA", {}, b""),
    ("GET", "/orders/..%2f..%2fetc%2fpasswd", {}, b""),
    ("POST", "/orders", {}, b"{"),
    ("POST", "/orders", {}, b"[" * 40_000),
    ("POST", "/orders", {}, b'{"customer_id": 1, "lines": [' + b"0," * 200_000 + b"0]}"),
    ("POST", "/orders", {}, b"\xff\xfe\x00"),
    ("POST", "/orders", {}, order(quantity=-1)),
    ("POST", "/orders", {}, order(quantity="1; SELECT 1")),
    ("POST", "/orders", {}, order(product_id=999_999_999)),
    ("POST", "/orders", {"Idempotency-Key": KEY}, order()),
    ("POST", "/orders", {"Idempotency-Key": KEY}, order(quantity=2)),
    ("POST", "/orders", {"Idempotency-Key": "'" * 300}, order()),
    ("PATCH", "/products/1", {"If-Match": '"1"; SELECT 1'}, b'{"name": "x"}'),
    ("PATCH", "/products/1", {"If-Match": "*"}, b'{"name": "\\u0000"}'),
    ("PATCH", "/products/1", {}, b'{"price_cents": 1}'),
    ("GET", "/products/1", {"If-None-Match": "'" * 5_000}, b""),
    ("GET", "/products/1", {}, b""),
    ("DELETE", "/products/1", {}, b""),
    ("POST", "/orders", {"Content-Type": "text/xml"}, b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>"),
]


async def ask_all(emulator: EmulatorProcess, variant: str) -> list[tuple[str, Reply]]:
    client, replies = emulator.client(), []
    for method, path, headers, body in HOSTILE:
        sent = {"Authorization": f"Bearer {TOKEN}", **headers}
        reply = await client.request(method, f"/{variant}{path}", headers=sent, body=body, timeout_s=PATIENCE_S)
        replies.append((f"{method} {path[:40]} -> {reply.status}", reply))
    await client.close()
    return replies


@asynccontextmanager
async def down(bench: Bench) -> AsyncIterator[None]:
    """Neither server takes a connection, and those that were open are gone."""
    proxies = bench.stage.proxies
    async with AsyncExitStack() as stack:
        for server in (POSTGRES, REDIS):
            for kind in ("refuse", "reset"):
                await stack.enter_async_context(applied(OnProxy(proxies, server, TcpFault(kind))))
        yield


def secrets_of(bench: Bench) -> dict[str, str]:
    urls = {"Postgres": bench.stage.postgres.url("x"), "the admin": bench.stage.postgres.admin_url()}
    urls |= {"Redis": bench.stage.redis.url()}
    passwords = {f"the password of {name}": unquote(urlsplit(url).password or "") for name, url in urls.items()}
    assert all(passwords.values())
    return {**passwords, "a token": TOKEN, "the cursor's key": "local-cursor-signing-key"}


def told(reply: Reply) -> str:
    return "\n".join([*(f"{name}: {value}" for name, value in reply.headers.items()), reply.body.decode("latin-1")])


async def invocations(emulator: EmulatorProcess, variant: str) -> int:
    return int((await emulator.state())["functions"][variant.capitalize()]["invocations"])


async def logged(log: LogPart, pattern: str, times: int) -> str:
    """The log, once it has so many of these lines: it is written a moment after the answer."""
    assert times > 0
    async with asyncio.timeout(PATIENCE_S):
        while log.count(pattern) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return log.text()


def found_in(bench: Bench, replies: Sequence[tuple[str, Reply]], log: str) -> list[Leak]:
    secrets = secrets_of(bench)
    answers = [(where, told(reply)) for where, reply in replies]
    lines = [("log", line) for line in log.splitlines()]
    return [*leaks(answers, secrets, answers=True), *leaks(lines, secrets, answers=False)]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["pooled", "distributed"])
def test_nothing_is_told_whatever_is_asked_and_whatever_is_down(bench: Bench, variant: str) -> None:
    async def hostile() -> list[Leak]:
        emulator = await bench.serve()
        await bench.seed(variant)
        log, before = LogPart(emulator.log_file), await invocations(emulator, variant)
        replies = await ask_all(emulator, variant)
        assert [where for where, reply in replies if reply.status >= 500] == []
        async with down(bench):
            ill = await ask_all(emulator, variant)
        assert {reply.status for _, reply in ill if reply.status >= 500} == {503}
        await BackendsTerminated(bench.stage.postgres.admin_url(), role="app").apply()
        locked = LockHeld(bench.stage.postgres.admin_url(variant), "SELECT FROM products WHERE id = 1 FOR UPDATE")
        async with applied(locked):
            late = await ask_all(emulator, variant)
        text = await logged(log, r"platform\.report", await invocations(emulator, variant) - before)
        return found_in(bench, [*replies, *ill, *late], text)

    assert bench.run(hostile(), within_s=60) == []


@pytest.mark.stress
def test_a_helpful_error_report_is_seen_to_tell(bench: Bench) -> None:
    """The control: somebody prints the environment when the database is down."""

    async def careless() -> set[str]:
        emulator = await bench.serve(CARELESS)
        log = LogPart(emulator.log_file)
        async with down(bench):
            client = emulator.client()
            reply = await client.request("GET", "/careless/secret", timeout_s=PATIENCE_S)
            await client.close()
        text = await logged(log, r"\bREPORT RequestId\b", 1)
        return {leak.kind for leak in found_in(bench, [("secret", reply)], text)}

    assert {"the password of Postgres", "the password of Redis", "a DSN"} <= bench.run(careless(), within_s=60)


@pytest.mark.stress
def test_a_wrong_token_is_refused_and_told_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    log = tmp_path / "functions.log"
    with serve(TEMPLATE, "--enforce-auth", "--trust-tokens", "--log-file", str(log), "--no-event-sources") as served:
        import http.client

        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=PATIENCE_S)
        for token in (TOKEN, "", "x" * 2_000, "a.b.c"):
            connection.request("POST", "/pooled/orders", order(), {"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            text = f"{response.getheaders()} {response.read().decode()}"
            assert response.status == 401, text
            assert list(leaks([("answer", text)], {"the token": token} if token else {}, answers=True)) == []
        connection.close()
        said = "\n".join(served.lines) + (log.read_text() if log.exists() else "")
    assert TOKEN not in said


SAYS = {
    "a DSN": "cannot connect to postgresql://app@10.0.0.1",
    "SQL": "SELECT id, stock FROM products WHERE id = 1",
    "a driver's message": 'syntax error at or near "OR"',
    "a stack trace": "Traceback (most recent call last):",
    "a source file": "catalog.py:35 product",
    "a module": "asyncpg.exceptions",
    "a table": "duplicate key in idempotency_keys",
}


@pytest.mark.parametrize("kind", SAYS)
def test_what_must_not_be_told_is_found(kind: str) -> None:
    assert kind in {leak.kind for leak in leaks([("", SAYS[kind])], {}, answers=True)}
    found_in_a_log = {leak.kind for leak in leaks([("", SAYS[kind])], {}, answers=False)}
    assert (kind in found_in_a_log) == (kind in EVERYWHERE)
    assert SAYS.keys() == EVERYWHERE.keys() | IN_ANSWERS.keys()


def test_what_an_honest_answer_says_is_no_leak() -> None:
    problem = {
        "type": "urn:warmfront:problem:not-found",
        "title": "No such resource",
        "detail": "There is nothing with the id \"1' OR '1'='1\" here.",
        "instance": "urn:uuid:8f507cfc",
    }
    answers = [
        ("", json.dumps(problem)),
        ("", '{"items": [], "next_cursor": null}'),
        ("", "location: /pooled/orders/7"),
    ]
    assert list(leaks(answers, {"a secret": "hunter2"}, answers=True)) == []
    assert [leak.kind for leak in leaks([("", "hunter2")], {"a secret": "hunter2"}, answers=False)] == ["a secret"]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-deploy.lock"])
def test_every_package_is_pinned_to_one_version_with_its_hashes(name: str) -> None:
    """What an audit of known weaknesses would start from; the audit itself needs a network and is not here."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    pins = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(pins) > 20
    assert [pin[:60] for pin in pins if "==" not in pin.split()[0] or "--hash=sha256:" not in pin] == []


def test_the_layer_pins_each_package_and_the_lock_has_the_same_versions() -> None:
    wanted = (ROOT / "shared" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split()[0] for line in wanted if line.strip() and not line.startswith("#")]
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert pins
    assert all("==" in pin for pin in pins)
    assert [pin for pin in pins if f"\n{pin} " not in locked] == []
