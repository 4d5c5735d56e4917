"""A declared URL keeps its driver, database and options when it is pointed at the local server."""

import json
import shutil
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from warmfront.emulator.function_variables import local_variables, url_warnings
from warmfront.emulator.local_urls import database_name, database_url, redis_url
from warmfront.emulator.template import load_template

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
        ("{{resolve:secretsmanager:db:SecretString:url}}", f"{PG}/postgres", []),
        ("postgresql://u:{{resolve:ssm:pw}}@db/{{resolve:ssm:name}}", f"{PG}/postgres", []),
        ("postgresql://u:{{resolve:ssm:pw}}@db/shop", f"{PG}/shop", []),
        ("host=db dbname=shop", f"{PG}/postgres", []),
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
        ("{{resolve:secretsmanager:cache}}", "redis://:pw@127.0.0.1:6399/0", []),
        ("redis://cache/{{resolve:ssm:number}}", "redis://:pw@127.0.0.1:6399/0", []),
    ],
)
def test_a_redis_url(declared: str, expected: str, dropped: list[str]) -> None:
    assert redis_url(declared, lambda name: f"redis://:pw@127.0.0.1:6399/{name or 0}") == (expected, dropped)


@pytest.mark.parametrize(
    ("name", "server", "schemes"),
    [
        ("DATABASE_URL", "Postgres", ["mysql", "jdbc:postgresql", "sqlite"]),
        ("REDIS_URL", "Redis", ["unix", "redis+cluster", "valkeys", "memcached"]),
    ],
)
def test_the_address_of_another_kind_of_server_is_left_as_written_with_a_warning(
    tmp_path: Path, name: str, server: str, schemes: list[str]
) -> None:
    functions = "".join(
        f"  F{i}:\n    Type: AWS::Serverless::Function\n    Properties:\n      Runtime: python3.13\n      Handler: app.handler\n"
        f"      Environment: {{Variables: {{{name}: '{scheme}://u:p@h/db'}}}}\n"
        for i, scheme in enumerate(schemes)
    )
    (tmp_path / "template.yaml").write_text(
        f"Transform: AWS::Serverless-2016-10-31\nGlobals: {{Function: {{CodeUri: .}}}}\nResources:\n{functions}"
    )
    template = load_template(tmp_path / "template.yaml")
    running = SimpleNamespace(url=lambda database: f"local://{database}")
    backing: Any = SimpleNamespace(postgres=running, redis=running)
    for config, scheme in zip(template.functions.values(), schemes, strict=True):
        assert local_variables(config, backing, [], None)[name] == f"{scheme}://u:p@h/db"
    assert url_warnings(template, backing) == [
        f"{name}: a {scheme}:// address is left as written for F{i}: the local {server} cannot stand in for it"
        for i, scheme in enumerate(schemes)
    ]
    if name == "DATABASE_URL":
        assert {database_name(config.environment[name]) for config in template.functions.values()} == {"postgres"}


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
        "def legacy(event, context):\n"
        "    return {'statusCode': 200, 'body': json.dumps([os.environ['DATABASE_URL'], os.environ['REDIS_URL']])}\n"
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
  Legacy:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.legacy
      CodeUri: .
      Environment: {Variables: {DATABASE_URL: "mysql://app@db.internal/shop", REDIS_URL: "{{resolve:secretsmanager:cache}}"}}
      Events: {Get: {Type: HttpApi, Properties: {Path: /legacy, Method: GET}}}
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
        with urllib.request.urlopen(served.url + "/legacy", timeout=30) as answer:
            database, cache = json.load(answer)
        assert database == "mysql://app@db.internal/shop"
        assert cache.startswith("redis://")
        assert "resolve" not in cache
        assert served.wait_for("DATABASE_URL: a mysql:// address is left as written for Legacy")
    shutil.rmtree(tmp_path / ".warmfront", ignore_errors=True)
