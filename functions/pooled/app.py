"""The shop as it should be: what is dear is kept between invocations, and every wait has an end. Knows no SQL."""

from shared.kit import cursor, environment
from shared.kit.endpoint import Request, Response, endpoint, json
from shared.kit.idempotency import Claim
from shared.kit.postgres import Database
from shared.kit.problems import VersionRequired
from shared.shop import catalog, contract, orders, settings
from shared.shop.contract import ProductPage, encode

SETTINGS = settings.current()  # at init: a wrong setting must not wait for the first customer


def database() -> Database:
    return environment.keep(open_database)


def open_database() -> Database:
    return Database(SETTINGS)


async def get_product(request: Request) -> Response:
    product = await database().read(request.deadline, catalog.product, contract.resource_id(request.id))
    headers = {"etag": contract.etag(product.version), "cache-control": "no-cache"}
    if contract.none_match(request.headers.get("if-none-match"), headers["etag"]):
        return Response(304, headers=headers)
    return json(200, product, headers)


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
    document = await database().read(request.deadline, orders.order, contract.resource_id(request.id))
    return Response(200, document)


async def place_order(request: Request) -> Response:
    order = contract.new_order(request.body)
    key = contract.idempotency_key(request.headers.get("idempotency-key"))
    claim = Claim.of(request.scope, key, encode(order), ttl_h=SETTINGS.idempotency_ttl_h)
    # With a key it is safe to ask again after a broken connection: the key knows whether it was done.
    attempt = database().write if key is None else database().read
    answer = await attempt(request.deadline, orders.place, claim, order)
    headers = {"location": f"{request.path}/{answer.resource}"}
    if answer.replayed:
        headers["idempotent-replayed"] = "true"
    return Response(answer.status, answer.body, headers)


async def update_product(request: Request) -> Response:
    product_id = contract.resource_id(request.id)
    change = contract.product_change(request.body)
    if (if_match := request.headers.get("if-match")) is None:
        raise VersionRequired("Send the ETag that the change is based on; `*` changes whatever is there.")
    product = await database().write(request.deadline, catalog.change, product_id, contract.versions(if_match), change)
    return json(200, product, {"etag": contract.etag(product.version)})


async def describe(request: Request) -> Response:
    del request
    return environment.keep(description)


def description() -> Response:
    from shared.shop import openapi  # for the first who asks, and for no cold start

    return json(200, openapi.document("/pooled", SETTINGS, cached=False), {"cache-control": "public, max-age=3600"})


handler = endpoint(
    {
        "GET /pooled/products/{id}": get_product,
        "GET /pooled/products": list_products,
        "GET /pooled/orders/{id}": get_order,
        "POST /pooled/orders": place_order,
        "PATCH /pooled/products/{id}": update_product,
        "GET /pooled/openapi.json": describe,
    },
    run=environment.run,
    reserve_ms=SETTINGS.deadline_reserve_ms,
    body_max_bytes=SETTINGS.body_max_bytes,
    server_timing=SETTINGS.server_timing == "on",
)
