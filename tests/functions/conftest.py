"""One Postgres with a small seed for all these tests, and each function as Lambda would call it, in this process."""

import importlib.util
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis

from shared.kit import environment
from shared.shop import settings

PRODUCTS, ORDERS = 300, 300
VARIANTS = ("naive", "pooled", "distributed")
GOLDEN = Path(__file__).parent / "golden"
CURSOR_KEY = "only-for-these-tests"


class Context:
    """Lambda's context, as far as anybody here looks at it."""

    function_name = "Shop"
    function_version = "$LATEST"
    memory_limit_in_mb = "1024"

    def __init__(self, remaining_ms: int = 10_000) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self.invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:Shop"
        self.remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Function:
    """One function with its own environment variables, in an environment of its own."""

    name: str
    module: ModuleType
    environ: Mapping[str, str]

    def invoke(self, event: dict[str, Any], context: Context | None = None) -> Any:
        with environ(self.environ):
            return self.module.handler(event, context or Context())

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        context: Context | None = None,
    ) -> Reply:
        """Each POST with a key of its own, unless the headers have one."""
        own = {"idempotency-key": str(uuid.uuid4())} if method == "POST" else {}
        event = payload(method, f"/{self.name}{path}", body=body, headers=own | dict(headers or {}), query=query or {})
        result = self.invoke(event, context)
        assert result["isBase64Encoded"] is False
        return Reply(result["statusCode"], result["headers"], result["body"])

    def get(self, path: str, **options: Any) -> Reply:
        return self.request("GET", path, **options)


def payload(
    method: str, path: str, *, body: Any, headers: Mapping[str, str], query: Mapping[str, str]
) -> dict[str, Any]:
    """The golden event of its kind, with this request in it: payload format 2.0 as API Gateway sends it."""
    event: dict[str, Any] = json.loads((GOLDEN / "http_api_v2.json").read_text())
    segments = path.strip("/").split("/")
    parameters = {"id": segments[2]} if len(segments) > 2 else None
    template = "/" + "/".join([*segments[:2], *(["{id}"] if parameters else [])])
    event["routeKey"] = event["requestContext"]["routeKey"] = f"{method} {template}"
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    event["requestContext"]["http"]["method"] = method
    event["headers"] |= headers
    if parameters:
        event["pathParameters"] = parameters
    if query:
        event["queryStringParameters"] = dict(query)
        event["rawQueryString"] = "&".join(f"{name}={value}" for name, value in query.items())
    if body is not None:
        event["body"] = body if isinstance(body, str) else json.dumps(body)
    return event


@contextmanager
def environ(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def load(name: str, module: str, values: Mapping[str, str]) -> Function:
    """Imported as an init does it, once more for each: settings are read once, from this environment."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    with environ(values):
        settings.current.cache_clear()
        spec.loader.exec_module(loaded)
        settings.current.cache_clear()
    return Function(name, loaded, values)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with Postgres.start({"PATH": os.environ["PATH"]}, origin="wheel") as postgres:
        yield postgres


@pytest.fixture(scope="session")
def migrate(server: Postgres, redis: Redis) -> Iterator[Function]:
    environ = shop_environ(server, "postgres") | {"REDIS_URL": redis.url()}
    function = load("migrate", "functions.migrate.app", environ)
    event = {"action": "seed", "databases": list(VARIANTS), "products": PRODUCTS, "orders": ORDERS}
    function.invoke(event)
    yield function
    environment.reset()


@pytest.fixture
def naive(server: Postgres, migrate: Function) -> Function:
    migrate.invoke({"action": "reset", "databases": ["naive"]})
    return load("naive", "functions.naive.app", shop_environ(server, "naive"))


@pytest.fixture
def pooled(server: Postgres, migrate: Function) -> Iterator[Function]:
    migrate.invoke({"action": "reset", "databases": ["pooled"]})
    yield load("pooled", "functions.pooled.app", shop_environ(server, "pooled"))
    environment.reset()


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    with Redis.start({}, origin="wheel") as redis:
        yield redis


@pytest.fixture
def distributed(server: Postgres, redis: Redis, migrate: Function) -> Iterator[Function]:
    migrate.invoke({"action": "reset", "databases": ["distributed"]})
    yield load("distributed", "functions.distributed.app", distributed_environ(server, redis))
    environment.reset()


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Function:
    function: Function = request.getfixturevalue(request.param)
    return function


def shop_environ(server: Postgres, database: str) -> dict[str, str]:
    return {"DATABASE_URL": server.url(database), "SHOP_CURSOR_KEY": CURSOR_KEY, "SHOP_DB_SSL": "disable"}


def distributed_environ(server: Postgres, redis: Redis) -> dict[str, str]:
    return shop_environ(server, "distributed") | {"REDIS_URL": redis.url()}
