"""The database's password changes while requests come in: played Secrets Manager, real Postgres, and nobody gets a 5xx."""

import asyncio
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import boto3
import pytest
from warmfront.backing.aws import Aws
from warmfront.backing.postgres import Postgres

from shared.kit import environment
from tests.functions.conftest import Function, Reply, load, shop_environ
from tests.functions.test_relay import AWS_ENVIRON
from tests.functions.test_survival import terminate_backends

ROLE = "rotated"
SECRET = "shop/database"


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with Aws.start() as aws:
        yield aws


@pytest.fixture
def manager(aws: Aws) -> Any:
    return boto3.client(
        "secretsmanager",
        endpoint_url=aws.endpoint_url,
        region_name="eu-central-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


class Secret:
    """A secret with the login of one role, and the steps of its rotation as AWS's rotation functions take them."""

    def __init__(self, manager: Any, server: Postgres) -> None:
        self._manager, self._server = manager, server
        self.passwords = [secrets.token_urlsafe(24)]
        self._execute(f"CREATE ROLE {ROLE} LOGIN IN ROLE app PASSWORD '{self.passwords[0]}'")
        manager.create_secret(Name=SECRET, SecretString=self._text())

    def set_in_database(self) -> None:
        self.passwords.append(secrets.token_urlsafe(24))
        self._manager.put_secret_value(SecretId=SECRET, SecretString=self._text(), VersionStages=["AWSPENDING"])
        self._execute(f"ALTER ROLE {ROLE} PASSWORD '{self.passwords[-1]}'")

    def make_current(self) -> None:
        versions = self._manager.describe_secret(SecretId=SECRET)["VersionIdsToStages"]
        by_stage = {stage: version for version, stages in versions.items() for stage in stages}
        self._manager.update_secret_version_stage(
            SecretId=SECRET,
            VersionStage="AWSCURRENT",
            MoveToVersionId=by_stage["AWSPENDING"],
            RemoveFromVersionId=by_stage["AWSCURRENT"],
        )
        self._manager.update_secret_version_stage(
            SecretId=SECRET, VersionStage="AWSPENDING", RemoveFromVersionId=by_stage["AWSPENDING"]
        )

    def close(self) -> None:
        self._manager.delete_secret(SecretId=SECRET, ForceDeleteWithoutRecovery=True)
        self._execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")

    def _text(self) -> str:
        return json.dumps({"username": ROLE, "password": self.passwords[-1], "engine": "postgres"})

    def _execute(self, sql: str) -> None:
        async def execute() -> None:
            admin = await asyncpg.connect(self._server.admin_url())
            await admin.execute(sql)
            await admin.close()

        asyncio.run(execute())


@pytest.fixture
def secret(manager: Any, server: Postgres, migrate: Function) -> Iterator[Secret]:
    migrate.invoke({"action": "reset", "databases": ["pooled"]})
    secret = Secret(manager, server)
    yield secret
    environment.reset()
    terminate_backends(server, "pooled")
    secret.close()


@pytest.fixture
def with_secret(server: Postgres, aws: Aws, secret: Secret) -> Callable[..., Function]:
    """The pooled function with an address that names nobody."""
    del secret

    def make(**settings: str) -> Function:
        parts = urlsplit(server.url("pooled"))
        url = parts._replace(netloc=f"{parts.hostname}:{parts.port}").geturl()
        environ = shop_environ(server, "pooled") | AWS_ENVIRON
        environ |= {"DATABASE_URL": url, "AWS_ENDPOINT_URL": aws.endpoint_url, "NO_PROXY": "127.0.0.1"}
        environ |= {"SHOP_DB_LOGIN": "secret", "SHOP_DB_SECRET": SECRET, "SHOP_DB_LOOK_UP_TIMEOUT_MS": "10000"}
        return load("pooled", "functions.pooled.app", environ | settings)

    return make


def test_who_to_be_is_looked_up_once(with_secret: Callable[..., Function], server: Postgres) -> None:
    pooled = with_secret()
    assert pooled.get("/products/1").status == 200
    terminate_backends(server, "pooled")
    silent = Function(pooled.name, pooled.module, {**pooled.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert silent.get("/products/1").status == 200


@pytest.mark.parametrize("labels", ["moved", "not moved yet"])
def test_a_connection_after_a_rotation_is_made_with_the_new_password(
    with_secret: Callable[..., Function], secret: Secret, server: Postgres, labels: str
) -> None:
    pooled = with_secret()
    assert pooled.get("/products/1").status == 200
    secret.set_in_database()
    assert pooled.get("/products/1").status == 200  # by the connection that there is: nobody asks it for a password
    if labels == "moved":
        secret.make_current()
    assert terminate_backends(server, "pooled") == 1
    body = {"customer_id": 1, "lines": [{"product_id": 1, "quantity": 1}]}
    assert pooled.request("POST", "/orders", body=body).status == 201


def test_a_secret_rotated_under_load_costs_no_request(
    with_secret: Callable[..., Function], secret: Secret, server: Postgres
) -> None:
    """Three rotations; after each, every open connection ends, so that the next request has to log in."""
    pooled = with_secret()
    assert pooled.get("/products/1").status == 200
    replies: list[Reply] = []
    enough, progress = threading.Event(), threading.Condition()

    def ask() -> None:
        while not enough.is_set():
            reply = pooled.get(f"/products/{1 + len(replies) % 100}")
            with progress:
                replies.append(reply)
                progress.notify_all()

    def more(count: int) -> None:
        with progress:
            wanted = len(replies) + count
            assert progress.wait_for(lambda: len(replies) >= wanted, timeout=30)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(3):
            secret.set_in_database()
            terminate_backends(server, "pooled")
            more(20)
            secret.make_current()
            terminate_backends(server, "pooled")
            more(20)
    finally:
        enough.set()
        asking.join()
    assert len(replies) >= 120
    assert {reply.status for reply in replies} == {200}


def test_a_password_that_is_wrong_everywhere_is_a_503_and_told_to_nobody(
    with_secret: Callable[..., Function],
    secret: Secret,
    manager: Any,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager.put_secret_value(SecretId=SECRET, SecretString=json.dumps({"username": ROLE, "password": "known-to-us"}))
    pooled = with_secret()
    reply = pooled.get("/products/1")
    assert (reply.status, reply.json["type"]) == (503, "urn:warmfront:problem:unavailable")
    assert "InvalidPasswordError" in {vars(record).get("error_type") for record in caplog.records}
    told = reply.text + capsys.readouterr().out + "".join(str(vars(record)) for record in caplog.records)
    for hidden in ("known-to-us", *secret.passwords, ROLE, SECRET):
        assert hidden not in told


def test_without_secrets_manager_a_request_fails_within_its_bound(with_secret: Callable[..., Function]) -> None:
    unreachable = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "SHOP_DB_LOOK_UP_TIMEOUT_MS": "300"}
    reply = with_secret(**unreachable).get("/products/1")
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
