"""Signed requests to AWS without boto3: signature version 4, one HTTP request, and the credentials of the function.

`import boto3` and a client of Secrets Manager take 180 ms of CPU of a cold start, botocore's signer alone 60 to 90; this
takes 10. For one operation without pagination, nothing else of a client is needed. Proxies are not supported.
"""

import hmac
import json
import os
import ssl
import time
from collections.abc import Callable
from datetime import datetime
from functools import cache
from hashlib import sha256
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
RENEW_S = 300.0  # before credentials end


class Protocol(NamedTuple):
    """How a service spells its operations (the service models of botocore: targetPrefix, jsonVersion, serviceId)."""

    target: str
    content_type: str
    service_id: str  # as it stands in AWS_ENDPOINT_URL_...


PROTOCOLS = {
    "secretsmanager": Protocol("secretsmanager", "application/x-amz-json-1.1", "SECRETS_MANAGER"),
    "sqs": Protocol("AmazonSQS", "application/x-amz-json-1.0", "SQS"),
}


class ServiceError(Exception):
    """The service refused. `code` is the name of its error, such as AccessDeniedException."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NoAnswer(Exception):
    """The service could not be asked: no connection, no answer in time, no region or no credentials."""


class Credentials(NamedTuple):
    key_id: str
    secret: str
    token: str
    renew_at_s: float  # by time.time

    def __repr__(self) -> str:
        return "Credentials(...)"


class JsonService:
    """A service with the AWS JSON protocol: one of PROTOCOLS.

    The endpoint is AWS_ENDPOINT_URL_name, AWS_ENDPOINT_URL, or the service's own in AWS_REGION. Timeouts in seconds, of
    connecting and of each wait for the answer. Blocks; one thread at a time. The TLS context is made with the object,
    since that takes longer than connecting.
    """

    def __init__(
        self, name: str, *, connect_timeout_s: float, read_timeout_s: float, keep_connection: bool = False
    ) -> None:
        self._name = name
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._keep_connection = keep_connection
        self._connection: HTTPConnection | None = None
        _tls_context()

    def call(self, operation: str, parameters: dict[str, str]) -> dict[str, Any]:
        """The operation's result. Sent twice if a kept connection turns out to have ended. Raises ServiceError or NoAnswer."""
        protocol = PROTOCOLS[self._name]
        body = json.dumps(parameters).encode()
        headers = {"content-type": protocol.content_type, "x-amz-target": f"{protocol.target}.{operation}"}
        url = endpoint(self._name)
        headers |= signed_headers("POST", url, headers, body, service=self._name)
        status, content = self._exchange(url, headers, body)
        try:
            answer = json.loads(content)
        except ValueError:
            raise ServiceError(f"HTTP {status}") from None
        if status != 200 or not isinstance(answer, dict):
            kind = answer.get("__type") if isinstance(answer, dict) else None
            raise ServiceError(str(kind or f"HTTP {status}").rpartition("#")[2])
        return answer

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        kept, self._connection = self._connection, None
        for connection in (kept, self._opened(url)):
            if connection is None:
                continue
            try:
                if connection is not kept:
                    connection.connect()
                    connection.sock.settimeout(self._read_timeout_s)
                connection.request("POST", urlsplit(url).path or "/", body, headers)
                response = connection.getresponse()
                status, content = response.status, response.read()
            except (OSError, HTTPException) as error:
                connection.close()
                if connection is kept and not isinstance(error, TimeoutError):
                    continue
                raise NoAnswer(type(error).__name__) from error
            if self._keep_connection and connection.sock is not None:  # None: the server wants it closed
                self._connection = connection
            else:
                connection.close()
            return status, content
        raise AssertionError("unreachable")

    def _opened(self, url: str) -> HTTPConnection:
        """Connects when it is first used."""
        parts = urlsplit(url)
        host, port, timeout = parts.hostname or "", parts.port, self._connect_timeout_s
        if parts.scheme == "https":
            return HTTPSConnection(host, port, timeout=timeout, context=_tls_context())
        return HTTPConnection(host, port, timeout=timeout)


@cache
def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)


def database_token(host: str, port: int, user: str, *, now: Callable[[], float] = time.time) -> str:
    """A password for IAM authentication of RDS, valid for 15 minutes; made without asking anybody. Raises NoAnswer.

    docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.html
    """
    credentials, stamp, in_region = current_credentials(), _stamp(now()), region()
    query = {
        "Action": "connect",
        "DBUser": user,
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{credentials.key_id}/{_scope(stamp, in_region, 'rds-db')}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": "900",
        "X-Amz-SignedHeaders": "host",
        **({"X-Amz-Security-Token": credentials.token} if credentials.token else {}),
    }
    pairs = [f"{name}={quote(value, safe='')}" for name, value in query.items()]
    nothing = sha256(b"").hexdigest()
    canonical = f"GET\n/\n{'&'.join(sorted(pairs))}\nhost:{host}:{port}\n\nhost\n{nothing}"
    signature = _signature(credentials, canonical, stamp, in_region, "rds-db")
    return f"{host}:{port}/?{'&'.join(pairs)}&X-Amz-Signature={signature}"


def signed_headers(
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    *,
    service: str,
    now: Callable[[], float] = time.time,
) -> dict[str, str]:
    """The headers to add to a request without a query; `headers` are all others, with names in lower case.

    docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    credentials, stamp, in_region, parts = current_credentials(), _stamp(now()), region(), urlsplit(url)
    added = {"host": parts.netloc, "x-amz-date": stamp}
    if credentials.token:
        added["x-amz-security-token"] = credentials.token
    lines = sorted(f"{name}:{value}" for name, value in (headers | added).items())
    names = ";".join(sorted(headers | added))
    canonical = f"{method}\n{parts.path or '/'}\n\n{chr(10).join(lines)}\n\n{names}\n{sha256(body).hexdigest()}"
    signature = _signature(credentials, canonical, stamp, in_region, service)
    credential = f"{credentials.key_id}/{_scope(stamp, in_region, service)}"
    added["authorization"] = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return added


def _signature(credentials: Credentials, canonical: str, stamp: str, in_region: str, service: str) -> str:
    digest = sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret}".encode()
    for part in (stamp[:8], in_region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"{ALGORITHM}\n{stamp}\n{_scope(stamp, in_region, service)}\n{digest}"
    return hmac.digest(key, text.encode(), "sha256").hex()


def _scope(stamp: str, in_region: str, service: str) -> str:
    return f"{stamp[:8]}/{in_region}/{service}/aws4_request"


def _stamp(now_s: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))


def region() -> str:
    """AWS_REGION, which Lambda sets. Raises NoAnswer."""
    name = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not name:
        raise NoAnswer("AWS_REGION is not set")
    return name


def endpoint(service: str) -> str:
    """The address of a service. docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html"""
    own = os.environ.get(f"AWS_ENDPOINT_URL_{PROTOCOLS[service].service_id}") or os.environ.get("AWS_ENDPOINT_URL")
    if own:
        return own if urlsplit(own).path else f"{own}/"
    suffix = "amazonaws.com.cn" if region().startswith("cn-") else "amazonaws.com"
    return f"https://{service}.{region()}.{suffix}/"


_lent: Credentials | None = None


def current_credentials() -> Credentials:
    """Those of the function's role. Raises NoAnswer.

    Lambda puts them into variables, except under SnapStart: there they come from a local address, and end
    (docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html).
    """
    global _lent
    if address := os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        if _lent is None or _lent.renew_at_s <= time.time():
            _lent = _borrowed(address)
        return _lent
    key_id, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not key_id or not secret:
        raise NoAnswer("no credentials in the environment")
    return Credentials(key_id, secret, os.environ.get("AWS_SESSION_TOKEN", ""), float("inf"))


def _borrowed(address: str) -> Credentials:
    parts = urlsplit(address)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=1.0)
    try:
        headers = {"Authorization": os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")}
        connection.request("GET", parts.path or "/", headers=headers)
        given = json.loads(connection.getresponse().read())
        ends_s = datetime.fromisoformat(given["Expiration"]).timestamp()
        return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given.get("Token", ""), ends_s - RENEW_S)
    except (OSError, HTTPException, ValueError, KeyError) as error:
        raise NoAnswer(f"no credentials: {type(error).__name__}") from error
    finally:
        connection.close()
