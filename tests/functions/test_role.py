"""Migrate makes the restricted role of the handlers: it logs in with its secret's password, changes rows and no tables."""

import asyncio
import base64
import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import boto3
import pytest
from warmfront.backing.aws import Aws
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis

from functions.migrate.role import RoleRefused, scram_verifier
from shared.kit import environment
from tests.functions.conftest import ORDERS, PRODUCTS, Function, load, shop_environ
from tests.functions.test_relay import AWS_ENVIRON

ROLE, SECRET = "restricted", "shop/restricted"
DATABASES = ("kept_naive", "kept_pooled", "kept_distributed")
SEED = {"action": "seed", "databases": list(DATABASES), "products": PRODUCTS, "orders": ORDERS}


class Account:
    """A played Secrets Manager with the role's secret, over a real server."""

    def __init__(self, aws: Aws, server: Postgres) -> None:
        self.aws, self.server = aws, server
        keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": "eu-central-1"}
        self._manager = boto3.client("secretsmanager", endpoint_url=aws.endpoint_url, **keys)
        self._manager.create_secret(Name=SECRET, SecretString="{}")

    def put(self, password: str, username: str = ROLE) -> None:
        text = json.dumps({"username": username, "password": password})
        self._manager.put_secret_value(SecretId=SECRET, SecretString=text)

    def migrate(self, **more: str) -> Function:
        environ = shop_environ(self.server, "postgres") | AWS_ENVIRON
        environ |= {"DATABASE_URL": self.server.admin_url("postgres"), "AWS_ENDPOINT_URL": self.aws.endpoint_url}
        environ |= {"SHOP_DB_ROLE": ROLE, "SHOP_DB_ROLE_SECRET": SECRET, "SHOP_DB_LOOK_UP_TIMEOUT_MS": "10000"}
        return load("migrate", "functions.migrate.app", environ | {"NO_PROXY": "127.0.0.1"} | more)

    def url(self, database: str, password: str) -> str:
        parts = urlsplit(self.server.url(database))
        return parts._replace(netloc=f"{ROLE}:{password}@{parts.hostname}:{parts.port}").geturl()

    def ask(self, url: str, sql: str) -> Any:
        async def fetch() -> Any:
            connection = await asyncpg.connect(url)
            try:
                return await connection.fetchval(sql)
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def close(self) -> None:
        self._manager.delete_secret(SecretId=SECRET, ForceDeleteWithoutRecovery=True)
        admin = self.server.admin_url()
        for name in DATABASES:
            self.ask(admin, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.ask(admin, f"DROP ROLE IF EXISTS {ROLE}")


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with Aws.start() as aws:
        yield aws


@pytest.fixture
def account(aws: Aws, server: Postgres, migrate: Function) -> Iterator[Account]:
    del migrate  # has made the template
    account = Account(aws, server)
    yield account
    environment.reset()
    account.close()


def test_every_variant_works_as_the_restricted_role(account: Account, server: Postgres, redis: Redis) -> None:
    account.put("first-password")
    assert account.migrate().invoke(SEED)["role"] == {"name": ROLE, "made": True}
    environment.reset()
    for variant, database in zip(("naive", "pooled", "distributed"), DATABASES, strict=True):
        environ = shop_environ(server, database) | {"DATABASE_URL": account.url(database, "first-password")}
        function = load(variant, f"functions.{variant}.app", environ | {"REDIS_URL": redis.url()})
        assert function.get("/products/1").status == 200
        assert function.get("/orders/1").status == 200
        body = {"customer_id": 1, "lines": [{"product_id": 1, "quantity": 1}]}
        assert function.request("POST", "/orders", body=body, headers={"idempotency-key": "one"}).status == 201
        change = function.request("PATCH", "/products/2", body={"stock": 3}, headers={"if-match": "*"})
        assert change.status == 200, change.text
        environment.reset()


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE mine (id int)",
        "ALTER TABLE products ADD COLUMN more int",
        "DROP TABLE orders",
        "TRUNCATE order_lines",
        "DELETE FROM schema_steps",
        "CREATE ROLE another",
        "CREATE DATABASE another",
    ],
)
def test_the_restricted_role_may_change_rows_and_nothing_else(account: Account, sql: str) -> None:
    account.put("its-password")
    account.migrate().invoke(SEED)
    environment.reset()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        account.ask(account.url("kept_pooled", "its-password"), sql)


def test_a_changed_secret_counts_after_the_next_apply_and_the_old_password_no_longer(account: Account) -> None:
    account.put("before")
    account.migrate().invoke({"action": "apply", "databases": ["kept_pooled"]})
    environment.reset()
    account.put("after")
    report = account.migrate().invoke({"action": "apply", "databases": ["kept_pooled"]})
    assert report["role"] == {"name": ROLE, "made": False}
    assert account.ask(account.url("kept_pooled", "after"), "SELECT 1") == 1
    with pytest.raises(asyncpg.InvalidPasswordError):
        account.ask(account.url("kept_pooled", "before"), "SELECT 1")


def test_by_secret_the_role_has_no_time_outs_of_its_own_and_by_iam_it_has_and_no_password(account: Account) -> None:
    settings = f"SELECT coalesce(array_to_string(rolconfig, ' '), '') FROM pg_roles WHERE rolname = '{ROLE}'"
    password = f"SELECT rolpassword FROM pg_authid WHERE rolname = '{ROLE}'"
    event = {"action": "apply", "databases": ["kept_pooled"]}
    account.migrate(SHOP_DB_ROLE_SECRET="", SHOP_STATEMENT_TIMEOUT_MS="1234").invoke(event)
    assert "statement_timeout=1234" in account.ask(account.server.admin_url(), settings)
    assert account.ask(account.server.admin_url(), password) is None
    account.put("its-password")
    account.migrate().invoke(event)
    assert account.ask(account.server.admin_url(), settings) == ""
    assert account.ask(account.server.admin_url(), password).startswith("SCRAM-SHA-256$4096:")


def test_on_rds_the_role_is_let_in_by_iam_or_by_password_and_never_by_both(account: Account) -> None:
    """RDS refuses the password of a member of rds_iam."""
    admin = account.server.admin_url()
    member = f"SELECT pg_has_role('{ROLE}', 'rds_iam', 'member')"
    event = {"action": "apply", "databases": ["kept_pooled"]}
    account.ask(admin, "CREATE ROLE rds_iam")
    try:
        account.migrate(SHOP_DB_ROLE_SECRET="").invoke(event)
        assert account.ask(admin, member) is True
        account.put("its-password")
        account.migrate().invoke(event)
        assert account.ask(admin, member) is False
        account.migrate(SHOP_DB_ROLE_SECRET="").invoke(event)
        assert account.ask(admin, member) is True
    finally:
        account.ask(admin, "DROP ROLE rds_iam")


@pytest.mark.parametrize(
    ("secret", "error"),
    [
        ({"password": "right", "username": "somebody"}, "must have the username 'restricted'"),
        ({"password": "päßwort"}, "must be ASCII"),
        ({"password": ""}, "must be ASCII and not empty"),
    ],
)
def test_a_secret_that_does_not_fit_is_refused(account: Account, secret: dict[str, str], error: str) -> None:
    account.put(**secret)
    with pytest.raises(Exception, match=error):
        account.migrate().invoke({"action": "apply", "databases": ["kept_pooled"]})


def test_the_role_that_migrates_is_not_the_handlers(account: Account) -> None:
    admin = urlsplit(account.server.admin_url()).username
    assert admin
    with pytest.raises(RoleRefused, match="the login that migrates"):
        account.migrate(SHOP_DB_ROLE=admin, SHOP_DB_ROLE_SECRET="").invoke(
            {"action": "apply", "databases": ["kept_pooled"]}
        )


def test_a_verifier_holds_nothing_of_the_password_and_differs_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter" not in scram_verifier("hunter")
    assert scram_verifier("hunter") != scram_verifier("hunter")
    # RFC 7677's example: user "user", password "pencil".
    salt = "W22ZaJ0SNY7soEsUEjb6gQ=="
    monkeypatch.setattr(os, "urandom", lambda _: base64.b64decode(salt))
    stored = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
    server = "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    assert scram_verifier("pencil") == f"SCRAM-SHA-256$4096:{salt}${stored}:{server}"
