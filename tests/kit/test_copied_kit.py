"""docs/kit.md: the kit copied into another project as the page says, with the page's handler in front of a real Postgres."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from warmfront.backing.postgres import Postgres

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kit.md").read_text(encoding="utf-8")
TABLES = re.findall(r"    (CREATE (?:TABLE|INDEX).*?;)\n", (ROOT / "shared/kit/idempotency.py").read_text(), flags=re.S)
CALLS = """
import asyncio, json, os, sys, asyncpg
from types import SimpleNamespace
import handler
from kit import environment

async def prepare():
    connection = await asyncpg.connect(os.environ["ADMIN_URL"])
    await connection.execute("CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY, text text)")
    for statement in json.loads(os.environ["TABLES"]):
        await connection.execute(statement)
    await connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
    await connection.close()

def call(route, **event):
    event = {"routeKey": route, "requestContext": {}, "rawPath": "/notes"} | event
    context = SimpleNamespace(aws_request_id="1", function_name="f", memory_limit_in_mb=1, invoked_function_arn="a",
                              get_remaining_time_in_millis=lambda: 10_000)
    answer = handler.handler(event, context)
    return [answer["statusCode"], json.loads(answer["body"])]

asyncio.run(prepare())
key = {"headers": {"idempotency-key": "k"}, "body": "hello"}
answers = [call("POST /notes", **key), call("POST /notes", **key), call("POST /notes", body="hello")]
answers += [call("GET /notes/{id}", pathParameters={"id": number}) for number in ("1", "2")]
environment.reset()
print(json.dumps([answers, sorted(name for name in sys.modules if name.startswith("shared"))]))
"""


def handler() -> str:
    found = re.search(r"<!-- handler -->\n```python\n(.*?)```", PAGE, flags=re.S)
    assert found is not None
    return found[1]


def copied(folder: Path) -> None:
    """As the page says."""
    commands = re.search(r"```sh\n(.*?)```", PAGE[PAGE.index("## Copy it") :], flags=re.S)
    assert commands is not None
    shutil.copytree(ROOT / "shared", folder / "shared", ignore=shutil.ignore_patterns("shop", "__pycache__"))
    subprocess.run(["sh", "-e", "-c", commands[1]], cwd=folder, check=True)
    shutil.rmtree(folder / "shared")
    (folder / "handler.py").write_text(handler())


def test_the_copied_kit_serves_the_pages_handler(tmp_path: Path) -> None:
    copied(tmp_path)
    with Postgres.start({"PATH": os.environ["PATH"]}, origin="wheel") as server:
        environ = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": server.url("postgres"),
            "ADMIN_URL": server.admin_url("postgres"),
            "TABLES": json.dumps(TABLES),
        }
        command = [sys.executable, "-c", CALLS]
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    answers, foreign = json.loads(done.stdout.splitlines()[-1])
    note = {"id": 1, "text": "hello"}
    assert answers[:2] == [[201, note], [201, note]]
    assert (answers[2][0], answers[2][1]["type"]) == (400, "urn:warmfront:problem:idempotency-key-required")
    assert answers[3] == [200, note]
    assert answers[4][0] == 404
    assert foreign == []


def test_the_pages_handler_is_short() -> None:
    lines = [line for line in handler().splitlines() if line.strip()]
    assert len(lines) <= 34


@pytest.mark.parametrize("path", sorted((ROOT / "shared" / "kit").glob("*.py")), ids=lambda path: path.stem)
def test_the_kit_has_no_noun_of_the_shop(path: Path) -> None:
    text: Any = path.read_text(encoding="utf-8")
    assert not re.search(r"SHOP_|shared\.shop|\b(shops?|products?|catalog|customers?)\b", text, flags=re.I)
