"""A declared URL keeps its driver, database and options when it is pointed at the local server."""

import json
import shutil
import urllib.request
from pathlib import Path

import pytest
from warmfront.emulator.local_urls import database_url, redis_url

from tests.emulator.serving import serve

PG = "postgresql://app:pw@127.0.0.1:5499"


@pytest.mark.parametrize(
    ("declared", "expected", "dropped"),
    [
        ("postgresql://u:p@db:5432/shop", f"{PG}/shop", []),
        ("postgres://db/shop", "postgres://app:pw@127.0.0.1:5499/shop", []),
        ("postgresql+asyncpg://u@db/shop", "postgresql+asyncpg://app:pw@127.0.0.1:5499/shop", []),
        ("postgresql://db/shop?statement_cache_size=0&x=", f"{PG}/shop?statement_cache_size=0&x=", []),
        ("postgresql://db/shop?options=-c%20search_path%3Da", f"{PG}/shop?options=-c%20search_path%3Da", []),
        ("postgresql://db/shop?ssl=require&a=1", f"{PG}/shop?a=1", ["ssl=require"]),
        (
            "postgresql://db/shop?sslmode=verify-full&sslrootcert=/x",
            f"{PG}/shop",
            ["sslmode=verify-full", "sslrootcert=/x"],
        ),
        ("postgresql://db/shop?sslmode=prefer", f"{PG}/shop?sslmode=prefer", []),
        ("postgresql:///shop?host=/var/run&port=1&user=me", f"{PG}/shop", []),
        ("postgresql://?dbname=shop", f"{PG}/shop", []),
        ("postgresql://db", f"{PG}/postgres", []),
        ("", f"{PG}/postgres", []),
        ("mysql://db/shop", f"{PG}/shop", []),
    ],
)
def test_a_database_url(declared: str, expected: str, dropped: list[str]) -> None:
    assert database_url(declared, lambda name: f"{PG}/{name}") == (expected, dropped)


@pytest.mark.parametrize(
    ("declared", "expected", "dropped"),
    [
        ("redis://cache:6379", "redis://:pw@127.0.0.1:6399/0", []),
        ("redis://u:p@cache:6379/3?max_connections=2", "redis://:pw@127.0.0.1:6399/3?max_connections=2", []),
        ("rediss://cache:6379/1", "redis://:pw@127.0.0.1:6399/1", ["rediss"]),
        (
            "rediss://cache?ssl_cert_reqs=none&health_check_interval=5",
            "redis://:pw@127.0.0.1:6399/0?health_check_interval=5",
            ["rediss", "ssl_cert_reqs=none"],
        ),
    ],
)
def test_a_redis_url(declared: str, expected: str, dropped: list[str]) -> None:
    assert redis_url(declared, lambda name: f"redis://:pw@127.0.0.1:6399/{name or 0}") == (expected, dropped)


def test_the_options_of_a_server_of_the_callers_own_win() -> None:
    url, _ = database_url(
        "postgresql+asyncpg://db/shop?sslmode=disable&a=1", lambda name: f"{PG}/{name}?sslmode=require"
    )
    assert url == "postgresql+asyncpg://app:pw@127.0.0.1:5499/shop?a=1&sslmode=require"
    url, _ = redis_url("redis://cache?a=1", lambda _: "rediss://other:1/0?ssl_cert_reqs=none")
    assert url == "rediss://other:1/0?a=1&ssl_cert_reqs=none"


def test_a_handler_gets_them_and_the_terminal_says_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import asyncio, asyncpg, json, os\n"
        "async def where():\n"
        "    connection = await asyncpg.connect(os.environ['DATABASE_URL'].replace('+asyncpg', '').partition('?')[0])\n"
        "    return await connection.fetchval('SELECT current_database()')\n"
        "def handler(event, context):\n"
        "    found = [os.environ['DATABASE_URL'], os.environ['REDIS_URL'], asyncio.run(where())]\n"
        "    return {'statusCode': 200, 'body': json.dumps(found)}\n"
    )
    (tmp_path / "requirements.txt").write_text("asyncpg\n")
    (tmp_path / "template.yaml").write_text(
        """Transform: AWS::Serverless-2016-10-31
Resources:
  Urls:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: .
      Timeout: 20
      Environment:
        Variables:
          DATABASE_URL: postgresql+asyncpg://app:secret@db.internal/shop?ssl=require&prepared_statement_cache_size=0
          REDIS_URL: rediss://cache.internal:6379/2?ssl_cert_reqs=none&max_connections=3
      Events: {Get: {Type: HttpApi, Properties: {Path: /urls, Method: GET}}}
"""
    )
    with serve(tmp_path / "template.yaml") as served:
        with urllib.request.urlopen(served.url + "/urls", timeout=30) as answer:
            database, cache, connected_to = json.load(answer)
        assert connected_to == "shop", "the database is there although nobody has made it"
        assert database.startswith("postgresql+asyncpg://app:")
        assert "@127.0.0.1:" in database
        assert database.endswith("/shop?prepared_statement_cache_size=0")
        assert cache.startswith("redis://")
        assert cache.endswith("/2?max_connections=3")
        assert served.wait_for("DATABASE_URL: ssl=require left out for Urls")
        assert served.wait_for("REDIS_URL: rediss, ssl_cert_reqs=none left out for Urls")
    shutil.rmtree(tmp_path / ".warmfront", ignore_errors=True)
