"""The local AWS: real clients use it, and nothing of it is left afterwards."""

import importlib.metadata
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from warmfront.backing import ports
from warmfront.backing.aws import Aws
from warmfront.backing.errors import BackingError

from .conftest import gone_or_killed, identities


@pytest.fixture(scope="module")
def aws(environ: Mapping[str, str]) -> Iterator[Aws]:
    with Aws.start(environ) as server:
        yield server


def client(aws: Aws, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=aws.endpoint_url,
        region_name="eu-central-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(proxies={}, retries={"total_max_attempts": 1}, read_timeout=30),
    )


def test_a_queue_passes_a_message_on(aws: Aws) -> None:
    sqs = client(aws, "sqs")
    url = sqs.create_queue(QueueName="orders")["QueueUrl"]
    assert url.startswith(aws.endpoint_url)
    sqs.send_message(QueueUrl=url, MessageBody="an order")
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert message["Body"] == "an order"


def test_a_secret_is_kept(aws: Aws) -> None:
    secrets = client(aws, "secretsmanager")
    arn = secrets.create_secret(Name="database", SecretString="hunter2")["ARN"]
    assert secrets.get_secret_value(SecretId=arn)["SecretString"] == "hunter2"


def test_it_says_what_it_is(aws: Aws) -> None:
    version = importlib.metadata.version("moto")
    assert aws.describe() == {"origin": "moto", "version": version, "pid": aws.pid, "port": aws.port}


def test_no_real_credentials_reach_it(aws: Aws) -> None:
    environment = dict(
        line.split("=", 1) for line in Path(f"/proc/{aws.pid}/environ").read_text().split("\0") if "=" in line
    )
    assert environment["AWS_SECRET_ACCESS_KEY"] == "local"
    assert "HOME" not in environment


def test_it_forgets_stops_and_takes_another_port_when_it_loses_one(
    environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        offers = iter([taken.getsockname()[1], ports.free_port()])
        monkeypatch.setattr(ports, "free_port", lambda _pick: next(offers))
        server = Aws.start(environ)
        assert server.port != taken.getsockname()[1]
    assert server.pid is not None
    ids = identities(server.pid)
    assert client(server, "sqs").list_queues().get("QueueUrls", []) == []
    server.stop()
    server.stop()
    assert gone_or_killed(ids, 0)
    assert server.pid is None


def test_without_moto_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    with pytest.raises(BackingError, match=r"moto is not installed; run `pip install 'moto\[server\]'`"):
        Aws.start({})
