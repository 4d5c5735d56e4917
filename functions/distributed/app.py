"""The shop behind a cache that may fail, its orders told to the world once they are committed. Knows no SQL."""

from collections.abc import Mapping
from typing import Any

from shared.kit import cache, cursor, environment
from shared.kit.cache import Cache
from shared.kit.endpoint import Request, Response, endpoint, json
from shared.kit.idempotency import Claim
from shared.kit.postgres import Database
from shared.kit.problems import VersionMismatch, VersionRequired
from shared.kit.redis import Redis
from shared.shop import catalog, contract, orders, settings
from shared.shop.contract import ProductPage, encode

SETTINGS = settings.current()  # at init: a wrong setting must not wait for the first customer
PLACED = 1  # the only version of an order: once placed it does not change


def database() -> Database:
    return environment.keep(open_database)


def open_database() -> Database:
    return Database(SETTINGS)


def copies() -> Cache:
    return environment.keep(open_cache)


def open_cache() -> Cache:
    return cache.open_cache(SETTINGS, redis())


def redis() -> Redis:
    return environment.keep(open_redis)


def open_redis() -> Redis:
    return Redis(settings.redis(SETTINGS))


redis()  # at init: imports redis-py, checks the URL and makes the TLS context; connects with the first request


def limiter() -> Any:
    return environment.keep(open_limiter)


def open_limiter() -> Any:
    from shared.kit.limiter import Limiter  # only where there is a limit

    return Limiter(SETTINGS, redis(), cache.namespace_of(SETTINGS.database_url))


async def admit(request: Request) -> Mapping[str, str]:
    admitted: Mapping[str, str] = await limiter().admit(request.deadline, request.client)
    return admitted


async def get_product(request: Request) -> Response:
    product_id = contract.resource_id(request.id)

    async def load() -> tuple[int, str]:
        product = await database().read(request.deadline, catalog.product, product_id)
        return product.version, encode(product).decode()

    found = await copies().read(request.deadline, f"product:{product_id}", load)
    headers = {"etag": contract.etag(found.version), "cache-control": "no-cache", "cache-status": found.status}
    if contract.none_match(request.headers.get("if-none-match"), headers["etag"]):
        return Response(304, headers=headers)
    return Response(200, found.text, headers)


async def list_products(request: Request) -> Response:
    limit = contract.page_limit(
        request.query.get("limit"), default=SETTINGS.page_limit_default, at_most=SETTINGS.page_limit_max
    )
    sealed = request.query.get("cursor")
    after_id = 0 if sealed is None else cursor.open_sealed("products", sealed, SETTINGS.cursor_key)
    products, more = await database().read(request.deadline, catalog.page, after_id, limit)
    following = cursor.seal("products", products[-1].id, SETTINGS.cursor_key) if more else None
    return json(200, ProductPage(products, following))


async def get_order(request: Request) -> Response:
    order_id = contract.resource_id(request.id)

    async def load() -> tuple[int, str]:
        return PLACED, await database().read(request.deadline, orders.order, order_id)

    found = await copies().read(request.deadline, f"order:{order_id}", load)
    return Response(200, found.text, {"cache-status": found.status})


async def place_order(request: Request) -> Response:
    order = contract.new_order(request.body)
    key = contract.idempotency_key(request.headers.get("idempotency-key"))
    claim = Claim.of(request.scope, key, encode(order), ttl_h=SETTINGS.idempotency_ttl_h)
    # With a key it is safe to ask again after a broken connection: the key knows whether it was done.
    attempt = database().write if key is None else database().read
    answer, versions = await attempt(request.deadline, orders.place_and_tell, claim, order)
    outdated = {f"product:{product_id}": version for product_id, version in versions.items()}
    # The order too: somebody may have asked for its number before it was there.
    await copies().invalidate({f"order:{answer.resource}": PLACED, **outdated})
    headers = {"location": f"{request.path}/{answer.resource}"}
    if answer.replayed:
        headers["idempotent-replayed"] = "true"
    return Response(answer.status, answer.body, headers)


async def update_product(request: Request) -> Response:
    product_id = contract.resource_id(request.id)
    change = contract.product_change(request.body)
    if (if_match := request.headers.get("if-match")) is None:
        raise VersionRequired("Send the ETag that the change is based on; `*` changes whatever is there.")
    try:
        product = await database().write(
            request.deadline, catalog.change, product_id, contract.versions(if_match), change
        )
    except VersionMismatch as mismatch:
        # Its ETag may have come from a copy that nobody managed to invalidate; the next read must not give it again.
        await copies().invalidate({f"product:{product_id}": mismatch.version})
        raise
    await copies().invalidate({f"product:{product_id}": product.version})
    return json(200, product, {"etag": contract.etag(product.version)})


async def describe(request: Request) -> Response:
    del request
    return environment.keep(description)


def description() -> Response:
    from shared.shop import openapi  # for the first who asks, and for no cold start

    return json(200, openapi.document("/distributed", SETTINGS, cached=True), {"cache-control": "public, max-age=3600"})


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
    body_max_bytes=SETTINGS.body_max_bytes,
    admit=admit if SETTINGS.rate_limit else None,
    server_timing=SETTINGS.server_timing == "on",
)
