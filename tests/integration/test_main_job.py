"""The whole of it, as a stranger meets it: serve, curl, the Invoke API, and a benchmark that is killed."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

ROOT = Path(__file__).parents[2]
SMALL_SEED = {"action": "seed", "databases": ["naive", "pooled"], "products": 500, "orders": 500}
STARTUP_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


class Shop:
    """A served template.yaml and the calls a person would make with curl."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._host = url.removeprefix("http://")

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self._host, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(
            method, path, None if body is None else json.dumps(body), {"content-type": "application/json", **sent}
        )
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return Answer(
            response.status, {k.lower(): v for k, v in response.getheaders()}, json.loads(text) if text else None
        )

    def client(self) -> Any:
        return boto3.client(
            "lambda",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"max_attempts": 0}),
        )


def start_serving(*arguments: str) -> tuple["subprocess.Popen[str]", str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "warmfront", "serve", "--port", "0", "--ephemeral", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.match(r"Warmfront ready on (\S+)", line):
            return process, found[1]
    raise AssertionError("serve ended before it was ready:\n" + "".join(lines))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    log = tmp_path_factory.mktemp("serve") / "functions.log"
    process, url = start_serving("--log-file", str(log))
    try:
        shop = Shop(url)
        answer = shop.client().invoke(FunctionName="Migrate", Payload=json.dumps(SMALL_SEED))
        assert "FunctionError" not in answer, answer["Payload"].read()
        yield shop
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("variant", ["naive", "pooled"])
def test_the_five_routes_answer(shop: Shop, variant: str) -> None:
    product = shop.ask("GET", f"/{variant}/products/42")
    assert (product.status, product.body["id"]) == (200, 42)
    page = shop.ask("GET", f"/{variant}/products?limit=3")
    assert [each["id"] for each in page.body["items"]] == [1, 2, 3]
    second = shop.ask("GET", f"/{variant}/products?limit=3&cursor={page.body['next_cursor']}")
    assert [each["id"] for each in second.body["items"]] == [4, 5, 6]
    order = shop.ask("GET", f"/{variant}/orders/7")
    assert order.body["total_cents"] == sum(line["quantity"] * line["unit_price_cents"] for line in order.body["lines"])
    placed = shop.ask(
        "POST",
        f"/{variant}/orders",
        {"customer_id": 1, "lines": [{"product_id": 9, "quantity": 2}]},
        idempotency_key=str(uuid.uuid4()),
    )
    assert placed.status == 201
    changed = shop.ask(
        "PATCH", f"/{variant}/products/42", {"price_cents": 77}, if_match=product.headers.get("etag", "*")
    )
    assert (changed.status, changed.body["price_cents"]) == (200, 77)


def test_one_idempotency_key_makes_one_order(shop: Shop) -> None:
    order = {"customer_id": 5, "lines": [{"product_id": 3, "quantity": 1}]}
    key = str(uuid.uuid4())
    first = shop.ask("POST", "/pooled/orders", order, idempotency_key=key)
    second = shop.ask("POST", "/pooled/orders", order, idempotency_key=key)
    assert first.status == second.status == 201
    assert first.body["id"] == second.body["id"]
    other = shop.ask("POST", "/pooled/orders", order, idempotency_key=str(uuid.uuid4()))
    assert other.body["id"] != first.body["id"]


def test_a_bad_body_is_refused_by_pooled_and_stored_by_naive(shop: Shop) -> None:
    bad = {"customer_id": 5, "lines": [{"product_id": 3, "quantity": -4}]}
    refused = shop.ask("POST", "/pooled/orders", bad)
    assert refused.status == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.body["errors"][0]["pointer"] == "#/lines/0/quantity"
    stored = shop.ask("POST", "/naive/orders", bad)
    assert stored.status == 201
    assert shop.ask("GET", f"/naive/orders/{stored.body['id']}").body["lines"][0]["quantity"] == -4


def test_the_invoke_api_answers_as_lambda_does(shop: Shop) -> None:
    answer = shop.client().invoke(FunctionName="Pooled", Payload=json.dumps(product_event(42)), LogType="Tail")
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert json.loads(json.loads(answer["Payload"].read())["body"])["id"] == 42


def product_event(product_id: int) -> dict[str, Any]:
    key = "GET /pooled/products/{id}"
    http_context = {
        "method": "GET",
        "path": f"/pooled/products/{product_id}",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "t",
    }
    return {
        "version": "2.0",
        "routeKey": key,
        "rawPath": f"/pooled/products/{product_id}",
        "rawQueryString": "",
        "headers": {},
        "pathParameters": {"id": str(product_id)},
        "requestContext": {
            "http": http_context,
            "requestId": "r",
            "routeKey": key,
            "stage": "$default",
            "timeEpoch": 0,
        },
        "isBase64Encoded": False,
    }


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    queue = [pid]
    while queue:
        parent = queue.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                children = {int(child) for child in task.read_text().split()}
                queue += children - found
                found |= children
    return found


def commands(pids: set[int]) -> dict[int, str]:
    running = {}
    for pid in pids:
        with suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                running[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return running


@pytest.mark.slow
def test_a_killed_benchmark_leaves_nothing_running(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "warmfront",
            "bench",
            "--quick",
            "--only",
            "product",
            "-o",
            str(tmp_path / "r.json"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        wait_for_blocks(process)
        children = commands(descendants(process.pid))
        assert any("postgres" in command for command in children.values())
        assert any("valkey-server" in command for command in children.values())
        assert any("bootstrap.py" in command for command in children.values())
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
    deadline = time.monotonic() + 2.0
    while (left := commands(set(children))) and time.monotonic() < deadline:
        time.sleep(0.02)  # the condition is another process's end, and those are not our children to wait for
    assert left == {}


def wait_for_blocks(process: "subprocess.Popen[str]") -> None:
    """Read progress until the first timed blocks run: servers and environments are all there then."""
    assert process.stderr is not None
    said = ""
    while "blocks of each variant" not in said:
        chunk = process.stderr.read(1)
        assert chunk, f"the benchmark ended early:\n{said}"
        said += chunk
