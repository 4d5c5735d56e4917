"""Requests to AWS without boto3: signed as botocore signs, sent where a setting says, refused by name."""

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Theirs

from shared.kit import aws_request
from shared.kit.aws_request import JsonService, NoAnswer, ServiceError, database_token, endpoint, signed_headers


@pytest.fixture(autouse=True)
def in_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER",
        "AWS_PROFILE",
        "AWS_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIALOCAL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token/+=")
    monkeypatch.setattr(aws_request, "_lent", None)


class Answering(BaseHTTPRequestHandler):
    answers: ClassVar[list[tuple[int, bytes]]] = []
    seen: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        status, answer = self.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815 - the names are http.server's

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Answering.answers.clear()
    Answering.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{listening.server_address[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield url
        listening.shutdown()


def service() -> JsonService:
    return JsonService("secretsmanager", connect_timeout_s=5, read_timeout_s=5)


def test_a_database_token_is_the_one_that_boto3_makes() -> None:
    where = {"DBHostname": "db.example.eu-central-1.rds.amazonaws.com", "Port": 5432, "DBUsername": "app user"}
    for _ in range(5):  # until both are of the same second
        ours = database_token(where["DBHostname"], where["Port"], where["DBUsername"])  # type: ignore[arg-type]
        theirs = boto3.session.Session(region_name="eu-central-1").client("rds").generate_db_auth_token(**where)
        if parse_qs(ours)["X-Amz-Date"] == parse_qs(theirs)["X-Amz-Date"]:
            break
    assert ours == theirs


@pytest.mark.parametrize("token", ["", "token/+="])
@pytest.mark.parametrize("url", ["https://secretsmanager.eu-central-1.amazonaws.com/", "http://127.0.0.1:4566/a/b"])
def test_a_signature_is_the_one_that_botocore_makes(url: str, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    headers, body = (
        {"content-type": "application/x-amz-json-1.1", "x-amz-target": "secretsmanager.GetSecretValue"},
        b'{"a": 1}',
    )
    for _ in range(5):  # until both are of the same second
        ours = signed_headers("POST", url, headers, body, service="secretsmanager")
        request = AWSRequest("POST", url, headers=headers, data=body)
        SigV4Auth(Theirs("AKIALOCAL", "secret", token or None), "secretsmanager", "eu-central-1").add_auth(request)
        if ours["x-amz-date"] == request.headers["X-Amz-Date"]:
            break
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours.get("x-amz-security-token", "") == token


@pytest.mark.usefixtures("server")
def test_a_request_names_its_operation_and_carries_a_signature() -> None:
    Answering.answers.append((200, b'{"SecretString": "x"}'))
    assert service().call("GetSecretValue", {"SecretId": "shop/database"}) == {"SecretString": "x"}
    ((path, headers, body),) = Answering.seen
    assert (path, headers["x-amz-target"]) == ("/", "secretsmanager.GetSecretValue")
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIALOCAL/")
    assert "/eu-central-1/secretsmanager/aws4_request" in headers["authorization"]
    assert headers["x-amz-security-token"] == "token/+="
    assert json.loads(body) == {"SecretId": "shop/database"}


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (400, b'{"__type": "ResourceNotFoundException", "Message": "about it"}', "ResourceNotFoundException"),
        (400, b'{"__type": "com.amazonaws.secretsmanager#DecryptionFailure"}', "DecryptionFailure"),
        (500, b"{}", "HTTP 500"),
        (503, b"<html>", "HTTP 503"),
        (200, b"[]", "HTTP 200"),
    ],
)
def test_a_refusal_has_the_name_that_the_service_gave_it(status: int, answer: bytes, code: str) -> None:
    Answering.answers.append((status, answer))
    with pytest.raises(ServiceError) as refused:
        service().call("GetSecretValue", {"SecretId": "shop/database"})
    assert refused.value.code == code


def test_a_service_that_does_not_answer_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(NoAnswer):
        service().call("GetSecretValue", {"SecretId": "shop/database"})


def test_under_snapstart_credentials_come_from_the_address_that_lambda_gives(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html: no credentials in variables of the snapshot."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(NoAnswer, match="no credentials"):
        service().call("GetSecretValue", {"SecretId": "x"})
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server}/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let me in")
    given = {"AccessKeyId": "AKIAGIVEN", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}
    Answering.answers += [(200, json.dumps(given).encode()), (200, b"{}")]
    service().call("GetSecretValue", {"SecretId": "x"})
    (asked, sent) = Answering.seen
    assert (asked[0], asked[1]["authorization"]) == ("/credentials", "let me in")
    assert "Credential=AKIAGIVEN/" in sent[1]["authorization"]


@pytest.mark.parametrize(("ends_in_s", "asked"), [(3_600, 1), (60, 2)])
def test_credentials_that_are_about_to_end_are_renewed(
    server: str, monkeypatch: pytest.MonkeyPatch, ends_in_s: int, asked: int
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server}/credentials")
    ends = (datetime.now(UTC) + timedelta(seconds=ends_in_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    given = {"AccessKeyId": "AKIAGIVEN", "SecretAccessKey": "s", "Token": "t", "Expiration": ends}
    Answering.answers += [(200, json.dumps(given).encode())] * 2
    assert [aws_request.current_credentials().key_id for _ in range(2)] == ["AKIAGIVEN"] * 2
    assert len(Answering.seen) == asked


@pytest.mark.usefixtures("server")
def test_a_connection_is_kept_and_one_that_ended_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answering, "protocol_version", "HTTP/1.1")
    Answering.answers += [(200, b"{}")] * 4
    sqs = JsonService("sqs", connect_timeout_s=5, read_timeout_s=5, keep_connection=True)
    sqs.call("SendMessage", {})
    kept = sqs._connection
    sqs.call("SendMessage", {})
    assert kept is not None
    assert sqs._connection is kept
    kept.sock.shutdown(socket.SHUT_RDWR)  # as a server does with what lay idle
    sqs.call("SendMessage", {})
    assert sqs._connection is not kept
    sqs.close()
    assert [seen[1]["x-amz-target"] for seen in Answering.seen] == ["AmazonSQS.SendMessage"] * 3


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "https://secretsmanager.eu-central-1.amazonaws.com/"),
        ({"AWS_REGION": "cn-north-1"}, "https://secretsmanager.cn-north-1.amazonaws.com.cn/"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}, "http://127.0.0.1:4566/"),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://b/c"}, "http://b/c"),
    ],
)
def test_the_endpoint_is_the_settings_or_the_regions(
    variables: dict[str, str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert endpoint("secretsmanager") == address
