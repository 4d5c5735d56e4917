"""The shop behind a cache that may fail, with an event in the outbox for each order."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from shared.kit import cursor, environment
from shared.kit.cache import Cache, RedisStore
from shared.kit.endpoint import Request, Response, endpoint, json
from shared.kit.idempotency import Claim
from shared.kit.postgres import Database
from shared.kit.problems import VersionMismatch, VersionRequired
from shared.kit.redis import Redis
from shared.kit.requests import encode, etag, idempotency_key, if_match_versions, none_match
from shared.shop import catalog, contract, orders, settings
from shared.shop.contract import ProductPage

SETTINGS = settings.current()  # at init: a wrong setting must not wait for the first customer
PLACED = 1  # the only version of an order: once placed it does not change


@environment.resource
def database() -> Database:
    return Database(SETTINGS.postgres)


@environment.resource
def redis() -> Redis:
    return Redis(SETTINGS.required_redis())


redis()  # at init: imports redis-py, checks the URL and makes the TLS context; connects with the first request


@environment.resource
def copies() -> Cache:
    return Cache(SETTINGS.cache, RedisStore(redis(), SETTINGS.namespace_of(SETTINGS.database)))


@environment.resource
def limiter() -> Any:
    from shared.kit.limiter import Limiter  # only where there is a limit

    assert SETTINGS.limiter is not None
    return Limiter(SETTINGS.limiter, redis(), SETTINGS.namespace_of(SETTINGS.database))


@environment.resource
def nudge() -> Any:
    from shared.kit.nudge import Nudge  # only where orders wake the relay

    assert SETTINGS.nudge_queue_url is not None
    return Nudge(SETTINGS.nudge_queue_url)


if SETTINGS.nudge_queue_url is not None:
    nudge()  # at init: imports an HTTP client and makes its TLS context


async def admit(request: Request) -> Mapping[str, str]:
    admitted: Mapping[str, str] = await limiter().admit(request.deadline, request.client)
    return admitted


async def get_product(request: Request) -> Response:
    product_id = contract.resource_id(request.parameters["id"])

    async def load() -> tuple[int, str]:
        product = await database().run_idempotent(request.deadline, catalog.product, product_id)
        return product.version, encode(product).decode()

    found = await copies().read(request.deadline, f"product:{product_id}", load)
    headers = {"etag": etag(found.version), "cache-control": "no-cache", "cache-status": found.status}
    if none_match(request.headers.get("if-none-match"), headers["etag"]):
        return Response(304, headers=headers)
    return Response(200, found.text, headers)


async def list_products(request: Request) -> Response:
    limit = contract.page_limit(request.query.get("limit"))
    sealed = request.query.get("cursor")
    after_id = 0 if sealed is None else cursor.open_sealed("products", sealed, SETTINGS.cursor_key)
    products, more = await database().run_idempotent(request.deadline, catalog.page, after_id, limit)
    following = cursor.seal("products", products[-1].id, SETTINGS.cursor_key) if more else None
    return json(200, ProductPage(products, following))


def order_key(subject: str, order_id: int | str) -> str:
    """The key of one subject's copy: other subjects look under keys of their own, and find none."""
    return f"order:{order_id}:{sha256(subject.encode()).hexdigest()[:32]}"


async def get_order(request: Request) -> Response:
    order_id = contract.resource_id(request.parameters["id"])

    async def load() -> tuple[int, str]:
        return PLACED, await database().run_idempotent(request.deadline, orders.order, order_id, request.subject)

    found = await copies().read(request.deadline, order_key(request.subject, order_id), load)
    return Response(200, found.text, {"cache-status": found.status})


async def place_order(request: Request) -> Response:
    order = contract.new_order(request.body)
    key = idempotency_key(request.headers.get("idempotency-key"))
    claim = Claim.of(request.idempotency_scope, key, encode(order), ttl_h=orders.KEEP_ANSWERS_H)
    answer, versions = await database().run_with_key(
        request.deadline, orders.place_with_event, claim, request.subject, order
    )
    outdated = {f"product:{product_id}": version for product_id, version in versions.items()}
    # The order too: its number may have been asked for, and not found, before it was placed.
    await copies().invalidate({order_key(request.subject, answer.resource): PLACED, **outdated})
    if SETTINGS.nudge_queue_url is not None and not answer.replayed:
        await nudge().send(request.deadline)
    headers = {"location": f"{request.path}/{answer.resource}"}
    if answer.replayed:
        headers["idempotent-replayed"] = "true"
    return Response(answer.status, answer.body, headers)


async def update_product(request: Request) -> Response:
    request.require_scope(contract.WRITE_PRODUCTS)
    product_id = contract.resource_id(request.parameters["id"])
    change = contract.product_change(request.body)
    if (if_match := request.headers.get("if-match")) is None:
        raise VersionRequired("Send the ETag that the change is based on; `*` changes whatever is there.")
    try:
        product = await database().run_once(
            request.deadline, catalog.change, product_id, if_match_versions(if_match), change
        )
    except VersionMismatch as mismatch:
        # The client's ETag may be from a copy that could not be invalidated; the next read must not return it again.
        await copies().invalidate({f"product:{product_id}": mismatch.version})
        raise
    await copies().invalidate({f"product:{product_id}": product.version})
    return json(200, product, {"etag": etag(product.version)})


async def describe(request: Request) -> Response:
    del request
    return description()


@environment.resource
def description() -> Response:
    from shared.shop import openapi  # for the first who asks, and for no cold start

    return json(200, openapi.document("/distributed", cached=True), {"cache-control": "public, max-age=3600"})


handler = endpoint(
    {
        "GET /distributed/products/{id}": get_product,
        "GET /distributed/products": list_products,
        "GET /distributed/orders/{id}": get_order,
        "POST /distributed/orders": place_order,
        "PATCH /distributed/products/{id}": update_product,
        "GET /distributed/openapi.json": describe,
    },
    run=environment.run,
    reserve_ms=SETTINGS.deadline_reserve_ms,
    body_max_bytes=contract.BODY_MAX_BYTES,
    admit=admit if SETTINGS.limiter else None,
    server_timing=SETTINGS.server_timing,
    local_identity=SETTINGS.local_identity,
)
