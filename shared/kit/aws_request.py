"""Signed requests to AWS without a boto3 client: botocore signs and sends, and no service model is read.

`import boto3` and a client of Secrets Manager take 180 ms of CPU of a cold start, the parts of botocore used here 62. For
one operation that has no pagination, retries or waiters of its own, nothing else of a client is needed.
"""

import os
from functools import cache
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ContainerProvider, CredentialResolver, EnvProvider
from botocore.exceptions import NoCredentialsError, NoRegionError
from botocore.httpsession import URLLib3Session

JSON = "application/x-amz-json-1.1"


class ServiceError(Exception):
    """The service refused. `code` is the name of its error, such as AccessDeniedException."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class JsonService:
    """A service with the AWS JSON protocol, such as Secrets Manager ("secretsmanager").

    The endpoint is AWS_ENDPOINT_URL_name, AWS_ENDPOINT_URL, or the service's own in AWS_REGION. Timeouts in seconds, of
    connecting and of waiting for the answer. Blocks; one thread at a time.
    """

    def __init__(self, name: str, *, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._name = name
        self._session = URLLib3Session(
            verify=os.environ.get("AWS_CA_BUNDLE") or True, timeout=(connect_timeout_s, read_timeout_s)
        )

    def call(self, operation: str, parameters: dict[str, str]) -> dict[str, Any]:
        """The operation's result. Raises ServiceError, and botocore's BotoCoreError if there was no answer."""
        headers = {"Content-Type": JSON, "X-Amz-Target": f"{self._name}.{operation}"}
        request = AWSRequest("POST", endpoint(self._name), headers=headers, data=msgspec.json.encode(parameters))
        SigV4Auth(_credentials(), self._name, region()).add_auth(request)
        response = self._session.send(request.prepare())
        try:
            answer: dict[str, Any] = msgspec.json.decode(response.content, type=dict[str, Any])
        except msgspec.MsgspecError:
            raise ServiceError(f"HTTP {response.status_code}") from None
        if response.status_code != 200:
            raise ServiceError(str(answer.get("__type", f"HTTP {response.status_code}")).rpartition("#")[2])
        return answer


def database_token(host: str, port: int, user: str) -> str:
    """A password for IAM authentication of RDS, valid for 15 minutes; made without asking anybody.

    docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.html
    """
    url = f"https://{host}:{port}/?{urlencode({'Action': 'connect', 'DBUser': user})}"
    request = AWSRequest("GET", url)
    SigV4QueryAuth(_credentials(), "rds-db", region(), expires=900).add_auth(request)
    token: str = request.url.removeprefix("https://")
    return token


def region() -> str:
    name = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not name:
        raise NoRegionError
    return name


def endpoint(service: str) -> str:
    """The address of a service. docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html"""
    own = os.environ.get(f"AWS_ENDPOINT_URL_{SERVICE_IDS[service]}") or os.environ.get("AWS_ENDPOINT_URL")
    if own:
        return own if urlsplit(own).path else f"{own}/"
    suffix = "amazonaws.com.cn" if region().startswith("cn-") else "amazonaws.com"
    return f"https://{service}.{region()}.{suffix}/"


SERVICE_IDS = {"secretsmanager": "SECRETS_MANAGER"}


def _credentials() -> Any:
    """Of the execution role: in the environment's variables, and under SnapStart from a local address, renewed."""
    credentials = _resolved()
    if credentials is None:
        _resolved.cache_clear()
        raise NoCredentialsError
    return credentials


@cache
def _resolved() -> Any:
    return CredentialResolver([EnvProvider(), ContainerProvider()]).load_credentials()
